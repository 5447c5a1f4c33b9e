"""Why an operation breaks on what it was given: a number below zero, a mean of nothing, the spread of one sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.data.batches import leaves, tensors

# Eigenvalues this close, relative to the largest, make the gradient of their vectors overflow or cancel.
_REPEATED = 16

MATMULS = ("mm", "addmm", "bmm", "baddbmm", "convolution", "linear", "matmul", "dot", "mv", "addmv")
_TAKES_NUMBERS = ("mul", "add", "sub", "rsub", "full", "full_like", "masked_fill", "fill")

Facts = Callable[[tuple[Any, ...], Mapping[str, Any], Any], str]


def cause_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    """Return why the operation ``name`` may break, forward or backward, empty if no known reason applies.

    >>> cause_of("sqrt", (torch.tensor([4.0, -1.0]),), {}, None)
    'negative'
    >>> cause_of("mean", (torch.empty(0),), {}, None)
    'empty'
    """
    given = list(tensors((args, kwargs)))
    if any(tensor.device.type == "meta" or tensor.layout is not torch.strided for tensor in given):
        return ""
    if any(isinstance(leaf, float) and math.isnan(leaf) for _, leaf in leaves((args, kwargs))):
        return "number"
    if name in _TAKES_NUMBERS and any(
        isinstance(leaf, float) and math.isinf(leaf) for _, leaf in leaves((args, kwargs))
    ):
        return "infinity"
    facts = _FACTS.get(name)
    told = "" if facts is None else facts(args, kwargs, result)
    return told or ("empty" if any(tensor.numel() == 0 and tensor.is_floating_point() for tensor in given) else "")


def _below(limit: float) -> Facts:
    def facts(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
        given = args[0]
        if given.is_complex():
            return ""
        return "negative" if bool((given < limit).any()) else "zero" if bool((given == limit).any()) else ""

    return facts


def _at_zero(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    return "zero" if bool((args[0] == 0).any()) else ""


def _power(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    base, exponent = args[0], args[1]
    if not isinstance(base, Tensor) or base.is_complex():
        return ""
    fraction = exponent != exponent.round() if isinstance(exponent, Tensor) else torch.tensor(exponent % 1 != 0)
    if bool(((base < 0) & fraction).any()):
        return "negative"
    return "zero" if bool((base == 0).any()) else ""


def _quotient(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    below = args[1]
    return "zero" if (bool((below == 0).any()) if isinstance(below, Tensor) else below == 0) else ""


def _product(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    one, other = args
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return ""
    for broken, factor in ((one, other), (other, one)):
        hidden = broken.isnan()
        if bool(hidden.any()) and _is_mask(factor) and not bool((hidden & (factor != 0)).any()):
            return "masked"
    return ""


def _within(low: float, high: float) -> Facts:
    def facts(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
        given = args[0]
        if given.is_complex():
            return ""
        is_beyond = bool(((given < low) | (given > high)).any())
        return "beyond" if is_beyond else "edge" if bool(((given == low) | (given == high)).any()) else ""

    return facts


def _spread(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    given, dims = args[0], args[1] if len(args) > 1 else kwargs.get("dim")
    dims = range(given.ndim) if dims is None or not dims else dims
    count = math.prod(given.shape[dim] for dim in dims)
    correction = kwargs.get("correction", 1)
    if count <= (1 if correction is None else correction):
        return "one" if count else "empty"
    return ""


def _alignment(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    """CTC has no way through a target with more labels than the input has steps; a repeated one takes a blank more."""
    labels, steps, lengths = args[1], *(torch.as_tensor(part).cpu() for part in args[2:4])
    if labels.ndim == 1:
        rows = list(labels.split(lengths.tolist()))
    else:
        rows = [row[:length] for row, length in zip(labels, lengths.tolist(), strict=True)]
    needed = torch.tensor([len(row) + int((row[1:] == row[:-1]).sum()) for row in rows])
    return "short" if bool((needed > steps).any()) else ""


def _labels(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    weighed = result[1]
    return "ignored" if weighed.numel() == 1 and float(weighed) == 0 and args[1].numel() else ""


def _spectrum(at: int) -> Facts:
    def facts(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
        values = result[at].detach()
        if values.shape[-1] < 2 or values.is_complex() or not bool(torch.isfinite(values).all()):
            return ""
        ordered = values.sort(-1).values
        near = _REPEATED * torch.finfo(values.dtype).eps * ordered.abs().amax(-1, keepdim=True)
        return "repeated" if bool((ordered.diff(dim=-1) <= near).any()) else ""

    return facts


def _norm(args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> str:
    return "zero" if any(bool((part == 0).any()) for part in tensors(result)) else ""


_FACTS: dict[str, Facts] = {
    **dict.fromkeys(("sqrt", "rsqrt", "log", "log2", "log10"), _below(0.0)),
    "log1p": _within(-1.0, math.inf),
    "pow": _power,
    "reciprocal": _at_zero,
    "mul": _product,
    "div": _quotient,
    "xlogy": _quotient,
    **dict.fromkeys(("acos", "asin", "atanh", "erfinv"), _within(-1.0, 1.0)),
    "acosh": _within(1.0, math.inf),
    "logit": _within(0.0, 1.0),
    **dict.fromkeys(("std", "var", "std_mean", "var_mean"), _spread),
    "_ctc_loss": _alignment,
    "nll_loss_forward": _labels,
    "nll_loss2d_forward": _labels,
    "_linalg_eigh": _spectrum(0),
    "_linalg_svd": _spectrum(1),
    "linalg_vector_norm": _norm,
}


def counts(name: str, args: tuple[Any, ...], result: Any) -> bool:
    """Tell whether an operation counts the entries of a mask, and finds none in some place.

    >>> mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    >>> counts("sum", (mask, [1]), mask.sum(1)), counts("sum", (mask,), mask.sum())
    (True, False)
    """
    if name not in ("sum", "count_nonzero") or not isinstance(result, Tensor) or bool((result != 0).all()):
        return False
    return _is_mask(args[0])


def _is_mask(tensor: Tensor) -> bool:
    return tensor.dtype == torch.bool or bool(((tensor == 0) | (tensor == 1)).all())


def out_of_range(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Return which number of an argument that selects lies outside of what there is, empty if none is known to.

    >>> out_of_range("embedding", (torch.zeros(50, 4), torch.tensor([3, 50])), {})
    'index 50, where there are 50 rows (0 to 49)'
    """
    kind, index, size, spared = _selection(name, args)
    if index is None or not index.numel():
        return ""
    rows = index.reshape(-1)
    bad = rows[((rows < 0) | (rows >= size)) & (rows != spared)]
    return f"{kind} {int(bad[0])}, where there are {size} {_COUNTED[kind]} (0 to {size - 1})" if bad.numel() else ""


_COUNTED = {"index": "rows", "target": "classes"}


def _selection(name: str, args: tuple[Any, ...]) -> tuple[str, Tensor | None, int, int | None]:
    """Return what selects in an operation, out of how many, and the number that is let through."""
    if name == "embedding" and len(args) > 1:
        return "index", args[1], args[0].shape[0], None
    if name in ("nll_loss_forward", "nll_loss2d_forward") and len(args) > 4:
        return "target", args[1], args[0].shape[1 if args[0].ndim > 1 else 0], args[4]
    if name in ("gather", "index_select", "scatter", "scatter_add", "index_add") and len(args) > 2:
        return "index", args[2], args[0].shape[args[1]], None
    return "", None, 0, None
