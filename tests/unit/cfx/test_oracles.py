"""The compiled, batched step methods against plain numpy implementations of what their docstrings say.

The engine computes in float32, the oracles in float64; where a decision hangs on the difference, the two part. So three
of four rows have to agree; most often all do, and in some cases hardly any where a constant is another.
"""

import numpy as np
import pytest

from cfx import PrimalDual, Wachter, find_counterfactuals

from . import oracle_primal_dual, oracle_wachter
from .networks import network

# features, classes, hidden units; of thirteen classes, `other` compares nine and then three
SHAPES = [(4, 3, None), (3, 4, 8), (5, 13, 10)]
TARGETS = ["other", "fixed"]
WINDOWS = [{"tol": 0.3}, {"target_proba": 0.6, "tol": 0.05}]


def compare(oracle, function, model, classes, features, method):
    """Search with the engine and with an oracle; how many of the rows agree, as a share."""
    x = np.random.default_rng(2).uniform(-0.5, 0.5, (12, features)).astype(np.float32)
    result = find_counterfactuals(model, x, method)
    each, agrees = np.arange(classes), []
    for row in np.flatnonzero(~result.unchanged):
        asked, own = result.target_class[row], result.original_class[row]
        target = each != own if asked == "other" else each == int(asked)
        found, *_, steps = oracle.search(function, x[row].astype(float), target, method)
        is_same = np.allclose(result.x[row], found, rtol=1e-4, atol=1e-4)
        agrees.append(is_same and steps == result.iterations[row])
    assert len(agrees) >= 6 and result.found[~result.unchanged].sum() >= 2
    return np.mean(agrees)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_wachter_is_what_its_docstring_says(shape, targets, window):
    model, _, probabilities = network(1, *shape)
    target_class = "other" if targets == "other" else [0, 1, 2] * 4
    limits = {"max_iter": 100, "max_lam_steps": 12, "early_stop": 15, "learning_rate": 0.05}
    method = Wachter(target_class=target_class, **window, **limits)
    assert compare(oracle_wachter, probabilities, model, shape[1], shape[0], method) >= 0.75


@pytest.mark.parametrize("hyper", [{"max_iter": 10}, {"max_iter": 60}, {"max_iter": 60, "learning_rate": 0.01}])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_primal_dual_is_what_its_docstrings_say(shape, targets, window, hyper):
    model, logits, _ = network(1, *shape)
    target_class = "other" if targets == "other" else [0, 1, 2] * 4
    method = PrimalDual(target_class=target_class, **hyper, **window)
    assert compare(oracle_primal_dual, logits, model, shape[1], shape[0], method) >= 0.75
