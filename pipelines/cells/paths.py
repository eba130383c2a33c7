"""Where the artefacts are, relative to the repository's root: outputs of the stages, models and cells."""

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
# Held by a stage for as long as it lives: it outlives a driver that is killed.
LOCK = Path(".stage.lock")


@dataclass(frozen=True)
class Trained:
    """A data set, the classifier that was trained on it, its judges and its guides: where each of these four lies."""

    data_folder: Path
    model_folder: Path
    judges_folder: Path
    guides_folder: Path

    @property
    def folders(self) -> tuple[Path, Path, Path, Path]:
        """The four places."""
        return self.data_folder, self.model_folder, self.judges_folder, self.guides_folder

    @property
    def data(self) -> Path:
        """The arrays."""
        return self.data_folder / "data.npz"

    @property
    def data_card(self) -> Path:
        """What the arrays are."""
        return self.data_folder / "data.json"

    @property
    def model(self) -> Path:
        """The classifier."""
        return self.model_folder / "model.keras"

    @property
    def metrics(self) -> Path:
        """How good the classifier is on the test split."""
        return self.model_folder / "metrics.json"

    @property
    def history(self) -> Path:
        """How its training went, a row an epoch."""
        return self.model_folder / "history.csv"

    @property
    def confusion(self) -> Path:
        """The actual and the predicted class of each input of the test split."""
        return self.model_folder / "confusion.csv"

    @property
    def autoencoders(self) -> Path:
        """The judges that know what each class looks like."""
        return self.judges_folder / "autoencoders.keras"

    @property
    def oracle(self) -> Path:
        """The judge that is a second classifier."""
        return self.judges_folder / "oracle.keras"

    @property
    def judges_metrics(self) -> Path:
        """How good the judges are on the test split."""
        return self.judges_folder / "metrics.json"

    @property
    def guides_metrics(self) -> Path:
        """How good the guides are on the test split."""
        return self.guides_folder / "metrics.json"


@contextmanager
def stage_lock() -> Iterator[None]:
    """Keep other stages from the artefacts for as long as the context lasts.

    Raises InputError where one is at work on them, as may be one that a killed driver has left.
    """
    lock = filelock.FileLock(LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            "a stage is still running in this folder, for example after its run was killed; "
            "wait until it ends, or end it (`ps -ef` shows it as python -m pipelines...)"
        ) from None
    try:
        yield
    finally:
        lock.release()


def class_name(label: Any, *of: Trained) -> int | str:
    """A class as a person is shown it: by its name in the data, or as it is where that has no names.

    label: a number or, as text, that or something else, such as the target `other`, which stays as it is.
    of: what it is a class of; where their names differ it stays a number.
    """
    names, *others = (json.loads(trained.data_card.read_text()).get("class_names") for trained in of)
    is_named = names and str(label).isdecimal() and all(other == names for other in others)
    return names[int(label)] if is_named else label


# What the stages `prepare`, `train`, `judges` and `guides` have made last.
LATEST = Trained(ROOT, ROOT, ROOT / "judges", ROOT / "guides")
DATA, DATA_CARD = LATEST.data, LATEST.data_card
MODEL, METRICS, HISTORY, CONFUSION = LATEST.model, LATEST.metrics, LATEST.history, LATEST.confusion
AUTOENCODERS, ORACLE, JUDGES_METRICS = LATEST.autoencoders, LATEST.oracle, LATEST.judges_metrics
# What the stage `variants` has made last: of the other variants of a sweep, what they do not share with that one.
VARIANTS = ROOT / "variants"

TABLE = ROOT / "counterfactuals.parquet"
RESULTS = ROOT / "counterfactuals"
SWEEP_METRICS = ROOT / "counterfactuals_metrics.json"

REPORT = ROOT / "report"
RUNS = ROOT / "runs.json"  # written by the driver: where MLflow's UI shows each cell

# What was ever made for a variant in this folder, and which finished cells it has; DVC knows neither.
MODELS = Path("models")
CELLS = Path("cells")
