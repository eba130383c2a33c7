"""Stage `train`: train the classifier, or load the user's.   python -m pipelines.stages.train

Writes artifacts/model.keras, and its evaluation: metrics.json, history.csv and confusion.csv; and artifacts/replicas/,
the classifiers of other seeds that measure the stability of counterfactuals.
"""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cfx import architectures, models, stored
from cfx.data import FEATURE_RANGE, Dataset
from cfx.files import replacing
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Upstream
from pipelines.config.sections import KerasFile, ModelFile
from pipelines.terminal import console, import_tensorflow, option_names, progress, user_errors

if TYPE_CHECKING:
    import keras

    from cfx.bridge import Bridge

# The options for the arguments and functions that the errors of `cfx` name.
OPTIONS = {
    "bounds=": "model.bounds=",
    "safe_mode=False": "model.safe_mode=false",
    "register classes and functions of your own with keras.saving.register_keras_serializable": (
        "classes and functions of your own need model.module=..."
    ),
    "the module with the model's classes ": "model.module: ",
    "use mlp": "use model=mlp",
}


@option_names(OPTIONS)
def make(params: Upstream, trained: Trained) -> None:
    """Train or load the classifier, evaluate it, and save the results.

    Raises InputError if the user's file cannot be loaded or does not fit the data.
    """
    dataset = Dataset.load(trained.data)
    import_tensorflow()
    with replacing(trained.model) as temporary:
        if isinstance(params.model, ModelFile):
            model = load_user_model(params, params.model, dataset, temporary)
            history = pd.DataFrame(columns=["epoch", "loss", "accuracy", "test_loss", "test_accuracy"])
        else:
            model, history = train(params, dataset, params.seed, "training")
            model.save(temporary)
    with replacing(trained.replicas) as folder:
        folder.mkdir()
        accuracies = train_replicas(params, dataset, folder)
    probabilities = predict(model, dataset)
    measured = metrics(probabilities, dataset.y_test)
    if accuracies:
        measured["replicas_test_accuracy"] = float(np.mean(accuracies))
    with replacing(trained.metrics) as temporary:
        temporary.write_text(json.dumps(measured, indent=2) + "\n")
    with replacing(trained.history) as temporary:
        history.to_csv(temporary, index=False)
    with replacing(trained.confusion) as temporary:
        confusion = {"actual": dataset.y_test, "predicted": probabilities.argmax(axis=1)}
        pd.DataFrame(confusion).to_csv(temporary, index=False)
    console.print(f"train: {params.model.name}, test accuracy {measured['test_accuracy']:.4f}")
    baseline = np.bincount(dataset.y_test).max() / len(dataset.y_test)
    if isinstance(params.model, ModelFile) and measured["test_accuracy"] <= baseline:
        console.print(
            "train: the model is not more accurate than always predicting the most frequent class; "
            "check that model.bounds is the range of the inputs that it was trained on"
        )


def load_user_model(params: Upstream, section: ModelFile, dataset: Dataset, path: Path) -> Any:
    """Load the user's classifier, adapt it to inputs in [-0.5, 0.5], and save it with its module.

    Raises InputError if the file cannot be loaded or does not fit the data.
    """
    source, _ = schema.user_file(params, "model")
    module = schema.user_file(params, "module")[0].read_bytes() if params.trust.get("module_sha256") else None

    def embed() -> None:
        if module is not None:
            models.embed(path, module)

    def store(loaded: Bridge | None) -> None:
        options = section.model_dump(include={"bounds", "channels_first", "outputs"})
        stored.store(path, section.name, source.read_bytes(), dataset, loaded, **options)

    if isinstance(section, KerasFile):
        shutil.copyfile(source, path)
    else:
        store(None)
    embed()
    model = stored.load(path, dataset, **params.trust, where=str(source))
    if not isinstance(section, KerasFile):
        store(model)
        embed()
    elif section.bounds != FEATURE_RANGE:
        model = models.rescaled(model, section.bounds, dataset)
        model.save(path)
        embed()
    return model


def train(params: Upstream, dataset: Dataset, seed: int, what: str) -> tuple[keras.Model, pd.DataFrame]:
    """Train a classifier; returns it and its history, one row per epoch. what: the label of the progress."""
    build = getattr(architectures, params.model.name)
    hyperparameters = params.model.model_dump(exclude={"name"})
    with progress(what) as report:
        return models.train(
            partial(build, dataset.input_shape, dataset.classes, **hyperparameters),
            dataset,
            **params.training.model_dump(exclude={"replicas"}),
            seed=seed,
            progress=report,
        )


def train_replicas(params: Upstream, dataset: Dataset, folder: Path) -> list[float]:
    """Train and save the classifiers of the next seeds; returns their test accuracies."""
    count = params.training.replicas
    if count and isinstance(params.model, ModelFile):
        console.print("train: no replicas of a model that is not trained here; seed_stability will be empty")
        count = 0
    accuracies = []
    for number in range(1, count + 1):
        replica, history = train(params, dataset, (params.seed + number) % 2**32, f"replica {number}")
        replica.save(folder / f"{number:03}.keras")
        accuracies.append(float(history["test_accuracy"].iloc[-1]))
    # always a file, because DVC warns of an empty folder
    (folder / "metrics.json").write_text(json.dumps({"test_accuracy": accuracies}) + "\n")
    return accuracies


def predict(model: Any, dataset: Dataset) -> np.ndarray:
    """The probabilities (n, classes) of the test split; the model may return probabilities or logits."""
    from cfx.classifier import Classifier

    classifier = Classifier(model, dataset.x_test[:1])
    starts = range(0, len(dataset.x_test), 500)
    return np.concatenate([classifier.probabilities(dataset.x_test[start : start + 500]) for start in starts])


def metrics(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The accuracy and the cross-entropy (nats) on the test split."""
    of_label = probabilities[np.arange(len(labels)), labels]
    return {
        "test_accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "test_loss": float(-np.log(np.maximum(of_label, np.finfo(np.float32).tiny)).mean()),
    }


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        make(schema.read(), paths.LATEST)
