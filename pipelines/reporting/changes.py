"""What a counterfactual changes in a table: the names of its features, and their values in their own units."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np

from cfx.data import FEATURE_RANGE
from cfx.result import CHANGED
from pipelines.cells.paths import Trained


class Change(NamedTuple):
    """The change of a feature."""

    feature: str
    before: float
    after: float


def of_table(trained: Trained, instance: np.ndarray, x: np.ndarray) -> list[Change]:
    """The changed features, the largest change by share of its range first; empty if the features have no names.

    instance, x: (features,) the instance and its counterfactual, scaled.
    """
    features = json.loads(trained.data_card.read_text()).get("features")
    if not features:
        return []
    low, high = (np.array([feature[bound] for feature in features]) for bound in ("low", "high"))
    before, after = (low + (values.astype(float) - FEATURE_RANGE[0]) * (high - low) for values in (instance, x))
    sizes = np.abs(x - instance)
    order = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] > CHANGED]
    return [Change(features[i]["name"], before[i], after[i]) for i in order]
