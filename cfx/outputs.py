"""The outputs of a classifier: probabilities or logits, and their conversion to probabilities."""

from typing import Literal, get_args

import numpy as np

from cfx.errors import InputError

Outputs = Literal["auto", "probabilities", "logits"]

# The minimum of a probability, so that its logarithm is finite.
TINY = 1e-30


def are_logits(raw: np.ndarray, outputs: Outputs = "auto", last_operation: str = "unknown") -> bool:
    """Whether outputs (n, k) are logits. With "auto", the last operation of the model and the values decide.

    Raises InputError if they decide nothing, or if `outputs` is none of the three.
    """
    if outputs not in get_args(Outputs):
        raise InputError(f"outputs must be one of {', '.join(get_args(Outputs))}, got {outputs!r}")
    if outputs != "auto":
        return outputs == "logits"
    is_binary = raw.shape[1] == 1
    in_range = bool(np.all((raw >= 0) & (raw <= 1)))
    is_linear = last_operation in ("BiasAdd", "MatMul")
    may_be_probabilities = in_range and (is_binary or np.allclose(raw.sum(axis=1), 1, atol=1e-3))
    if last_operation == ("Sigmoid" if is_binary else "Softmax"):
        return False
    if last_operation == "Sigmoid":
        # for any instances
        raise InputError(f"{raw.shape[1]} sigmoid outputs need not sum to 1; end the model in a softmax")
    if is_binary and is_linear:
        return True
    if may_be_probabilities and (is_binary or is_linear):
        raise InputError(
            "the model's outputs may be probabilities or logits: end it in a softmax or one sigmoid unit, or in Python "
            'say which with outputs="probabilities"'
        )
    return not may_be_probabilities


def as_probabilities(raw: np.ndarray, are_logits: bool) -> np.ndarray:
    """The probabilities (n, classes) of outputs (n, classes), or (n, 1) for the second of two classes."""
    is_binary = raw.shape[1] == 1
    if are_logits:
        logits = np.concatenate([np.zeros_like(raw), raw], axis=1) if is_binary else raw
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)
    return np.concatenate([1 - raw, raw], axis=1) if is_binary else raw
