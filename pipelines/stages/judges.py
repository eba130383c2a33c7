"""Stage `judges`: the models that say how plausible a counterfactual is.   python -m pipelines.stages.judges

Writes artifacts/judges/: autoencoders.keras, oracle.keras, and metrics.json, how good they are on the test split.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from cfx import judges
from cfx.data import Dataset
from cfx.files import replacing
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Upstream
from pipelines.terminal import console, import_tensorflow, progress, user_errors


def main() -> None:
    """Run the stage."""
    make(schema.read(), paths.LATEST)


def make(chosen: Upstream, trained: Trained) -> None:
    """Train the judges as the parameters say, and keep them where `trained` says, beside its data."""
    training = chosen.judges.model_dump()
    dataset = Dataset.load(trained.data)
    import_tensorflow()
    with progress("autoencoders") as report:
        autoencoders = judges.autoencoders(dataset, **training, progress=report)
    with progress("oracle") as report:
        oracle = judges.oracle(dataset, **training, progress=report)
    for model, path in ((autoencoders, trained.autoencoders), (oracle, trained.oracle)):
        with replacing(path) as temporary:
            model.save(temporary)
    measured = {
        "oracle_test_accuracy": accuracy(lambda x: np.asarray(oracle(x)), dataset),
        "autoencoders_test_accuracy": accuracy(lambda x: likeness(x, np.asarray(autoencoders(x))), dataset),
    }
    with replacing(trained.judges_metrics) as temporary:
        temporary.write_text(json.dumps(measured, indent=2) + "\n")
    console.print("judges: test accuracy of the oracle {:.4f}, of the autoencoders {:.4f}".format(*measured.values()))


def likeness(x: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """How like each class inputs (n, *shape) are, (n, classes): the less its autoencoder misses them by, the more."""
    missed = reconstructions[:, :-1] - x[:, np.newaxis]
    return -np.square(missed).reshape(*missed.shape[:2], -1).sum(axis=2)


def accuracy(scores: Callable[[np.ndarray], np.ndarray], dataset: Dataset) -> float:
    """The share of the test split whose own class has the highest of `scores` (n, classes)."""
    starts = range(0, len(dataset.x_test), 100)
    best = [scores(dataset.x_test[start : start + 100]).argmax(axis=1) for start in starts]
    return float((np.concatenate(best) == dataset.y_test).mean())


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
