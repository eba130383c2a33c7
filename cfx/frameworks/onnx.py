"""Classifiers of ONNX, which ONNX Runtime runs without gradients: PyTorch runs them with onnx2pytorch."""

from __future__ import annotations

from cfx.bridge import Passes
from cfx.errors import InputError
from cfx.frameworks import torch
from cfx.frameworks.files import ModelFile, imported


def load(file: ModelFile) -> Passes:
    """The passes of an .onnx file. Raises InputError if it cannot be loaded or has its weights in another file."""
    torch.imported_torch()
    onnx2pytorch, onnx = imported("onnx2pytorch"), imported("onnx")
    try:
        model = onnx.load_model_from_string(file.content)
        if any(one.data_location == onnx.TensorProto.EXTERNAL for one in model.graph.initializer):
            raise InputError(f"{file.where}: has its weights in another file; export it with external_data=False")
        onnx.checker.check_model(model)
        # experimental: several rows
        network = onnx2pytorch.ConvertModel(model, experimental=True)
    except InputError:
        raise
    except Exception as error:  # protobuf, onnx and onnx2pytorch raise any exception
        raise file.refused("ONNX", error) from error
    return torch.passes(network)
