"""Stage `train`: the classifier, trained here or read from a file.   python -m pipelines.stages.train

Writes artifacts/model.keras and how good it is: metrics.json, history.csv and confusion.csv.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cfx import models
from cfx.data import FEATURE_RANGE, Dataset
from cfx.files import replacing
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import KerasFile, Upstream
from pipelines.terminal import console, import_tensorflow, progress, user_errors

if TYPE_CHECKING:
    import keras


def main() -> None:
    """Run the stage."""
    make(schema.read(), paths.LATEST)


def make(chosen: Upstream, trained: Trained) -> None:
    """Train or read the classifier that the parameters name, and keep it where `trained` says, beside its data.

    Raises InputError for a file of the user's that cannot be read, or does not fit the data.
    """
    dataset = Dataset.load(trained.data)
    import_tensorflow()
    with replacing(trained.model) as temporary:
        if isinstance(chosen.model, KerasFile):
            model = load_user_model(chosen, chosen.model, dataset, temporary)
            history = pd.DataFrame(columns=["epoch", "loss", "accuracy", "test_loss", "test_accuracy"])
        else:
            model, history = train(chosen, dataset)
            model.save(temporary)
    probabilities = predict(model, dataset)
    measured = metrics(probabilities, dataset.y_test)
    with replacing(trained.metrics) as temporary:
        temporary.write_text(json.dumps(measured, indent=2) + "\n")
    with replacing(trained.history) as temporary:
        history.to_csv(temporary, index=False)
    with replacing(trained.confusion) as temporary:
        confusion = {"actual": dataset.y_test, "predicted": probabilities.argmax(axis=1)}
        pd.DataFrame(confusion).to_csv(temporary, index=False)
    console.print(f"train: {chosen.model.name}, test accuracy {measured['test_accuracy']:.4f}")
    baseline = np.bincount(dataset.y_test).max() / len(dataset.y_test)
    if isinstance(chosen.model, KerasFile) and measured["test_accuracy"] <= baseline:
        console.print(
            "train: the model is not more accurate than always predicting the most frequent class; "
            "check that model.bounds is the range of the inputs that it was trained on"
        )


def load_user_model(chosen: Upstream, asked: KerasFile, dataset: Dataset, place: Path) -> keras.Model:
    """Read the user's classifier and keep it at `place`, with its own classes in it, for inputs in [-0.5, 0.5].

    Raises InputError for a file that cannot be read, or does not fit the data.
    """
    path, _ = schema.user_file(chosen, "model")
    module = schema.user_file(chosen, "module")[0].read_bytes() if asked.module_sha256 else None

    def embed() -> None:
        if module is not None:
            models.embed(place, module)

    shutil.copyfile(path, place)
    embed()
    model = models.load(place, dataset, **chosen.trust, where=str(path))
    if asked.bounds != FEATURE_RANGE:
        model = models.rescaled(model, asked.bounds, dataset)
        model.save(place)
        embed()
    return model


def train(chosen: Upstream, dataset: Dataset) -> tuple[keras.Model, pd.DataFrame]:
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


def predict(model: keras.Model, dataset: Dataset) -> np.ndarray:
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
    with user_errors(), paths.stage_lock():
        main()
