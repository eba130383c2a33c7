"""Stage `prepare`: load, check, scale and split the data set.   python -m pipelines.stages.prepare

Writes artifacts/data.npz with the arrays, and artifacts/data.json with their description.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from cfx import data, datasets, tables
from cfx.data import Dataset
from cfx.files import replacing
from pipelines.cells import paths
from pipelines.cells.paths import Trained
from pipelines.config import schema
from pipelines.config.schema import Upstream
from pipelines.config.sections import Downloaded, Embedded, Npz, Table
from pipelines.terminal import console, option_names, user_errors

# The options for the arguments and functions that the errors of `cfx` name.
OPTIONS = {
    "bounds=": "data.bounds=",
    "the data set ": "data=",
    "give the path of a file, or use mnist_5k": "give the file as data.path=..., or use data=mnist_5k",
    "read other data with cfx.data.npz": "use data=npz",
}


def make(params: Upstream, trained: Trained) -> None:
    """Prepare and save the data set. Raises InputError for an invalid file."""
    dataset = load(params)
    dataset.save(trained.data)
    with replacing(trained.data_card) as temporary:
        temporary.write_text(json.dumps(card(dataset), indent=2) + "\n")
    sizes = (
        f"{len(dataset.x_train):,} training and {len(dataset.x_test):,} test instances of shape {dataset.input_shape}"
    )
    console.print(f"prepare: {params.data.name}, {sizes}, {dataset.classes} classes", markup=False)


@option_names(OPTIONS)
def load(params: Upstream) -> Dataset:
    """Load the data set of the parameters. Raises InputError for an invalid file."""
    match params.data:
        case Embedded(name=name, seed=seed):
            return getattr(datasets, name)(seed)
        case Downloaded(name=name):
            return getattr(datasets, name)(params.paths.data)
        case Npz(bounds=bounds):
            path, _ = schema.user_file(params, "data")
            return data.npz(path, bounds)
        case Table(name=name, columns=columns, test_share=test_share, seed=seed):
            path, _ = schema.user_file(params, "data")
            return tables.dataset(tables.read(path, name, columns), columns, test_share, seed, str(path))


def card(dataset: Dataset) -> dict[str, object]:
    """The description of a data set: sizes, classes, features and digests."""
    arrays = dataset.sha256()
    features = [asdict(feature) for feature in dataset.features]
    # the values of a feature mean something else with other bounds
    content = {**arrays, "features": features} if features else arrays
    return {
        "classes": dataset.classes,
        "class_names": dataset.class_names or None,
        "features": features or None,
        "input_shape": list(dataset.input_shape),
        "train": len(dataset.x_train),
        "test": len(dataset.x_test),
        "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "arrays": arrays,
    }


if __name__ == "__main__":
    with user_errors(), paths.stage_lock():
        make(schema.read(), paths.LATEST)
