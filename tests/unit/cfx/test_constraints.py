"""Constraints hold exactly for every method, and a mistake in them is one line."""

from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from cfx import (
    Constraints,
    GrowingSpheres,
    InputError,
    NearestNeighbour,
    PrimalDual,
    Prototype,
    Segment,
    Wachter,
    find_counterfactuals,
)
from tests.unit.cfx.networks import network

FEATURES, ROWS = 10, 12
# The features of the grid and of the category.
STEP, GRID, GROUP = 0.1, 6, [7, 8, 9]
METHODS = (
    PrimalDual(tol=0.3, max_iter=20),
    Wachter(tol=0.3, max_iter=30, max_lam_steps=3),
    GrowingSpheres(tol=0.3, draws=50),
    NearestNeighbour(tol=0.3),
    Segment(tol=0.3),
    Prototype(tol=0.3, max_iter=30),
)


@cache
def table(rows=ROWS, seed=0):
    """Instances with six continuous features, one on a grid, and a category of three."""
    random = np.random.default_rng(seed)
    x = (random.random((rows, FEATURES)) - 0.5).astype(np.float32)
    x[:, GRID] = (-0.5 + STEP * random.integers(0, 11, rows)).astype(np.float32)
    x[:, GROUP] = -0.5
    x[np.arange(rows), np.array(GROUP)[random.integers(0, 3, rows)]] = 0.5
    return x


@cache
def split():
    x = table(200, seed=1)
    return x, network(0, FEATURES, 3, 16)[0].predict(x, verbose=0).argmax(axis=1)


def found(method, **keywords):
    return find_counterfactuals(network(0, FEATURES, 3, 16)[0], table(), method, train=split(), **keywords)


subsets = st.lists(st.integers(0, 5), max_size=3, unique=True)
amounts = st.dictionaries(st.integers(0, 5), st.floats(0.0625, 0.75), max_size=2)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
# a failing example is not made smaller, which would take minutes
@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    immutable=subsets,
    increase=subsets,
    decrease=subsets,
    most_change=amounts,
    is_discrete=st.booleans(),
    scale=st.sampled_from(["unit", "mad", "inverse_range"]),
    mask=st.none() | st.lists(st.booleans(), min_size=FEATURES, max_size=FEATURES),
)
def test_no_result_breaks_a_constraint(method, immutable, increase, decrease, most_change, is_discrete, scale, mask):
    x = table()
    low, high = x[:, 3] - np.float32(0.25), x[:, 3] + np.float32(0.125)
    # feature 4 stays free, so that there always is one to change
    immutable, increase, decrease = ([f for f in chosen if f != 4] for chosen in (immutable, increase, decrease))
    decrease = [feature for feature in decrease if feature not in increase]
    mask = None if mask is None else np.array(mask) | (np.arange(FEATURES) == 4)
    rules = Constraints(
        immutable=immutable,
        increase=increase,
        decrease=decrease,
        ranges={3: (low, high)},
        most_change=most_change,
        steps={GRID: STEP} if is_discrete else {},
        groups=[GROUP] if is_discrete else [],
        mask=mask,
        scale=scale,
    )
    result = found(method, constraints=rules)
    change = result.x - x
    assert not change[:, immutable].any()
    assert (change[:, increase] >= 0).all() and (change[:, decrease] <= 0).all()
    assert ((result.x[:, 3] >= low) & (result.x[:, 3] <= high)).all()
    for feature, most in most_change.items():
        assert (np.abs(result.x[:, feature].astype(float) - x[:, feature]) <= most).all()
    if mask is not None:
        assert not change[:, ~mask].any()
    if is_discrete:
        steps = (result.x[:, GRID].astype(float) + 0.5) / STEP
        assert np.abs(steps - np.rint(steps)).max() < 1e-5
        assert (np.sort(result.x[:, GROUP], axis=1) == [-0.5, -0.5, 0.5]).all()
    weights = rules.weights(split()[0], (-0.5, 0.5))
    cost = np.abs(result.x.astype(float) - x) * (1 if weights is None else weights)
    assert result.weighted_l1 == pytest.approx(cost.sum(axis=1), rel=1e-5, abs=1e-6)


def test_constraints_that_allow_everything_change_nothing():
    plain, constrained = found(PrimalDual()), found(PrimalDual(), constraints=Constraints())
    assert plain.found.all() and (plain.x == constrained.x).all()


def test_discrete_features_cost_little():
    relaxed = found(PrimalDual(tol=0.3))
    exact = found(PrimalDual(tol=0.3), constraints=Constraints(steps={GRID: STEP}, groups=[GROUP]))
    assert exact.found.all()
    assert exact.l1.sum() < 1.6 * relaxed.l1.sum()


def test_a_costly_feature_changes_less():
    x = np.tile(table()[:1], (4, 1))
    costly = [0, 1, 2]
    train = x.repeat(50, axis=0) + np.random.default_rng(0).normal(0, 0.1, (200, FEATURES)).astype(np.float32)
    # a small deviation makes a change of a feature expensive
    train[:, costly] = x[0, costly] + (train[:, costly] - x[0, costly]) / 20
    model = network(0, FEATURES, 3, 16)[0]
    method = PrimalDual(target_class=(0, 1, 2, "other"), tol=0.3)
    shares = []
    for scale in ("unit", "mad"):
        result = find_counterfactuals(
            model,
            x,
            method,
            train=(np.clip(train, -0.5, 0.5), np.zeros(200, int)),
            constraints=Constraints(scale=scale),
        )
        change = np.abs(result.x - x)
        shares.append(change[:, costly].sum() / change.sum())
    assert shares[1] < shares[0] / 2


def test_count_gives_different_counterfactuals_the_nearest_first():
    one, several = found(PrimalDual(tol=0.3)), found(PrimalDual(tol=0.3, count=4))
    assert several.instance.tolist() == np.repeat(np.arange(ROWS), 4).tolist()
    assert several.place.tolist() == [1, 2, 3, 4] * ROWS
    first = several.take(np.arange(0, 4 * ROWS, 4))
    assert (first.l1 <= one.l1 + 1e-6).all()
    assert several.found.mean() > 0.9
    for start in range(0, 4 * ROWS, 4):
        rows = [row for row in range(start, start + 4) if several.found[row]]
        assert len({several.x[row].tobytes() for row in rows}) == len(rows)
        assert (several.l1[rows[1:]] >= several.l1[rows[0]]).all()
    assert (several.x[~several.found] == np.repeat(table(), 4, axis=0)[~several.found]).all()


def test_count_keeps_to_the_constraints():
    result = found(PrimalDual(tol=0.3, count=3), constraints=Constraints(immutable=[0, 1], groups=[GROUP]))
    instances = np.repeat(table(), 3, axis=0)
    assert (result.x[:, :2] == instances[:, :2]).all()
    assert (np.sort(result.x[:, GROUP], axis=1) == [-0.5, -0.5, 0.5]).all()


def of(**rules):
    return lambda: Constraints(**rules).region(table(), (-0.5, 0.5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of(immutable=[10]), "immutable: 10 is not a feature of an instance: give whole numbers from 0 to 9"),
        (of(increase=["age"]), "increase: 'age' is not a feature"),
        (of(increase=[1], decrease=[1]), "feature 1 is in increase and in decrease: use immutable"),
        (of(ranges={0: (0.3, 0.1)}), "ranges[0] must go from low to high"),
        (of(ranges={0: (0.49, 0.5)}), "feature 0 of row 0 of x is outside its range"),
        (of(ranges={0: ("a", 1)}), "ranges[0] must have finite numbers"),
        (of(most_change={0: -1}), "most_change[0] must be 0 or above"),
        (
            of(most_change={0: [1, 2]}),
            "most_change[0] must have finite numbers, or arrays with one for each of 12 rows",
        ),
        (of(steps={0: 0}), "the step of feature 0 must be > 0"),
        (of(steps={0: 0.25}), "feature 0 of row 0 of x is not a multiple of its step above the minimum"),
        (of(groups=[[7]]), "the group [7] must have two or more features"),
        (of(groups=[[7, 8], [8, 9]]), "feature 8 is twice in groups"),
        (of(groups=[[7, 8]]), "in the group [7, 8]: one feature must be at the maximum"),
        (of(groups=[GROUP], steps={7: 1}), "feature 7 is in steps and in groups"),
        (of(mask=np.ones(3, bool)), "mask is bool of shape (3,): give bool of shape (10,)"),
        (of(mask=np.ones(10)), "mask is float64 of shape (10,)"),
        (of(immutable=range(10)), "the constraints leave no feature of row 0 of x that can change"),
        (of(scale="std"), "scale must be one of unit, mad, inverse_range"),
        (lambda: Constraints(scale="mad").weights(np.zeros((0, 3)), (-0.5, 0.5)), "needs the training split"),
    ],
)
def test_a_mistake_is_named(make, message):
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_to_search_and_nothing_found_are_results_too():
    model, rules = network(0, FEATURES, 3, 16)[0], Constraints(steps={GRID: STEP}, groups=[GROUP])
    same = found(PrimalDual(target_class="same", target_proba=0.6, tol=0.4, count=2), constraints=rules)
    assert same.found[::2].all() and (same.x == np.repeat(table(), 2, axis=0)).all()
    lost = find_counterfactuals(model, table(), PrimalDual(tol=1e-6, max_iter=1, count=2), constraints=rules)
    assert not lost.found.any() and (lost.x == np.repeat(table(), 2, axis=0)).all()
    none = find_counterfactuals(model, table()[:0], PrimalDual(count=2), constraints=rules)
    assert len(none.found) == 0
