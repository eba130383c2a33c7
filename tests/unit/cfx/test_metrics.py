from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cfx import metrics
from cfx.metrics import Judges
from cfx.neighbourhood import Neighbourhoods
from cfx.result import LambdaPath, Result

NOWHERE = LambdaPath(**{name: np.zeros(0) for name in ("row", "step", "x", "lam", "probability", "cf_class", "l1")})


def result(x, cf_class, original_class, found=True):
    n = len(x)
    numbers = (
        "plausible",
        "anchor",
        "probability",
        "l1",
        "l2",
        "l0",
        "weighted_l1",
        "lam",
        "lam_init",
        "learning_rate",
        "iterations",
        "runtime_s",
    )
    return Result(
        method="wachter",
        x=np.asarray(x, np.float32),
        found=np.broadcast_to(found, n),
        unchanged=np.zeros(n, bool),
        cf_class=np.broadcast_to(cf_class, n),
        original_class=np.broadcast_to(original_class, n),
        target_class=np.full(n, "other"),
        instance=np.arange(n),
        place=np.ones(n, int),
        path=NOWHERE,
        **{name: np.ones(n) for name in numbers},
    )


def onto_axes(*axes):
    """Autoencoders with a code of one number: each keeps one feature of a table and forgets the others."""

    def reconstruct(x):
        kept = np.zeros((len(x), len(axes), *x.shape[1:]), x.dtype)
        for i, axis in enumerate(axes):
            kept[:, i, axis] = x[:, axis]
        return kept

    return reconstruct


def always(*labels, classes=2):
    """A committee whose members see one class each, whatever they are given."""
    return lambda x: np.tile(np.eye(classes)[list(labels)], (len(x), 1, 1))


def judges(autoencoders, committee, features=None):
    """Judges whose classes have no training instances, unless they get some on a line through the features."""
    x_train = np.zeros((0, 1)) if features is None else np.linspace(-0.5, 0.5, 21)[:, None] * np.ones(features)
    return Judges(autoencoders, committee, Neighbourhoods(x_train.astype(np.float32), np.ones(len(x_train), int)))


def judge(x, classes, original_classes, *members):
    x = np.asarray(x, np.float32)
    classes, original_classes = (np.broadcast_to(labels, len(x)) for labels in (classes, original_classes))
    return metrics.judge(x, classes, original_classes, judges(*members))


def test_the_measures_of_a_point_whose_reconstructions_are_known():
    # class 0 lies along the first feature, class 1 along the second, all data along the third, and so does what is kept
    # of noise
    row = judge([[3.0, 2.0, -1.0]], 1, 0, onto_axes(0, 1, 2, 2), always(1, 1, 0, 1)).iloc[0]
    # what the autoencoder of class 1 misses is 9 + 1, that of class 0 misses 4 + 1; 4 + 1 is between 1 and all
    assert row[["im1", "im2"]].tolist() == pytest.approx([10 / 5, 5 / 6])
    assert row["denoising_error"] == pytest.approx(np.sqrt((9 + 4) / 3))
    assert row[["agreement", "majority", "oracle"]].tolist() == [0.75, 1, 1]


def test_half_of_the_committee_is_no_majority():
    row = judge([[0.1, 0.2, 0.3]], 1, 0, onto_axes(0, 1, 2, 2), always(0, 1)).iloc[0]
    assert row[["agreement", "majority", "oracle"]].tolist() == [0.5, 0, 0]


def test_im1_falls_on_the_way_from_the_original_class_to_the_new_one():
    way = np.linspace(0, 1, 5)[:, np.newaxis]
    x = (1 - way) * [1, 0] + way * [0, 1]
    im1 = judge(x, 1, 0, onto_axes(0, 1, 1, 1), always(1))["im1"].to_numpy()
    assert (np.diff(im1) < 0).all() and im1[2] == pytest.approx(1) and im1[4] == pytest.approx(0)


def test_equal_autoencoders_tell_no_classes_apart():
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 4))
    measures = judge(x, 1, 0, onto_axes(2, 2, 2, 2), always(0))
    assert measures["im1"].to_numpy() == pytest.approx(np.ones(7), rel=1e-4)
    assert (measures["im2"] == 0).all() and (measures["agreement"] == 0).all()


def test_a_perfect_reconstruction_of_an_input_that_is_all_zero_stays_finite():
    row = judge(np.zeros((1, 3)), 1, 0, onto_axes(0, 1, 2, 2), always(1)).iloc[0]
    assert row[["im1", "im2", "denoising_error"]].tolist() == [0, 0, 0]


def test_what_was_not_found_has_no_measures_and_what_kept_its_class_no_im1():
    x = np.full((3, 2), 0.3, np.float32)
    given = replace(result(x, [1, 1, 1], [0, 0, 1], [True, False, True]), instance=np.zeros(3, int))
    of_all = replace(judges(onto_axes(0, 1, 1, 1), always(1), features=2), replicas=(lambda x: np.ones((len(x), 2)),))
    measures = metrics.measure(given, x, of_all, lambda x: np.ones((len(x), 2)))
    assert measures.columns.tolist() == list(metrics.MEASURES)
    missing = measures.drop(columns="components").isna()
    assert not missing.iloc[0].any() and missing.iloc[1].all()
    assert missing.columns[missing.iloc[2]].tolist() == ["im1"]


def test_images_are_judged_as_the_same_numbers_in_a_row():
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (5, 12)).astype(np.float32)
    flat = onto_axes(0, 1, 2, 0)
    as_images = judge(x.reshape(5, 2, 3, 2), 1, 0, lambda x: flat(x.reshape(-1, 12)).reshape(-1, 4, 2, 3, 2), always(1))
    pd.testing.assert_frame_equal(as_images, judge(x, 1, 0, flat, always(1)))


def test_every_row_is_judged_by_its_own_classes_however_many_there_are():
    rng = np.random.default_rng(2)
    x, classes = rng.uniform(-0.5, 0.5, (200, 3)), rng.permuted(np.tile([0, 1, 2], (200, 1)), axis=1)
    of_all = (onto_axes(0, 1, 2, 0, 1), always(2, 1, classes=3))
    whole = judge(x, classes[:, 0], classes[:, 1], *of_all)
    alone = [judge(x[[i]], classes[i, 0], classes[i, 1], *of_all) for i in range(200)]
    pd.testing.assert_frame_equal(whole, pd.concat(alone, ignore_index=True))
    assert whole["oracle"].tolist() == (classes[:, 0] == 2).tolist()


def test_a_change_has_as_many_components_as_regions_and_a_table_has_none():
    instances = np.zeros((3, 5, 5, 2), np.float32)
    x = instances.copy()
    # a diagonal stroke is one region, and a change that is too small to count is none
    x[0, [0, 1, 2], [0, 1, 2], 0] = 0.5
    x[1, 0, 0, 1] = x[1, 4, 4, 0] = x[1, 0, 4, 1] = -0.5
    x[2, 2, 2] = 1e-4
    assert metrics.components(x, instances).tolist() == [1, 3, 0]
    assert np.isnan(metrics.components(x.reshape(3, 50), instances.reshape(3, 50))).all()


def test_diversity_is_the_distance_to_the_other_counterfactuals_of_the_instance():
    x = np.array([[0, 0, 0], [0.5, 0, 0], [0, -0.25, 0.25], [0.1, 0.1, 0.1]], np.float32)
    l1, l0 = metrics.diversity(x, np.array([4, 4, 4, 7]))
    assert l1[:3] == pytest.approx([0.5, 0.75, 0.75]) and l0[:3].tolist() == [1.5, 2, 2.5]
    assert np.isnan([l1[3], l0[3]]).all()


def test_seed_stability_is_the_share_of_the_retrained_classifiers_that_keep_the_class():
    x = np.linspace(-0.5, 0.5, 3000, dtype=np.float32)[:, None]
    replicas = [lambda x, at=at: np.stack([x[:, 0] < at, x[:, 0] >= at], axis=1) for at in (-0.2, 0, 0.2, 0.6)]
    stable = metrics.seed_stability(x, np.ones(len(x), int), replicas)
    assert stable.tolist() == np.mean([x[:, 0] >= at for at in (-0.2, 0, 0.2, 0.6)], axis=0).tolist()
    assert np.isnan(metrics.seed_stability(x, np.ones(len(x), int), ())).all()


def test_what_lies_beside_the_boundary_is_not_stable_under_noise():
    def classifier(x):
        return np.stack([x[:, 0] < 0, x[:, 0] >= 0], axis=1)

    x = np.array([[0.5, 0], [0.0, 0], [-0.5, 0]], np.float32)
    stable = metrics.noise_stability(x, np.ones(3, int), classifier)
    assert stable[0] == 1 and 0 < stable[1] < 1 and stable[2] == 0

    # noise does not leave the range, which an input outside it widens for itself alone
    def outside(x):
        return np.stack([np.full(len(x), 0.5), np.abs(x).max(axis=1) > 0.5], axis=1)

    assert metrics.noise_stability(x, np.ones(3, int), outside).tolist() == [0, 0, 0]
    beside = np.concatenate([x, [[0.9, 0]]]).astype(np.float32)
    assert metrics.noise_stability(beside, np.ones(4, int), outside)[:3].tolist() == [0, 0, 0]
    assert metrics.noise_stability(beside, np.ones(4, int), outside)[3] == 1
    # whatever is measured beside it
    assert (
        metrics.noise_stability(np.repeat(x[1:2], 100, axis=0), np.ones(100, int), classifier).tolist()
        == [stable[1]] * 100
    )
