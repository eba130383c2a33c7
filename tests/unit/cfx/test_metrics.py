from dataclasses import replace

import numpy as np
import pytest

from cfx import metrics
from cfx.result import LambdaPath, Result

NOWHERE = LambdaPath(**{name: np.zeros(0) for name in ("row", "x", "lam", "probability", "cf_class", "l1")})


def result(x, cf_class, original_class, found=True):
    n = len(x)
    numbers = (
        "plausible",
        "anchor",
        "probability",
        "l1",
        "l2",
        "l0",
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


def always(label, classes=2):
    return lambda x: np.tile(np.eye(classes)[label], (len(x), 1))


def test_the_measures_of_a_point_whose_reconstructions_are_known():
    # class 0 lies along the first feature, class 1 along the second, all data (here) along the third
    measures = metrics.measure(result([[3.0, 2.0, -1.0]], 1, 0), onto_axes(0, 1, 2), always(1))
    assert measures.columns.tolist() == ["im1", "im2", "oracle"]
    # what the autoencoder of class 1 misses is 9 + 1, that of class 0 misses 4 + 1; 4 + 1 is between 1 and all
    assert measures.iloc[0].tolist() == pytest.approx([10 / 5, 5 / 6, 1])


def test_im1_falls_on_the_way_from_the_original_class_to_the_new_one():
    way = np.linspace(0, 1, 5)[:, np.newaxis]
    x = (1 - way) * [1, 0] + way * [0, 1]
    im1 = metrics.measure(result(x, 1, 0), onto_axes(0, 1, 1), always(1))["im1"].to_numpy()
    assert (np.diff(im1) < 0).all() and im1[2] == pytest.approx(1) and im1[4] == pytest.approx(0)


def test_equal_autoencoders_tell_no_classes_apart():
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (7, 4))
    measures = metrics.measure(result(x, 1, 0), onto_axes(2, 2, 2), always(0))
    assert measures["im1"].to_numpy() == pytest.approx(np.ones(7), rel=1e-4)
    assert (measures["im2"] == 0).all() and (measures["oracle"] == 0).all()


def test_a_perfect_reconstruction_of_an_input_that_is_all_zero_stays_finite():
    measures = metrics.measure(result(np.zeros((1, 3)), 1, 0), onto_axes(0, 1, 2), always(1))
    assert measures.iloc[0].tolist() == [0, 0, 1]


def test_what_was_not_found_has_no_measures_and_what_kept_its_class_no_im1():
    x = np.full((3, 2), 0.3)
    given = result(x, [1, 1, 0], [0, 0, 0], [True, False, True])
    missing = metrics.measure(given, onto_axes(0, 1, 1), always(1)).isna()
    assert missing.to_numpy().tolist() == [[False] * 3, [True] * 3, [True, False, False]]


def test_images_are_measured_as_the_same_numbers_in_a_row():
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (5, 12)).astype(np.float32)
    flat, given = onto_axes(0, 1, 2), result(x, 1, 0)
    as_images = replace(given, x=x.reshape(5, 2, 3, 2))
    measures = metrics.measure(as_images, lambda x: flat(x.reshape(-1, 12)).reshape(-1, 3, 2, 3, 2), always(1))
    assert measures.equals(metrics.measure(given, flat, always(1)))


def test_every_row_is_judged_by_its_own_classes_however_many_there_are():
    rng = np.random.default_rng(2)
    x, classes = rng.uniform(-0.5, 0.5, (200, 3)), rng.permuted(np.tile([0, 1, 2], (200, 1)), axis=1)
    autoencoders = onto_axes(0, 1, 2, 0)
    whole = metrics.measure(result(x, classes[:, 0], classes[:, 1]), autoencoders, always(2, 3))
    alone = [
        metrics.measure(result(x[[i]], classes[i, 0], classes[i, 1]), autoencoders, always(2, 3)) for i in range(200)
    ]
    assert np.array_equal(whole, np.concatenate(alone))
    assert whole["oracle"].tolist() == (classes[:, 0] == 2).tolist()
