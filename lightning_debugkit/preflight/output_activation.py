"""The last activation and the loss disagree: it is applied twice, is missing, or works along the wrong dimension."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LAYERS, LossCall, Made
from lightning_debugkit.preflight.targets import OUTPUT_RANGE
from lightning_debugkit.replay.source_lines import SourceLine

# How far from 1 a row of probabilities may sum, by rounding: some units in the last place of each type.
SUM_TOLERANCE = {2: 2e-2, 4: 1e-4, 8: 1e-6}
# The share of entries above 0 from which on rows cannot be logarithms of probabilities: one entry would do, a tenth
# leaves room for densities among them.
POSITIVE_SHARE = 0.1
# How far from 1 the probabilities of half of the answers sum where they are those of no classes: logarithms that
# bfloat16 has rounded, of up to 16, are wrong by half of this.
UNNORMALISED = 0.05
PROBABILITIES = ("sigmoid", "special_expit", "hardsigmoid")

DOUBLE_SOFTMAX = Rule(
    "double-softmax",
    Severity.WARNING,
    "{function} is given probabilities, rows that sum to 1, at {place}: {function} applies softmax itself, so it "
    "is applied twice and the {stage} loss cannot fall below {floor:.3g}",
    "Give {function} the values before softmax{made}.",
    section="preflight",
    cost="once",
)
DOUBLE_SIGMOID = Rule(
    "double-sigmoid",
    Severity.WARNING,
    "{function} is given the result of {op} at {place}: {function} applies {own} itself, so that the {stage} loss sees "
    "numbers between 0 and 1 in place of logits",
    "Give {function} the values before {op}{made}.",
    section="preflight",
    cost="once",
)
MISSING_LOG_SOFTMAX = Rule(
    "missing-log-softmax",
    Severity.WARNING,
    "{function} is given {seen} at {place}: it expects logarithms of probabilities, so what it returns is not a "
    "likelihood",
    "{remedy}",
    section="preflight",
    cost="once",
)
SOFTMAX_OVER_ONE = Rule(
    "softmax-over-one",
    Severity.WARNING,
    "{what} at {place}: {consequence}",
    "{remedy}",
    section="preflight",
    cost="once",
)

_POSITIVE = "{told}: the scale that both make positive cannot be small, and what is certain cannot be said"
_TWICE = "{told}: what it takes for logits lies between 0 and 1, and the model is never sure"


def judge(call: LossCall, where: Where, stage: str) -> Iterator[Finding]:
    """Yield what is wrong between the last activation and the loss of one call."""
    common = {**call.told, "stage": stage}
    over_one = _over_one(call)
    if over_one is not None:
        told, line = over_one
        origin = {"place": line.short, "source": line.source} if line.source else {}
        yield SOFTMAX_OVER_ONE.found(where.at(line.module or ""), **{**common, **origin, **told})
        return
    made = call.made
    first = made.after if made is not None and made.after is not None and _is_repeated(made) else made
    said = f", which is applied at {first.place.short}" if first is not None and first.place.source else ""
    if call.function in INDEX_LOSSES and _is_twice(call):
        yield DOUBLE_SOFTMAX.found(where, made=said, floor=_floor(call), **common)
    elif call.function == "cross_entropy" and made is not None and made.op in PROBABILITIES:
        yield DOUBLE_SIGMOID.found(where, made=said, op=made.op, own="softmax", **common)
    elif call.function == "binary_cross_entropy_with_logits" and made is not None:
        if made.op in PROBABILITIES or (made.op == "softmax" and made.size > 1):
            yield DOUBLE_SIGMOID.found(where, made=said, op=made.op, own="sigmoid", **common)
    elif call.function in ("nll_loss", "kl_div", "ctc_loss"):
        seen, remedy = _no_logarithm(call)
        if seen:
            yield MISSING_LOG_SOFTMAX.found(where, seen=seen, remedy=remedy, **common)


def judge_twice(twice: Sequence[Made], said: Container[str], where: Where) -> Iterator[Finding]:
    """Yield an activation that is applied to its own result, on the way to a loss that is none of torch's.

    Args:
        twice: The second of each two.
        said: Rules that were told of this step, by its loss functions.
    """
    for made in twice[:1]:
        is_positive = made.after is not None and made.after.op == "softplus"
        rule = OUTPUT_RANGE if is_positive else DOUBLE_SOFTMAX if "softmax" in made.op else DOUBLE_SIGMOID
        if rule.name in said or made.after is None:
            return
        first = f" at {made.after.place.short}" if made.after.place.source else ""
        told = f"{made.op} at {made.place.short or 'training_step'} is given the result of {made.after.op}{first}"
        kept = "each makes a scale positive" if is_positive else "the model's own, if the loss has one"
        advice = f"Leave one of the two out: {kept}."
        worded = replace(rule, says=_POSITIVE if is_positive else _TWICE, advice=advice)
        yield worded.found(where, told=told, op=made.op, source=made.place.source)


def judge_picks(picks: Sequence[Made], where: Where) -> Iterator[Finding]:
    """Yield each line that picks a sample for each class, where the result is compared with the labels."""
    for made in {made.place.source: made for made in picks if made.place.source}.values():
        yield SOFTMAX_OVER_ONE.found(
            where.at(made.place.module or ""), what=f"{made.op} works along dimension 0, the samples of the batch",
            consequence="it picks a sample for each class, and compared with labels that says nothing of the model",
            remedy=f"Pass dim=1 to {made.op}, the classes.", place=made.place.short, source=made.place.source,
        )  # fmt: skip


def _is_twice(call: LossCall) -> bool:
    made = call.made
    if made is not None and _is_repeated(made):
        return True
    return call.function == "cross_entropy" and are_probabilities(call.prediction, _classes(call.prediction))


def _is_repeated(made: Made) -> bool:
    """Tell whether a softmax was given the result of another."""
    before = made.after if made.op in ("softmax", "log_softmax") else None
    return before is not None and before.op == "softmax" and before.dim == made.dim


def _classes(prediction: Tensor) -> int:
    """Return the dimension of the classes, as torch's losses have it."""
    return 0 if prediction.ndim == 1 else 1


def are_probabilities(values: Tensor, dim: int) -> bool:
    """Tell whether all entries lie in [0, 1] and sum to 1 along ``dim``, of at least two entries and two rows."""
    if not values.is_floating_point() or values.ndim <= dim or values.shape[dim] < 2 or not values.numel():
        return False
    tolerance = SUM_TOLERANCE.get(values.dtype.itemsize, 2e-2)
    values = values.float()
    sums = values.sum(dim)
    if sums.numel() < 2:
        return False
    inside = (values >= -tolerance).all() & (values <= 1 + tolerance).all()
    return bool(inside & ((sums - 1).abs() <= tolerance).all())


def _floor(call: LossCall) -> float:
    """Return the least that cross-entropy of a one-hot vector can be: -log(e / (e + C - 1))."""
    classes = call.prediction.shape[_classes(call.prediction)]
    return float(torch.log1p((classes - 1) / torch.tensor(torch.e)))


def _over_one(call: LossCall) -> tuple[dict[str, str], SourceLine] | None:
    """Return what is wrong with the dimension of softmax, and the line that chose it."""
    made, prediction = call.made, call.prediction
    op = made.op if made is not None else ""
    if made is not None and op in ("softmax", "log_softmax") and made.size == 1:
        constant = "1" if op == "softmax" else "0"
        return {
            "what": f"{op} works along dimension {made.dim} of size 1",
            "consequence": f"its result is {constant} whatever the network says, and no gradient comes back",
            "remedy": "Use sigmoid and a binary loss for one output, or softmax along the dimension of the classes.",
        }, made.place
    if call.function not in INDEX_LOSSES:
        return None
    dim = _classes(prediction)
    if prediction.ndim > 1 and prediction.shape[dim] == 1:
        return {
            "what": f"{call.function} is given one class, a prediction of shape {tuple(prediction.shape)}",
            "consequence": "softmax over one entry is 1, and the loss is 0 whatever the network says",
            "remedy": "Give the last layer one output for each class, or use binary_cross_entropy_with_logits for one.",
        }, call.place
    return _along_another(call)


def _along_another(call: LossCall) -> tuple[dict[str, str], SourceLine] | None:
    """Return that softmax works along another dimension than that of the classes, though none was left out since."""
    made, values = call.made, call.prediction
    if made is not None and made.op == "log" and made.after is not None and made.after.op == "softmax":
        made, values = made.after, values.exp()
    elif made is not None and made.op == "log_softmax":
        values = values.exp()
    if made is None or made.op not in ("softmax", "log_softmax") or not values.is_floating_point():
        return None
    dim = _classes(values)
    along_samples = made.dim == 0 and values.ndim == 2 and values.shape[0] > 1
    is_whole = values.numel() == made.count or values.shape[dim] >= made.size
    if not (along_samples or is_whole) or not _are_unnormalised(values, dim):
        return None
    if along_samples:
        left_out = ", or leave it out: cross_entropy applies it." if call.function == "cross_entropy" else "."
        return {
            "what": f"{made.op} works along dimension 0, the samples of the batch",
            "consequence": "what is said of one sample depends on the others, and its classes do not sum to 1",
            "remedy": f"Pass dim=1 to {made.op}{left_out}",
        }, made.place
    return {
        "what": f"{made.op} works along dimension {made.dim} of size {made.size}, which are not the "
        f"{values.shape[dim]} classes of {call.function}",
        "consequence": "the probabilities of the classes of one answer do not sum to 1",
        "remedy": f"Give {made.op} the dimension of the classes, as by dim=-1 where they come last.",
    }, made.place


def _are_unnormalised(probabilities: Tensor, dim: int) -> bool:
    """Tell whether half of the rows along ``dim`` do not sum to 1."""
    sums = probabilities.float().sum(dim)
    return bool(((sums - 1).abs() > UNNORMALISED).float().mean() > 0.5)


def _is_of_sigmoid(made: Made | None) -> bool:
    """Tell whether these are logarithms of sigmoid."""
    if made is None or made.op != "log":
        return made is not None and made.op == "log_sigmoid"
    return made.after is not None and made.after.op in PROBABILITIES


def _no_logarithm(call: LossCall) -> tuple[str, str]:
    values = call.prediction
    if not values.is_floating_point() or not values.numel():
        return "", ""
    dims = (_classes(values),) if call.function == "nll_loss" else (values.ndim - 1,)
    if any(are_probabilities(values, dim) for dim in dims):
        return "probabilities, rows that sum to 1", f"Give {call.function} the result of log_softmax, not of softmax."
    is_layer = call.made is not None and call.made.op in LAYERS
    if call.function != "kl_div" and is_layer and float((values > 0).float().mean()) >= POSITIVE_SHARE:
        instead = "Use cross_entropy, or apply" if call.function == "nll_loss" else "Apply"
        return "numbers above 0, as a layer gives them", f"{instead} log_softmax before {call.function}."
    if call.function == "nll_loss" and _is_of_sigmoid(call.made) and _are_unnormalised(values.exp(), dims[0]):
        return (
            "logarithms of sigmoid, each class by itself",
            "Use cross_entropy, or log_softmax in its place: what grows for one class must shrink for the others.",
        )
    return "", ""
