"""Classifiers of PyTorch: a TorchScript file, a file of torch.export, or weights with the module of their network."""

from __future__ import annotations

import io
import sys
import warnings
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from cfx.bridge import Passes, PullBack
from cfx.errors import InputError
from cfx.frameworks.files import ModelFile, imported

if TYPE_CHECKING:
    import torch


def load(file: ModelFile) -> Passes:
    """The passes of a model file. Raises InputError if it cannot be loaded or would run code.

    With a module, whose function `model()` returns the untrained network, the file has its weights (`state_dict`).
    PyTorch loads a file of torch.export with pickle, which needs `safe_mode=False`.
    """
    torch, content = imported_torch(), io.BytesIO(file.content)
    names = zipfile.ZipFile(content).namelist() if zipfile.is_zipfile(content) else []
    content.seek(0)
    try:
        if file.module is not None:
            network = file.module.model()
            network.load_state_dict(torch.load(content, map_location="cpu", weights_only=True))
        elif any("/code/" in name for name in names):
            network = torch.jit.load(content, map_location="cpu")
        elif not any(name.endswith("/archive_format") for name in names):
            raise InputError(
                f"{file.where}: is neither a TorchScript file nor one of torch.export; a pickle of torch.save is not "
                "loaded: save the network's state_dict, and give model.module=..."
            )
        elif file.safe_mode:
            raise InputError(
                f"{file.where}: PyTorch loads a file of torch.export with pickle, which can run code; "
                "model.safe_mode=false permits it: only for a file you trust"
            )
        else:
            network = torch.export.load(content).module()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # PyTorch and a user's module raise any exception
        raise file.refused("PyTorch", error) from error
    return passes(network)


def passes(network: torch.nn.Module) -> Passes:
    """The passes of a network on the CPU, from float32 inputs to probabilities or logits; sets its evaluation mode."""
    torch = imported_torch()
    # an exported network has its mode built in
    with suppress(NotImplementedError):
        network.eval()
    # convolutions and poolings on a CPU take a third less time in this order of the memory
    network.to(memory_format=torch.channels_last)

    def outputs(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return network(torch.tensor(x)).numpy()

    def vjp(x: np.ndarray) -> tuple[np.ndarray, PullBack]:
        inputs = torch.tensor(x, requires_grad=True)
        # kept with its graph, so that the pull-back needs no second forward pass
        values = network(inputs)

        def pull_back(weights: np.ndarray) -> np.ndarray:
            return torch.autograd.grad(values, inputs, torch.tensor(weights))[0].numpy()

        return values.detach().numpy(), pull_back

    return Passes(outputs, vjp)


def imported_torch() -> Any:
    """PyTorch."""
    if "tensorflow" in sys.modules:
        # Triton compiles for GPUs and is not needed here. Its import after TensorFlow's ends the process.
        sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    torch = imported("torch")
    with warnings.catch_warnings():
        # on a machine without a GPU, PyTorch warns when it looks for one the first time, if TensorFlow did before
        warnings.simplefilter("ignore")
        torch.cuda.is_available()
    return torch
