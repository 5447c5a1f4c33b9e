"""Torch's operations by what they do to what a step listens for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PRODUCTS = {"mul", "__mul__", "__rmul__", "multiply"}
# Operations that leave the numbers of their first argument as they are: what made those made the result.
MOVES = {
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim", "swapaxes",
    "contiguous", "clone", "detach", "float", "double", "half", "bfloat16", "to", "type", "cpu", "cuda", "view_as",
    "reshape_as", "__getitem__", "select", "narrow", "t", "__get__", "requires_grad_", "index_select", "masked_select",
    "moveaxis", "ravel", "gather", "take_along_dim", "type_as", "clamp", "clip", "clamp_min", "clamp_max", "nan_to_num",
}  # fmt: skip
# Operations that say what range, or what form, their result has.
FORMS = {
    "softmax", "log_softmax", "sigmoid", "log_sigmoid", "special_expit", "hardsigmoid", "relu", "relu6", "tanh",
    "softplus", "exp", "elu", "square", "abs", "log", "logsumexp",
}  # fmt: skip
LOGARITHMS = {"log_softmax", "log_sigmoid"}
SHAPING = {"unsqueeze", "view", "reshape", "__getitem__", "expand", "unflatten", "view_as", "reshape_as"}
TRUNCATING = {"long", "int", "short", "to", "type", "byte"}
DROPOUTS = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
SHARES = {"sigmoid", "special_expit", "hardsigmoid", "softmax"}
GREY = 255  # white in a mask that was read as a picture
# Those that join what is of one sample with what is of the same one.
JOINED = PRODUCTS | {
    "div", "__truediv__", "true_divide", "divide", "__and__", "logical_and", "bitwise_and", "__rand__", "where",
    "minimum", "maximum", "min", "max", "pow", "__pow__",
}  # fmt: skip
VIEWS = {"view", "reshape"}
COMPARING = {"eq", "__eq__", "ne", "__ne__"}
DIFFERENCES = {"sub", "__sub__", "rsub", "__rsub__", "subtract"}
SUMS = {"add", "__add__", "__radd__"}
OUTER = DIFFERENCES | COMPARING
PICKS = {"argmax", "max", "argmin", "min"}


def adds_dimension(index: Sequence[Any]) -> bool:
    """Tell whether an index writes a dimension that was not there, as in ``x[:, 0, None]``."""
    return bool(index) and isinstance(index[0], tuple) and any(part is None for part in index[0])
