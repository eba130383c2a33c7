"""Train and load the classifiers to explain. Keras is imported only by the functions that need it."""

from __future__ import annotations

import hashlib
import json
import sys
import types
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from cfx.data import FEATURE_RANGE, Dataset
from cfx.errors import InputError

if TYPE_CHECKING:
    import keras

# The member of a .keras file with the Python module of its custom classes; an addition of this project.
MODULE = "module.py"


def train(
    build: Callable[[], keras.Model],
    dataset: Dataset,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[keras.Model, pd.DataFrame]:
    """Build and train a classifier with Adam and cross-entropy; deterministic for a seed on one kind of machine.

    build: returns the untrained model; called after the seed is set. progress: called with (batches done, total).
    Returns the model and its history, one row per epoch: epoch, loss, accuracy, test_loss, test_accuracy.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    model = build()
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        dataset.x_train,
        dataset.y_train,
        epochs=epochs,
        batch_size=batch_size,
        validation_data=(dataset.x_test, dataset.y_test),
        callbacks=[_progress(progress, -(-len(dataset.x_train) // batch_size), epochs)] if progress else [],
        verbose=0,
    )
    # without the optimizer, which would triple the file size
    classifier = build()
    classifier.set_weights(model.get_weights())
    frame = pd.DataFrame(history.history).rename(columns=lambda name: name.replace("val_", "test_"))
    frame.insert(0, "epoch", np.arange(1, epochs + 1))
    return classifier, frame


def load(
    path: str | Path,
    dataset: Dataset | None = None,
    *,
    safe_mode: bool = True,
    module_sha256: str | None = None,
    where: str | None = None,
) -> keras.Model:
    """Load a classifier from a .keras file in safe mode, and check that it fits `dataset`, if given.

    safe_mode: False permits code in the file, such as that of a Lambda layer. module_sha256: the digest of the module
    with custom classes that `embed` added; only this module is run. where: the name of the file in error messages.
    Raises InputError if the file cannot be loaded, would run code, or has another input shape or number of classes.
    """
    import keras

    path, where = Path(path), where or str(path)
    if not path.is_file():
        raise InputError(f"{where}: no such model file; give a .keras file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{where}: is not a .keras file, or is incomplete; save it with model.save('model.keras')")
    own = {}
    if module_sha256:
        module = own_module(path, module_sha256)
        own = {n: made for n, made in vars(module).items() if getattr(made, "__module__", None) == module.__name__}
    try:
        model = keras.saving.load_model(path, own, compile=False, safe_mode=safe_mode)
    # keras raises TypeError, ValueError, KeyError, OSError, ... for an invalid file, and a custom class any exception
    except (Exception, SystemExit) as error:
        # the reason of an error in a nested layer comes last
        said = str(error).rpartition("Exception encountered: ")[2]
        line = next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)
        reason = line.partition(". ")[0]
        hint = ""
        if reason.startswith("Could not locate"):
            hint = "; register classes and functions of your own with keras.saving.register_keras_serializable"
        elif "safe_mode" in said:
            hint = "; safe_mode=False runs the code in the file: only for a file that you trust"
        how = " in safe mode" if safe_mode else ""
        raise InputError(f"{where}: cannot be loaded as a Keras model{how} ({reason[:200]}){hint}") from error
    if dataset is not None:
        check_fits(model, dataset, where)
    return model


def embed(path: Path, module: bytes) -> None:
    """Add the source of a Python module, for example with custom classes, to a .keras file or to a `cfx.stored` one."""
    with zipfile.ZipFile(path, "a") as archive:
        # a ZipInfo has a fixed date, so that the file is deterministic
        archive.writestr(zipfile.ZipInfo(MODULE), module)


def own_module(path: Path, sha256: str) -> types.ModuleType:
    """The module that `embed` added to a file, for example with the classes of a model; runs it."""
    try:
        with zipfile.ZipFile(path) as archive:
            source = archive.read(MODULE)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: has no module with the model's classes; train again") from error
    if hashlib.sha256(source).hexdigest() != sha256:
        raise InputError(f"{path}: its module with the model's classes does not have the given SHA-256; train again")
    # registered, because a dataclass looks up its module
    module = sys.modules["own_model"] = types.ModuleType("own_model")
    try:
        exec(compile(source, MODULE, "exec"), vars(module))
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a user's module may raise any exception
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        how = "ends the process when it is run" if isinstance(error, KeyboardInterrupt) else "cannot be run"
        raise InputError(
            f"the module with the model's classes {how} ({reason}); give a file that can be imported alone"
        ) from error
    return module


def rescaled(model: keras.Model, bounds: tuple[float, float], dataset: Dataset) -> keras.Model:
    """Convert a model trained on inputs inside `bounds` to one for inputs in [-0.5, 0.5]."""
    import keras

    low, high = bounds
    # the model computes in float32
    if not (low < high and max(-low, high, high - low) <= float(np.finfo(np.float32).max)):
        raise InputError(f"bounds=[{low}, {high}]: need two finite numbers, low < high")
    scale = (high - low) / (FEATURE_RANGE[1] - FEATURE_RANGE[0])
    in_front = keras.layers.Rescaling(scale, low - scale * FEATURE_RANGE[0], name="to_bounds")
    try:
        return keras.Sequential([keras.Input(dataset.input_shape, name="x"), in_front, model], name="rescaled")
    except Exception as error:  # as in check_fits
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"bounds=[{low}, {high}]: no layer can be put in front of the model ({reason}); "
            "scale the inputs inside the model"
        ) from error


def check_fits(model: keras.Model, dataset: Dataset, where: str) -> None:
    """Raise InputError unless the model takes the dataset's inputs and returns its classes (one unit for two)."""
    given = getattr(model, "input_shape", None)
    if isinstance(given, tuple):
        fits = len(given) == len(dataset.input_shape) + 1
        fits = fits and all(m in (None, d) for m, d in zip(given[1:], dataset.input_shape, strict=True))
        if not fits:
            raise InputError(f"{where}: takes inputs of shape {given[1:]}, but the data have {dataset.input_shape}")
    try:
        outputs = model(dataset.x_test[:1], training=False)
    except Exception as error:  # a model may raise any exception for an invalid input
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: does not take inputs of shape {dataset.input_shape} ({reason})") from error
    if not hasattr(outputs, "shape"):
        kind = f"a {type(outputs).__name__} of {len(outputs)} outputs"
        raise InputError(f"{where}: returns {kind}; give a model with one, (n, {dataset.classes})")
    units = outputs.shape[1:]
    if tuple(units) not in {(dataset.classes,), (1,) if dataset.classes == 2 else (dataset.classes,)}:
        raise InputError(
            f"{where}: returns outputs of shape {tuple(units)}, but the data has {dataset.classes} classes"
        )


def sha256(path: Path) -> str:
    """The digest of the architecture and the weights in a .keras file, without its date.

    Does not need TensorFlow. The digest is cached while the file does not change.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"{path}: is not a .keras file ({error})") from error
    return _sha256(path, about.st_ino, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=64)
def _sha256(path: Path, *version: int) -> str:
    shared: dict[int, int] = {}

    def renumber(node: dict[str, object]) -> dict[str, object]:
        # keras identifies shared objects by memory addresses; number them in order of appearance
        if isinstance(address := node.get("shared_object_id"), int):
            node["shared_object_id"] = shared.setdefault(address, len(shared))
        return node

    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(set(archive.namelist()) - {"metadata.json"}):
                content = archive.read(name)
                if name == "config.json":
                    content = json.dumps(json.loads(content, object_hook=renumber)).encode()
                digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is not a .keras file ({error})") from error
    return digest.hexdigest()


def _progress(report: Callable[[int, int], None], batches: int, epochs: int) -> keras.callbacks.Callback:
    import keras

    class Progress(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.before = epoch * batches

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            report(self.before + batch + 1, batches * epochs)

    return Progress()
