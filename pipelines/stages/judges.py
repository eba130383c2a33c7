"""Stage `judges`: train the models that evaluate counterfactuals.   python -m pipelines.stages.judges

Writes artifacts/judges/: autoencoders.keras, committee.keras, and metrics.json, which
contains their accuracy on the test split and their measures of real instances, for comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import prod

import numpy as np

from cfx import judges, metrics
from cfx.data import Dataset
from cfx.files import replacing
from cfx.metrics import Judges
from cfx.neighbourhood import Neighbourhoods
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Upstream
from pipelines.terminal import console, import_tensorflow, progress, user_errors

# The number of real instances that are measured.
_REAL = 500


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
    with progress("committee of judges") as report:
        committee = judges.committee(dataset, **training, progress=report)
    for model, path in ((autoencoders, trained.autoencoders), (committee, trained.committee)):
        with replacing(path) as temporary:
            model.save(temporary)
    measured = {
        "committee_test_accuracy": accuracy(lambda x: np.asarray(committee(x)).mean(axis=1), dataset),
        "autoencoders_test_accuracy": accuracy(lambda x: likeness(x, np.asarray(autoencoders(x))), dataset),
        **of_real(dataset, Judges(autoencoders, committee, Neighbourhoods(dataset.x_train, dataset.y_train))),
    }
    with replacing(trained.judges_metrics) as temporary:
        temporary.write_text(json.dumps(measured, indent=2) + "\n")
    console.print(
        f"judges: test accuracy of the committee {measured['committee_test_accuracy']:.4f}, "
        f"of the autoencoders {measured['autoencoders_test_accuracy']:.4f}"
    )


def of_real(dataset: Dataset, judges: Judges) -> dict[str, float]:
    """The judges' measures of real test instances and their labels, as `real_<name>`.

    Each instance gets a random other class as its original class, because counterfactuals have one.
    """
    random = np.random.default_rng(0)
    rows = random.permutation(len(dataset.x_test))[:_REAL]
    labels = dataset.y_test[rows]
    others = (labels + random.integers(1, dataset.classes, len(rows))) % dataset.classes
    judged = metrics.judge(dataset.x_test[rows], labels, others, judges)
    return {f"real_{name}": float(judged[name].agg("mean" if name in metrics.SHARES else "median")) for name in judged}


def likeness(x: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    """The similarity of inputs (n, *shape) to each class, (n, classes): minus the squared error of its autoencoder."""
    missed = reconstructions[:, :-2] - x[:, np.newaxis]
    return -np.square(missed).reshape(*missed.shape[:2], -1).sum(axis=2)


def accuracy(scores: Callable[[np.ndarray], np.ndarray], dataset: Dataset) -> float:
    """The share of the test split whose own class has the highest of `scores` (n, classes)."""
    step = max(1, min(500, 2**22 // prod(dataset.input_shape)))
    starts = range(0, len(dataset.x_test), step)
    best = [scores(dataset.x_test[start : start + step]).argmax(axis=1) for start in starts]
    return float((np.concatenate(best) == dataset.y_test).mean())


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
