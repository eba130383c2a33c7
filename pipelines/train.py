"""Stage `train`: the classifier, trained from a seed or read from a file of the user's.   python -m pipelines.train

Writes artifacts/model.keras and what it is worth: metrics.json, history.csv and confusion.csv.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cfx import models
from cfx.data import Dataset
from cfx.files import replacing
from pipelines import artifacts, params
from pipelines.params import KerasFile, Params
from pipelines.terminal import console, import_tensorflow, progress, user_errors

if TYPE_CHECKING:
    import keras


def main() -> None:
    """Run the stage."""
    chosen = params.read()
    dataset = Dataset.load(artifacts.DATA)
    import_tensorflow()
    with replacing(artifacts.MODEL) as temporary:
        if isinstance(chosen.model, KerasFile):
            path, _ = params.user_file(chosen, "model")
            model = models.load(path, dataset)
            history = pd.DataFrame(columns=["epoch", "loss", "accuracy", "test_loss", "test_accuracy"])
            shutil.copyfile(path, temporary)
        else:
            model, history = train(chosen, dataset)
            model.save(temporary)
    probabilities = evaluate(model, dataset)
    measured = metrics(probabilities, dataset.y_test)
    with replacing(artifacts.METRICS) as temporary:
        temporary.write_text(json.dumps(measured, indent=2) + "\n")
    with replacing(artifacts.HISTORY) as temporary:
        history.to_csv(temporary, index=False)
    with replacing(artifacts.CONFUSION) as temporary:
        confusion = {"actual": dataset.y_test, "predicted": probabilities.argmax(axis=1)}
        pd.DataFrame(confusion).to_csv(temporary, index=False)
    console.print(f"train: {chosen.model.name}, test accuracy {measured['test_accuracy']:.4f}")


def train(chosen: Params, dataset: Dataset) -> tuple[keras.Model, pd.DataFrame]:
    """Train the classifier that the parameters describe; returns it and its history, one row an epoch."""
    architecture = chosen.model.model_dump(exclude={"name"})
    with progress("training") as report:
        return models.train(
            lambda: models.cnn(dataset.input_shape, dataset.classes, **architecture),
            dataset,
            **chosen.training.model_dump(),
            seed=chosen.seed,
            progress=report,
        )


def evaluate(model: keras.Model, dataset: Dataset) -> np.ndarray:
    """The probabilities (n, classes) that the classifier gives the test split, whatever its outputs are."""
    from cfx.classifier import Classifier

    classifier = Classifier(model, dataset.x_test[:1])
    starts = range(0, len(dataset.x_test), 500)
    return np.concatenate([classifier.probabilities(dataset.x_test[start : start + 500]) for start in starts])


def metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What DVC and MLflow compare between models: accuracy and cross-entropy (nats) on the test split."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return {
        "test_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "test_loss": float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean()),
    }


if __name__ == "__main__":
    with user_errors():
        main()
