"""What a counterfactual changes in a table, as a person reads it."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from cfx.data import Feature
from pipelines.cells.paths import LATEST
from pipelines.reporting import changes


@pytest.fixture
def described(tmp_path, monkeypatch):
    """A function that writes the description of the data."""
    monkeypatch.chdir(tmp_path)
    LATEST.data_card.parent.mkdir()
    return lambda card: LATEST.data_card.write_text(json.dumps(card))


def test_changed_features_are_named_in_their_own_units_the_largest_change_first(described):
    bounds = {"age": (20, 70), "mean radius": (7, 27), "height": (1, 2), "weight": (50, 100)}
    described({"features": [asdict(Feature(name, "numeric", *pair, name)) for name, pair in bounds.items()]})
    instance = np.array([-0.5, 0.25, 0.0, 0.1], np.float32)
    counterfactual = np.array([-0.48, -0.25, 0.0, 0.1005], np.float32)
    found = changes.of_table(LATEST, instance, counterfactual)
    assert [change.feature for change in found] == ["mean radius", "age"]
    np.testing.assert_allclose([change[1:] for change in found], [(22, 12), (20, 21)], rtol=1e-6)


def test_an_image_has_no_named_features(described):
    for card in ({"features": None}, {}):
        described(card)
        assert changes.of_table(LATEST, np.zeros((8, 8, 1)), np.ones((8, 8, 1))) == []
