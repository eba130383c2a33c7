"""The paths of the artefacts, relative to the root of the repository, and the lock of the stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from cfx.data import Feature
from cfx.errors import InputError

ROOT = Path("artifacts")
LOCK = Path(".stage.lock")


class _File:
    """The path of a file in one of the folders of `Trained`."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name

    def __get__(self, trained: Trained, owner: type[Trained]) -> Path:
        return getattr(trained, self.folder) / self.name


@dataclass(frozen=True)
class Trained:
    """The folders of a data set, of a classifier trained on it, and of its judges and guides, and their files."""

    data_folder: Path
    model_folder: Path
    judges_folder: Path
    guides_folder: Path

    data = _File("data_folder", "data.npz")
    data_card = _File("data_folder", "data.json")  # the description of the data set
    model = _File("model_folder", "model.keras")
    replicas = _File("model_folder", "replicas")  # a folder of classifiers that differ only in their seed
    metrics = _File("model_folder", "metrics.json")  # the accuracy and loss on the test split
    history = _File("model_folder", "history.csv")  # the training, one row per epoch
    confusion = _File("model_folder", "confusion.csv")  # the actual and predicted class of each test instance
    autoencoders = _File("judges_folder", "autoencoders.keras")
    committee = _File("judges_folder", "committee.keras")
    judges_metrics = _File("judges_folder", "metrics.json")  # the accuracies on the test split
    guides_metrics = _File("guides_folder", "metrics.json")  # the accuracies on the test split

    @property
    def folders(self) -> tuple[Path, Path, Path, Path]:
        """The four folders."""
        return self.data_folder, self.model_folder, self.judges_folder, self.guides_folder


@contextmanager
def stage_lock() -> Iterator[None]:
    """Hold the lock of the stages. Raises InputError if another stage is running, such as one of a killed driver."""
    try:
        lock = filelock.FileLock(LOCK, timeout=0).acquire()
    except filelock.Timeout:
        raise InputError(
            "a stage is still running in this folder, for example after its run was killed; "
            "wait until it ends, or end it (`ps -ef` shows it as python -m pipelines...)"
        ) from None
    with lock:
        yield


def class_name(label: Any, *trained: Trained) -> int | str:
    """The name of a class in the data sets, or the label itself if they have no names or different ones.

    label: a number, also as text; any other text, such as the target class `other`, is returned unchanged.
    """
    names, *others = (json.loads(one.data_card.read_text()).get("class_names") for one in trained)
    is_named = names and str(label).isdecimal() and all(other == names for other in others)
    return names[int(label)] if is_named else label


def features(trained: Trained) -> tuple[Feature, ...]:
    """The features of a table; empty if the data are not a table, or a table whose features have no names."""
    described = json.loads(trained.data_card.read_text()).get("features")
    return tuple(Feature(**feature) for feature in described or ())


# The outputs of the stages prepare, train, judges, guides, variants, explain and report, in this order.
LATEST = Trained(ROOT, ROOT, ROOT / "judges", ROOT / "guides")
VARIANTS = ROOT / "variants"
TABLE = ROOT / "counterfactuals.parquet"
RESULTS = ROOT / "counterfactuals"
SWEEP_METRICS = ROOT / "counterfactuals_metrics.json"
REPORT = ROOT / "report"
RATING = ROOT / "rating.csv"  # written by pipelines.rating
RUNS = ROOT / "runs.json"  # written by the driver: the MLflow run of each cell

# Models and cells that were ever computed in this folder. DVC does not track them.
MODELS = Path("models")
CELLS = Path("cells")
