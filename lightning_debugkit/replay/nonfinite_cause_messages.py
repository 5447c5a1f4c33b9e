"""The words for a number that broke: what the operation did, by its mechanism where that is known, and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightning_debugkit.data.batches import indexed
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.nonfinite_causes import MATMULS

_LARGE = 1e6  # far above what scaled inputs and targets reach
_WILD = 1e12  # beyond what a batch of that size makes of sound weights, where the one before it had a sound loss
_PLAIN = {"std_mean": "std", "var_mean": "var", "_linalg_eigh": "eigh", "_linalg_svd": "svd", "_ctc_loss": "ctc_loss"}
_PLAIN |= dict.fromkeys(("nll_loss_forward", "nll_loss2d_forward"), "the mean loss")
_AT_ITS_EDGE = ("zero", "edge")  # causes: the argument lies on the border of what the operation is defined for
_AT_A_POLE = (*_AT_ITS_EDGE, "negative", "infinity", "short")  # those by which infinity is no overflow

_INFINITE = "look for what is infinite in it; to leave entries out use torch.where or masked_fill, not a factor of 0"
# What an operation does when it gives infinity, when it gives NaN, and what to do about it.
_OPERATIONS = {
    "log": ("log(0)", "log of a negative number", "clamp the argument of log from below"),
    "log2": ("log2(0)", "log2 of a negative number", "clamp the argument from below"),
    "log10": ("log10(0)", "log10 of a negative number", "clamp the argument from below"),
    "log1p": ("log1p(-1)", "log1p of a number below -1", "clamp the argument from below"),
    "div": ("division by 0", "0/0", "add a small epsilon to the denominator"),
    "reciprocal": ("division by 0", "division by NaN", "add a small epsilon to the denominator"),
    "sqrt": ("sqrt at 0", "sqrt of a negative number", "add a small epsilon under the root"),
    "rsqrt": ("rsqrt(0)", "rsqrt of a negative number", "add a small epsilon under the root"),
    "pow": ("a power at 0", "a fractional power of a negative number", "clamp the base away from 0"),
    "xlogy": ("xlogy at 0", "xlogy of a negative number", "clamp its second argument from below"),
    "exp": (
        "overflow of exp",
        "exp of NaN",
        "clamp its argument from above, as of a log-variance; in a softmax by hand use logsumexp or log_softmax",
    ),
    "expm1": ("overflow of expm1", "expm1 of NaN", "clamp its argument from above"),
    "_softmax": ("softmax", "softmax of a row with nothing but -inf", "leave one position of each row unmasked"),
    "_safe_softmax": ("softmax", "softmax of infinite scores", "keep the scores finite"),
    "_log_softmax": ("log_softmax", "log_softmax of a row with nothing but -inf", "leave one class finite"),
    "logsumexp": ("logsumexp", "logsumexp of infinite numbers", "keep its arguments finite"),
    "sub": ("overflow of a difference", "inf - inf", "look for what is infinite in it"),
    "add": ("overflow of a sum", "inf - inf", "look for what is infinite in it"),
    "mul": ("overflow of a product", "0 * inf", _INFINITE),
    "acos": ("acos at -1 or 1", "acos of a number beyond 1", "clamp its argument to (-1, 1)"),
    "asin": ("asin at -1 or 1", "asin of a number beyond 1", "clamp its argument to (-1, 1)"),
    "atanh": ("atanh at -1 or 1", "atanh of a number beyond 1", "clamp its argument to (-1, 1)"),
    "erfinv": ("erfinv at -1 or 1", "erfinv of a number beyond 1", "clamp its argument to (-1, 1)"),
    "acosh": ("acosh at 1", "acosh of a number below 1", "clamp its argument from below, a little above 1"),
    "logit": ("logit at 0 or 1", "logit of a number outside of 0 to 1", "pass eps=1e-6 to torch.logit"),
    "_to_copy": ("overflow of a cast to fewer bits", "a cast of NaN", "use precision='bf16-mixed'"),
    "linalg_vector_norm": ("a norm", "a norm at 0", "add a small epsilon under the root"),
}
_INFINITE_AT_0 = ("log", "log2", "log10", "rsqrt", "div", "reciprocal")

Words = tuple[str, str]


def shown_name(base: str) -> str:
    """Return the name under which users know an operation.

    >>> shown_name("_linalg_eigh"), shown_name("mean")
    ('eigh', 'mean')
    """
    return _PLAIN.get(base, base)


@dataclass(frozen=True)
class LossRise:
    """How the loss rose, step by step, before it broke."""

    first: float  # where it began to rise
    last: float  # the last that was finite; infinite where the first update was enough to break it
    steps: int  # optimizer steps from the one to the other
    rate: float  # learning rate of these steps


@dataclass(frozen=True)
class Circumstances:
    """What is known of a step beside its replay."""

    batch_idx: int  # position of the batch in the epoch, -1 if it is not one batch
    dataset_indices: Sequence[Any] = ()  # entries of the dataset that the samples are
    below: Sequence[str] = ()  # which entries these are of the data that a subset or a chain of data sets is made of
    note: str = ""  # why the replay could not tell, or why entries are not known
    low_precision: bool = False  # the forward pass runs in 16 bits
    is_last: bool = False  # the batch is the last of its epoch
    growth: LossRise | None = None  # how the loss rose in the steps before, `None` if it did not run away


def _base(found: Diagnosis) -> str:
    return found.op.removeprefix("aten.").partition(".")[0].removesuffix("_")


def overflowed(found: Diagnosis) -> bool:
    """Tell whether the operation broke because its numbers were too large already."""
    # A product of matrices makes NaN of finite numbers, too, where it overflows in both directions.
    is_beyond = found.value == "inf" or _base(found) in MATMULS
    return is_beyond and found.reach is not None and found.cause not in _AT_A_POLE


def ran_away(found: Diagnosis, when: Circumstances) -> bool:
    """Tell whether the loss rose until the operation overflowed: line and samples are not to blame then."""
    if when.growth is None or found.reach is None or not overflowed(found) or found.largest[1] > _LARGE:
        return False
    return math.isfinite(when.growth.last) or max(found.reach) > _WILD


def words_of_operation(found: Diagnosis, step: int, when: Circumstances) -> Words:
    """Return the words for an operation of the step: those of its mechanism, or else those of the operation."""
    base = _base(found)
    known = _of_mechanism(base, found, step, when)
    if known is not None:
        return known
    infinite, undefined, remedy = _OPERATIONS.get(base, (f"{base} overflows", f"{base} gives NaN", "look at its input"))
    if base in MATMULS:
        infinite, undefined = f"overflow of {base}", f"{base} gives NaN"
        remedy = (
            "use precision='bf16-mixed', or keep this layer in 32 bits"
            if when.low_precision
            else "look at the size of its weights and inputs; lower the learning rate"
        )
    # Backwards, a root or power at 0 gives infinity or, times 0, NaN: the place is the same.
    is_at_edge = found.origin == "gradient" and found.cause in _AT_ITS_EDGE
    what = infinite if found.value == "inf" or is_at_edge else undefined
    if found.origin == "gradient":
        what = f"the gradient of {what}" if base in _OPERATIONS else f"the backward of {found.backward or base}"
    return what, remedy


def _of_mechanism(base: str, found: Diagnosis, step: int, when: Circumstances) -> Words | None:
    """Return what happened and what to do, ``None`` if no mechanism is known by which ``base`` broke."""
    return (
        _nothing_there(base, found, when.is_last)
        or _by_hand(base, found)
        or _outside(base, found)
        or _backward(base, found)
        or _overflow(base, found, step, when)
    )


def _nothing_there(base: str, found: Diagnosis, is_last: bool) -> Words | None:
    """Return the words for an operation that had nothing, or too little, to work on."""
    name = shown_name(base)
    if found.cause == "ignored":
        return (
            f"{name} over no label (all labels of the batch are ignored: ignore_index)",
            "leave out batches without a label, or divide a loss of reduction='sum' by the number of labels",
        )
    if found.cause == "empty":
        return (
            f"{name} of no elements",
            "skip this term where nothing is selected, or divide the sum by the number of elements, at least 1",
        )
    if found.cause == "mask":
        return (
            "0/0 (the mask that is counted selects nothing)",
            "clamp the count to at least 1, or skip this term where the mask is empty",
        )
    if found.cause == "short":
        return (
            f"{name} of an input that is too short for its target (a step for each label, one more between two alike)",
            f"leave such samples out, or pass zero_infinity=True to {name}",
        )
    if found.cause == "one" and found.size == 1:
        return (
            f"{name} of one sample (all that the {'last batch of the epoch' if is_last else 'batch'} holds)",
            "pass drop_last=True to the DataLoader, or correction=0 (unbiased=False)",
        )
    if found.cause == "one":
        return (
            f"{name} of one number",
            "take it over a dimension with at least two entries, or pass correction=0 (unbiased=False)",
        )
    return None


def _by_hand(base: str, found: Diagnosis) -> Words | None:
    """Return the words for a number that the code itself put there."""
    if base == "lift_fresh":
        return f"a tensor is given {found.value} by the code", "look at what the number is computed from"
    if found.cause == "number":
        return f"{shown_name(base)} is given the number nan by the code", "look for float('nan') or a broken float"
    if found.cause == "infinity" and found.value == "inf" and found.origin != "gradient":
        return f"{shown_name(base)} is given the number inf by the code", "look for float('inf') or a broken float"
    return None


def _outside(base: str, found: Diagnosis) -> Words | None:
    """Return the words for an operation that has no value at what it was given."""
    if found.origin == "gradient" or found.value != "nan" or found.cause != "negative":
        return None
    if base not in ("sqrt", "rsqrt", "pow"):
        return None
    return _OPERATIONS[base][1], f"clamp {'the base' if base == 'pow' else f'the argument of {base}'} from below"


def _backward(base: str, found: Diagnosis) -> Words | None:
    """Return the words for a gradient that breaks by what the forward operation was given."""
    name = shown_name(base)
    if found.origin != "gradient":
        return None
    if found.cause in ("negative", "beyond"):
        hidden = "torch.where hides it in the forward pass only" if found.chosen else "the loss does not show it"
        twice = "; torch.where keeps a branch out of the value, not out of the gradient" if found.chosen else ""
        return f"the gradient of {_OPERATIONS[base][1]} ({hidden})", f"clamp the argument before {name}{twice}"
    # What is infinite in the forward pass, and not in the loss, was left out on the way.
    if found.cause in _AT_ITS_EDGE and found.chosen and (found.value == "nan" or base in _INFINITE_AT_0):
        at, away = (f"{name} at 0", " away from 0") if found.cause == "zero" else (_OPERATIONS[base][0], "")
        return (
            f"the gradient of {at} (0 * inf where torch.where leaves {name} out)",
            f"clamp the argument{away} before {name}; torch.where keeps a branch out of the value, not out of the "
            "gradient",
        )
    if found.cause == "repeated":
        values, alone = ("singular values", "svdvals") if "svd" in base else ("eigenvalues", "eigvalsh")
        return (
            f"the gradient of {name} at repeated {values}",
            f"use the values alone ({alone}), or add a small random diagonal so that no two are equal",
        )
    return None


def _overflow(base: str, found: Diagnosis, step: int, when: Circumstances) -> Words | None:
    """Return the words for numbers that were too large already, with what made them so."""
    if not overflowed(found) or found.reach is None:
        return None
    weights, others = found.reach
    path, largest = found.largest
    what = f"overflow of {shown_name(base)}"
    if largest > _LARGE:
        return (
            f"{what}, as {indexed(path)} reaches {largest:.2g}",
            f"scale {indexed(path)}; the learning rate is not to blame",
        )
    if (rise := when.growth) is not None and ran_away(found, when):
        way = f"{rise.steps} steps" if rise.steps > 1 else "one step"
        to = f"{rise.last:.3g}" if math.isfinite(rise.last) else "more than its type holds"
        return (
            f"the loss ran away, from {rise.first:.3g} to {to} in {way} at a learning rate of {rise.rate:.3g}, until "
            f"{shown_name(base)} overflowed",
            f"lower the learning rate (it is {rise.rate:.3g}), by ten to begin with; if the loss still rises, clip "
            "the gradients and bring inputs and targets to a size near 1",
        )
    if base not in MATMULS:
        return (what, "look at the size of its input") if base in ("pow", "div", "reciprocal") else None
    if when.low_precision:
        return None
    if weights > max(1e3, others):
        grown = "lower the learning rate, clip the gradients, or bring inputs and targets to a size near 1"
        blame = "look at the initialisation" if step == 0 else grown
        return f"{what}, as its weights reach {weights:.2g}", f"{blame}; weights of a sound layer stay near 1"
    return f"{what}, as its input reaches {others:.2g}", "look at what makes its input so large" + (
        "" if step == 0 else "; if it grew over the steps before, lower the learning rate"
    )
