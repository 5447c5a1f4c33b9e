"""Which operations are layers, normalisations and activation functions, and where each activation function is flat."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lightning_debugkit.monitors.activations.operation_call import OperationCall
from lightning_debugkit.stats.activation_stats import FLOORS, SIGMOID, TANH

# Layers, if one of their factors is made of parameters.
PRODUCTS = {
    "addmm", "mm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "linear", "mkldnn_linear", "_trilinear",
    "convolution", "_convolution", "cudnn_convolution", "cudnn_convolution_transpose", "mkldnn_convolution",
}  # fmt: skip
# The same: a row of the parameters for each entry of the batch.
LOOKUPS = {"embedding", "_embedding_bag", "_embedding_bag_forward_only", "index", "index_select"}
# These add their first argument to the product of the others.
_BIASED = {"addmm", "baddbmm", "addbmm", "addmv"}
# A whole recurrent layer, or a whole cell, in one kernel: what is within it cannot be seen.
RECURRENT = {
    "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "_thnn_fused_lstm_cell", "_thnn_fused_gru_cell", "_lstm_mps",
}  # fmt: skip
SOFTMAX = {"_softmax", "_safe_softmax"}
GATING = {"mul", "mul_", "addcmul", "addcmul_", "lerp", "lerp_"}
# A regression loss compares its first two arguments.
COMPARING = {"mse_loss", "smooth_l1_loss", "huber_loss", "sub", "rsub", "binary_cross_entropy"}
# A network puts its parts together by these.
_JOINING = {"add", "add_", "sub", "sub_", "mul", "mul_", "lerp", "addcmul", "cat", "stack"}
_NORMALISING = {"_softmax", "_safe_softmax", "_log_softmax"}


def is_of_the_network(call: OperationCall) -> bool:
    """Tell whether the operation still belongs to the network, and not to a loss that is made of its output.

    A hinge begins with arithmetic: ``relu(1 - x)`` is the same for all samples when it has been satisfied.
    """
    if call.name in _JOINING:
        return len(call.flows) > 1
    return call.name in _NORMALISING or normalizes(call.name) or flat(call.name, call.args, call.kwargs) is not None


def factors(name: str, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the tensors that are multiplied with each other."""
    return tensors[1:] if name in _BIASED else tensors


def normalizes(name: str) -> bool:
    """Tell whether the operation brings its input to a scale of its own."""
    return name.endswith(("batch_norm", "layer_norm", "group_norm", "rms_norm", "norm_legit", "norm_with_update"))


def convolves(name: str) -> bool:
    return "convolution" in name


@dataclass(frozen=True, slots=True)
class Flat:
    """Where an activation function is flat."""

    kind: str  # `floor` or `ends`
    low: float  # it is flat below, or at the low end
    high: float = math.inf  # it is flat above, too; infinite if it is not
    is_exact: bool = False  # its derivative there is exactly zero, not only small
    of_input: bool = False  # the limits are those of its input, else of its output


_SMOOTH = {"gelu", "silu", "mish", "elu", "softplus", "hardswish"}


def flat(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Flat | None:
    """Return where the operation is flat, ``None`` if it is no activation function that can die or saturate.

    >>> flat("relu_", (None,), {}).low, flat("clamp_min", (None, 1e-6), {}) is None
    (0.0, True)
    """
    name = name.removesuffix("_")
    if name in _SMOOTH:
        return Flat("floor", _floor(name, args, kwargs), is_exact=name == "hardswish", of_input=True)
    if name == "sigmoid":
        return Flat("ends", 1 - SIGMOID, SIGMOID)
    if name == "tanh":
        return Flat("ends", -TANH, TANH)
    if name == "hardsigmoid":
        return Flat("ends", 0.0, 1.0, is_exact=True)
    if name == "hardtanh":
        low, high = float(args[1]) if len(args) > 1 else -1.0, float(args[2]) if len(args) > 2 else 1.0
        # ReLU6: a zero is no saturation, it is what makes a ReLU.
        return Flat("floor", 0.0, high, is_exact=True) if low == 0 else Flat("ends", low, high, is_exact=True)
    return Flat("floor", 0.0, is_exact=True) if _cuts_at_zero(name, args, kwargs) else None


def _cuts_at_zero(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if name == "relu":
        return True
    if name == "threshold":
        return bool(args[1] == 0 and args[2] == 0)
    least = kwargs.get("min", args[1] if len(args) > 1 else None)
    most = kwargs.get("max", args[2] if len(args) > 2 else None)
    return name in ("clamp_min", "clamp") and not isinstance(least, Tensor) and least == 0 and most is None


def _floor(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> float:
    # softplus(x) = log(1 + exp(beta x)) / beta; elu(x) = scale alpha (exp(input_scale x) - 1)
    position, key = {"softplus": (1, "beta"), "elu": (3, "input_scale")}.get(name, (99, ""))
    steepness = args[position] if len(args) > position else kwargs.get(key, 1)
    return FLOORS[name] / float(steepness)
