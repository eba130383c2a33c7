"""Stage `prepare`: the data set, read, checked, scaled and split.   python -m pipelines.stages.prepare

Writes artifacts/data.npz (the arrays) and artifacts/data.json (what they are).
"""

from __future__ import annotations

import hashlib
import json

from cfx import data
from cfx.data import Dataset
from cfx.files import replacing
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Mnist, Mnist5k, Npz, Upstream
from pipelines.terminal import console, user_errors


def main() -> None:
    """Run the stage."""
    make(schema.read(), paths.LATEST)


def make(chosen: Upstream, trained: Trained) -> None:
    """Make the data set that the parameters name and keep it where `trained` says.

    Raises InputError for a file of the user's that is not what its option says.
    """
    dataset = load(chosen)
    dataset.save(trained.data)
    with replacing(trained.data_card) as temporary:
        temporary.write_text(json.dumps(card(dataset), indent=2) + "\n")
    sizes = (
        f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test instances of shape {dataset.input_shape}"
    )
    console.print(f"prepare: {chosen.data.name}, {sizes}, {dataset.classes} classes", markup=False)


def load(chosen: Upstream) -> Dataset:
    """The data set that the parameters name. Raises InputError for a file that is not what it says."""
    match chosen.data:
        case Mnist5k(seed=seed):
            return data.mnist_5k(seed)
        case Mnist():
            return data.mnist(chosen.paths.data)
        case Npz(bounds=bounds):
            path, _ = schema.user_file(chosen, "data")
            return data.npz(path, bounds)


def card(dataset: Dataset) -> dict[str, object]:
    """What a data set is, in a form that can be read without loading it."""
    arrays = dataset.sha256()
    return {
        "classes": dataset.classes,
        "class_names": dataset.class_names or None,
        "input_shape": list(dataset.input_shape),
        "train": len(dataset.x_train),
        "test": len(dataset.x_test),
        "sha256": hashlib.sha256(json.dumps(arrays, sort_keys=True).encode()).hexdigest(),
        "arrays": arrays,
    }


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        main()
