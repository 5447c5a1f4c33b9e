"""Targets that the loss cannot take, or that the last operation cannot reach."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, DIFFERENCE_LOSSES, INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall, Made
from lightning_debugkit.replay.source_lines import SourceLine

# Targets beyond the output's range: the share of them, and how far in standard deviations of all, from which on it is
# no matter of noise at the edge. Choices, not laws.
OUTSIDE_SHARE = 0.05
OUTSIDE_SPREAD = 0.05
SHOWN = 6
RANGES = {
    "sigmoid": (0.0, 1.0),
    "special_expit": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, math.inf),
    "exp": (0.0, math.inf),
    "square": (0.0, math.inf),
    "abs": (0.0, math.inf),
    "elu": (-1.0, math.inf),
    "log_softmax": (-math.inf, 0.0),
    # As torch itself calls functional.logsigmoid.
    "log_sigmoid": (-math.inf, 0.0),
}

LABEL_OUT_OF_RANGE = Rule(
    "label-out-of-range",
    Severity.ERROR,
    "{function} at {place} is given labels {labels} for {room}",
    "{remedy}",
    section="data",
    cost="once",
)
LABEL_NOT_INTEGRAL = Rule(
    "label-not-integral",
    Severity.WARNING,
    "the labels that {function} is given at {place} had their fractions cut off",
    "Look at the labels in the dataset: a class is a whole number; for other targets use a regression loss.",
    section="data",
    cost="once",
)
OUTPUT_RANGE = Rule(
    "output-range",
    Severity.WARNING,
    "{share:.0%} of the targets of {function} at {place} lie outside of what {op} can give: targets from {low:.3g} to "
    "{high:.3g}, outputs from {least:.3g} to {most:.3g}",
    "{remedy}",
    section="preflight",
    cost="once",
)
FLOATS = "the labels {shape} that {function} is given at {place} are {kind}: class numbers must be whole, and it raises"
WHOLE = "Make labels whole numbers where they are read, as by label.long(); for other targets use a regression loss."
SEVERAL = (
    "{function} at {place} is given targets with several classes in {share:.0%} of the rows, which sum to up to "
    "{most:g}: it wants rows that sum to 1, the probabilities of one class"
)
APART = "Use binary_cross_entropy_with_logits, where several classes may hold at once; else divide each row by its sum."
BLANK = (
    "{share:.0%} of the targets of {function} at {place} are {blank}, the blank: it stands for nothing between two "
    "letters, and cannot be one"
)
BESIDE = (
    "Number the letters from 1 where blank is 0, or pass as blank a number that no letter has; let target_lengths "
    "leave out what fills the rows up."
)
SHARE = (
    "the overlap at {place} is made of what a layer gives, numbers of any size: it wants shares between 0 and 1, and "
    "of others it has no bounds and may be divided by 0"
)


def judge(call: LossCall, where: Where) -> Iterator[Finding]:
    """Yield what is wrong with the targets of one loss call."""
    if call.function in INDEX_LOSSES and not call.target.is_floating_point():
        if call.truncated:
            yield LABEL_NOT_INTEGRAL.found(where, **call.told)
        yield from _classes_out_of_range(call, where)
    elif call.function in INDEX_LOSSES and call.target.shape == _without_classes(call.prediction):
        rule = replace(LABEL_NOT_INTEGRAL, severity=Severity.ERROR, says=FLOATS, advice=WHOLE)
        kind = str(call.target.dtype).removeprefix("torch.")
        yield rule.found(where, kind=kind, shape=tuple(call.target.shape), **call.told)
    elif call.function == "cross_entropy" and call.target.shape == call.prediction.shape:
        yield from _several_classes(call, where)
    elif call.function in BINARY_LOSSES:
        yield from _binary_out_of_range(call, where)
    elif call.function == "ctc_loss":
        yield from _blank_spoken(call, where)
    yield from _unreachable(call, where)


def judge_shares(places: Sequence[SourceLine], where: Where) -> Iterator[Finding]:
    """Yield each line at which the overlap of a mask with logits is taken, as for a Dice loss without its sigmoid."""
    for place in {place.source: place for place in places if place.source}.values():
        rule = replace(OUTPUT_RANGE, says=SHARE, advice="Apply sigmoid to the logits, or softmax over the classes.")
        yield rule.found(where.at(place.module or ""), place=place.short, source=place.source)


def _without_classes(prediction: Tensor) -> torch.Size:
    """Return the shape of class numbers for a prediction ``(N, C, ...)`` or ``(C,)``."""
    return torch.Size((*prediction.shape[:1], *prediction.shape[2:]) if prediction.ndim > 1 else ())


def _several_classes(call: LossCall, where: Where) -> Iterator[Finding]:
    target = call.target.float()
    if target.ndim < 2 or not target.numel() or not bool(((target == 0) | (target == 1)).all()):
        return
    sums = target.sum(1)  # rows of zeros leave a sample out
    share = float((sums > 1).float().mean())
    if share >= OUTSIDE_SHARE:
        rule = replace(LABEL_OUT_OF_RANGE, severity=Severity.WARNING, says=SEVERAL, advice=APART)
        yield rule.found(where, share=share, most=float(sums.max()), **call.told)


def _classes_out_of_range(call: LossCall, where: Where) -> Iterator[Finding]:
    prediction, target = call.prediction, call.target
    classes = prediction.shape[1] if prediction.ndim > 1 else prediction.shape[0]
    ignored = int(call.options.get("ignore_index", -100))
    counted = target[target != ignored]
    wrong = counted[(counted < 0) | (counted >= classes)]
    if not wrong.numel():
        return
    bad, seen = torch.unique(wrong).tolist(), torch.unique(counted)
    low, high, kinds = int(seen.min()), int(seen.max()), len(seen)
    if low == 1 and high == classes:
        remedy = f"Labels count from 1 to {classes}: subtract 1."
    elif low >= 1 and bad == [classes]:  # a batch need not hold them all
        remedy = f"If labels count from 1 to {classes}, subtract 1; else give the last layer {high + 1} outputs."
    elif seen.tolist() == [0, 255]:
        remedy = "Masks of 0 and 255 have two classes: divide them by 255."
    elif len(bad) == 1 and (bad[0] < 0 or bad[0] == 255):
        remedy = f"If {bad[0]} means 'no label', pass ignore_index={bad[0]}; else correct it in the dataset."
    elif kinds <= classes:
        remedy = f"Map the labels to 0..{classes - 1}, or give the last layer {high + 1} outputs."
    else:
        remedy = f"Give the last layer {high + 1} outputs, or drop these labels."
    room = f"{classes} classes, 0..{classes - 1}"
    yield LABEL_OUT_OF_RANGE.found(where, labels=_listed(bad), room=room, remedy=remedy, **call.told)


def _blank_spoken(call: LossCall, where: Where) -> Iterator[Finding]:
    """Yield that targets of CTC hold the blank, which stands for nothing that is said."""
    blank, lengths = int(call.options.get("blank", 0)), call.options.get("target_lengths")
    if lengths is None:
        return
    lengths = torch.as_tensor(lengths, device=call.target.device).reshape(-1, 1)
    is_said = torch.arange(call.target.shape[-1], device=call.target.device) < (
        lengths if call.target.ndim > 1 else lengths.sum()
    )
    share = float((call.target[is_said.expand_as(call.target)] == blank).float().mean())
    if share > 0:
        rule = replace(LABEL_OUT_OF_RANGE, severity=Severity.WARNING, says=BLANK, advice=BESIDE)
        yield rule.found(where, blank=blank, share=share, **call.told)


def _binary_out_of_range(call: LossCall, where: Where) -> Iterator[Finding]:
    # Without a reduction the step may mask what stands for "unknown".
    if call.options.get("reduction", "mean") == "none" or not call.target.numel():
        return
    wrong = call.target[(call.target < 0) | (call.target > 1)]
    if wrong.numel():
        low, high = float(call.target.min()), float(call.target.max())
        remedy = "Map the two labels to 0 and 1." if low in (-1.0, 1.0) else "Bring the targets between 0 and 1."
        bad = torch.unique(wrong).tolist()
        yield LABEL_OUT_OF_RANGE.found(
            where, labels=_listed(bad), room="targets between 0 and 1", remedy=remedy, low=low, high=high, **call.told
        )


def _unreachable(call: LossCall, where: Where) -> Iterator[Finding]:
    made, target = call.made, call.target
    if made is None or not target.numel():
        return
    if (logits := _logits_of(call)) is not None and logits.op in ("relu", "softplus", "exp", "square", "abs"):
        low = float((target < 0.5).float().mean())
        if low >= OUTSIDE_SHARE:
            line = f" at {logits.place.short}" if logits.place.source else ""
            remedy = f"Leave {logits.op} out{line}: sigmoid takes any number."
            yield OUTPUT_RANGE.found(
                where, op=f"{logits.op} and sigmoid", share=low, low=0.0, high=1.0, least=0.5, most=1.0,
                remedy=remedy, **call.told,
            )  # fmt: skip
        return
    if call.function not in DIFFERENCE_LOSSES or made.op not in RANGES or not target.is_floating_point():
        return
    least, most = RANGES[made.op]
    values = target.float()
    slack = OUTSIDE_SPREAD * float(values.std(correction=0))
    share = float(((values < least - slack) | (values > most + slack)).float().mean())
    if share >= OUTSIDE_SHARE and values.numel() > 1:  # one number alone says little of the others
        line = f" at {made.place.short}" if made.place.source else ""
        remedy = f"Leave {made.op} out{line}, or scale the targets into its range."
        yield OUTPUT_RANGE.found(
            where, op=made.op, share=share, low=float(values.min()), high=float(values.max()), least=least, most=most,
            remedy=remedy, **call.told,
        )  # fmt: skip


def _logits_of(call: LossCall) -> Made | None:
    """Return how what enters the sigmoid was made, be it the loss's own or one before it."""
    if call.function == "binary_cross_entropy_with_logits":
        return call.made
    is_sigmoid = call.made is not None and call.made.op in ("sigmoid", "special_expit", "hardsigmoid")
    return call.made.after if call.function == "binary_cross_entropy" and is_sigmoid and call.made is not None else None


def _listed(numbers: list[float]) -> str:
    shown = ", ".join(f"{number:g}" for number in numbers[:SHOWN])
    return shown + (", ..." if len(numbers) > SHOWN else "")
