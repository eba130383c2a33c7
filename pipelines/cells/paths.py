"""The paths of the artefacts, relative to the root of the repository, and the lock of the stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from cfx.errors import InputError

ROOT = Path("artifacts")
LOCK = Path(".stage.lock")


@dataclass(frozen=True)
class Trained:
    """The folders of a data set, of a classifier trained on it, and of its judges and guides."""

    data_folder: Path
    model_folder: Path
    judges_folder: Path
    guides_folder: Path

    @property
    def folders(self) -> tuple[Path, Path, Path, Path]:
        """The four folders."""
        return self.data_folder, self.model_folder, self.judges_folder, self.guides_folder

    @property
    def data(self) -> Path:
        """The arrays of the data set."""
        return self.data_folder / "data.npz"

    @property
    def data_card(self) -> Path:
        """The description of the data set."""
        return self.data_folder / "data.json"

    @property
    def model(self) -> Path:
        """The classifier."""
        return self.model_folder / "model.keras"

    @property
    def metrics(self) -> Path:
        """The accuracy and loss of the classifier on the test split."""
        return self.model_folder / "metrics.json"

    @property
    def history(self) -> Path:
        """The training history, one row per epoch."""
        return self.model_folder / "history.csv"

    @property
    def confusion(self) -> Path:
        """The actual and predicted class of each instance of the test split."""
        return self.model_folder / "confusion.csv"

    @property
    def autoencoders(self) -> Path:
        """The judge with one autoencoder per class and one for all classes."""
        return self.judges_folder / "autoencoders.keras"

    @property
    def oracle(self) -> Path:
        """The judge that is a second classifier."""
        return self.judges_folder / "oracle.keras"

    @property
    def judges_metrics(self) -> Path:
        """The accuracy of the judges on the test split."""
        return self.judges_folder / "metrics.json"

    @property
    def guides_metrics(self) -> Path:
        """The accuracy of the guides on the test split."""
        return self.guides_folder / "metrics.json"


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


# The outputs of the stages prepare, train, judges, guides, variants, explain and report, in this order.
LATEST = Trained(ROOT, ROOT, ROOT / "judges", ROOT / "guides")
VARIANTS = ROOT / "variants"
TABLE = ROOT / "counterfactuals.parquet"
RESULTS = ROOT / "counterfactuals"
SWEEP_METRICS = ROOT / "counterfactuals_metrics.json"
REPORT = ROOT / "report"
RUNS = ROOT / "runs.json"  # written by the driver: the MLflow run of each cell

# Models and cells that were ever computed in this folder. DVC does not track them.
MODELS = Path("models")
CELLS = Path("cells")
