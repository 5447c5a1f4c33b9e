"""The first losses against what they must be: of untrained weights, of likelihoods, of a sum over the batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, CLASS_LOSSES, DIFFERENCE_LOSSES, INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.values import judge_targets
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.replay.source_lines import SourceLine

# Weights that know nothing give each of C classes the same chance: ln C (A. Karpathy, A Recipe for Training Neural
# Networks, 2019, "verify loss @ init"). How far above is too far is a choice: healthy programs with a frozen body or
# several attention layers begin at up to 4.2 times that, raw features and heavy last layers at 8 and more.
FACTOR = 6.0
# Losses with a margin lower the logit of the target on purpose, and weights that were loaded raise it: both are seen
# as a gap between the target's logit and the others' that chance does not explain, and that is no trifle: tied
# embeddings favour the token itself, which alone moves the mean of many.
GAP = 4.0
SHIFT = 0.3  # of the gaps' own spread; a margin of 0.35 on cosines of 64 numbers is 2.8
SAMPLES = 8
# A last bias that states how rare a class is (T.-Y. Lin et al., Focal Loss for Dense Object Detection, 2017, 4.1) with
# its sign turned: one label in ten or fewer, and logits that are much the same and on the other side of 0. The factor
# is a choice; at one label in ten the loss is six times that of the logits turned round.
RARE = 0.1
SAME = 0.25  # of the mean logit, that they spread by
TURNED = 4.0
# Of the chance level, from which on nothing has been learned that could be unlearned on purpose.
UNTRAINED = 0.9

LOSS_AT_INIT = Rule(
    "loss-at-init",
    Severity.WARNING,
    "the first loss is {loss:.3g} where untrained weights should give {expected:.3g} ({why}): {what}",
    "{remedy}",
    section="loss",
    cost="once",
    can_follow=("input-not-normalized",),
)
LOSS_REDUCTION = Rule(
    "loss-reduction",
    Severity.INFO,
    "the loss is a sum over the batch ({function} with reduction='sum' at {place}): it grows with the batch size, and "
    "a last batch that is smaller counts less",
    "Divide by the number of samples, or use reduction='mean', and choose the learning rate anew.",
    section="loss",
    cost="once",
)
NEGATIVE_LOSS = Rule(
    "negative-loss", Severity.WARNING, "{function} at {place} {fault}", "{remedy}", section="loss", cost="once"
)
ZERO_LOSS = Rule(
    "zero-loss",
    Severity.WARNING,
    "the training loss was exactly 0 in each of the first {steps} steps, before anything was learned",
    "Look at what the loss is computed from: an empty mask, one class, a batch without pairs, or a factor of 0.",
    section="loss",
    cost="once",
    can_follow=("softmax-over-one",),
)


def judge(call: LossCall, where: Where, is_untrained: bool) -> Iterator[Finding]:
    """Yield what is wrong with the value of one loss call of the first training step."""
    if call.result is not None and call.result.numel() and call.result.is_floating_point():
        yield from _negative(call, float(call.result.float().min()), where)
    if is_untrained:
        yield from _at_init(call, where)
        if call.function in DIFFERENCE_LOSSES:
            named = "{function} at {place}".format(**call.told)
            yield from judge_targets(call.prediction, call.target, named, where)


def judge_sum(calls: Sequence[LossCall], loss: Tensor, where: Where) -> Iterator[Finding]:
    """Yield that the step's loss is a sum over its samples."""
    for call in calls:
        is_sum = call.options.get("reduction") == "sum" and call.result is not None and call.prediction.ndim > 0
        if not is_sum or call.prediction.shape[0] < 2 or call.result is None:
            continue
        if torch.equal(call.result.reshape(-1).float(), loss.detach().reshape(-1).float()):
            yield LOSS_REDUCTION.found(where, **call.told)
            return


def judge_likelihoods(
    likelihoods: Sequence[tuple[Tensor, SourceLine]], loss: Tensor, where: Where
) -> Iterator[Finding]:
    """Yield that the step's loss is the mean or sum of log-probabilities itself, and not its negative."""
    for value, line in likelihoods:
        is_loss = torch.equal(value.reshape(-1).float(), loss.detach().reshape(-1).float())
        if is_loss and float(value) < 0:
            fault = f"is the loss itself ({float(value):.3g}), and not its negative: training makes the labels unlikely"
            yield NEGATIVE_LOSS.found(
                where, function="the mean of log-probabilities", place=line.short or "training_step", loss=float(value),
                fault=fault, remedy="Put a minus before it.", source=line.source,
            )  # fmt: skip
            return


def judge_negated(calls: Sequence[LossCall], loss: Tensor, where: Where) -> Iterator[Finding]:
    """Yield that the step's loss is a classification loss with a minus before it, though nothing was learned yet."""
    for call in calls:
        if call.function not in CLASS_LOSSES or call.result is None or call.result.numel() != 1:
            continue
        value, own = float(call.result), float(loss)
        classes = call.prediction.shape[1] if call.function in INDEX_LOSSES and call.prediction.ndim > 1 else 2
        if value >= UNTRAINED * math.log(max(classes, 2)) and math.isclose(-own, value, rel_tol=1e-4):
            fault = f"is the loss with a minus before it ({own:.3g}): training makes the labels unlikely without bound"
            yield NEGATIVE_LOSS.found(where, fault=fault, remedy="Take the minus away.", loss=own, **call.told)
            return


def judge_grey(places: Sequence[SourceLine], loss: Tensor, where: Where) -> Iterator[Finding]:
    """Yield that the step's loss is below 0, as a mask of 0 and 255 counts in it where one of 0 and 1 is meant."""
    if places and loss.numel() == 1 and float(loss) < 0:
        fault = f"counts each pixel 255 times: the loss is {float(loss):.3g}, and the overlap is no share any more"
        yield NEGATIVE_LOSS.found(
            where, function="the product of probabilities and a mask of 0 and 255",
            place=places[0].short or "training_step", loss=float(loss), fault=fault,
            remedy="Divide the mask by 255.", source=places[0].source,
        )  # fmt: skip


def _negative(call: LossCall, least: float, where: Where) -> Iterator[Finding]:
    if call.function in ("cross_entropy", *BINARY_LOSSES):
        outside = call.target.is_floating_point() and bool(((call.target < 0) | (call.target > 1)).any())
        if least < 0 and outside:
            fault = f"returns {least:.3g}, though it cannot be negative"
            remedy = "Bring the targets between 0 and 1."
            yield NEGATIVE_LOSS.found(where, loss=least, fault=fault, remedy=remedy, **call.told)


def _at_init(call: LossCall, where: Where) -> Iterator[Finding]:
    logits, target = call.prediction.float(), call.target
    if call.are_cosines:  # they are multiplied by 30 or 64 on purpose
        return
    if call.function == "cross_entropy" and not target.is_floating_point() and logits.ndim > 1:
        rows = logits.movedim(1, -1).reshape(-1, logits.shape[1])
        labels = target.reshape(-1)
        kept = labels != int(call.options.get("ignore_index", -100))
        rows, labels = rows[kept], labels[kept]
        classes = rows.shape[1]
        is_valid = bool(((labels >= 0) & (labels < classes)).all())
        # As many classes as samples: pairs within the batch are compared, whose logits have a temperature.
        if len(labels) < SAMPLES or classes < 2 or classes == logits.shape[0] or not is_valid:
            return
        loss, expected = float(F.cross_entropy(rows, labels)), math.log(classes)
        own = rows.gather(1, labels[:, None]).squeeze(1)
        gaps = own - (rows.sum(1) - own) / (classes - 1)
        why = f"ln {classes}, all classes alike"
    elif call.function == "binary_cross_entropy_with_logits" and logits.shape == target.shape:
        if logits.numel() < SAMPLES:
            return
        target = target.float()
        loss, expected = float(F.binary_cross_entropy_with_logits(logits, target)), math.log(2)
        if call.options.get("weight") is None and call.options.get("pos_weight") is None:
            yield from _turned_prior(call, logits, target, loss, where)
        gaps = (logits * (2 * target - 1)).reshape(-1)
        rows, why = logits, "ln 2, both classes alike"
    else:
        return
    error = float(gaps.std()) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    is_chance = abs(float(gaps.mean())) <= max(GAP * error, SHIFT * float(gaps.std()) if len(gaps) > 1 else 0.0)
    if math.isfinite(loss) and loss > FACTOR * expected and is_chance:
        yield LOSS_AT_INIT.found(
            where, loss=loss, expected=expected, why=why, source=call.place.source,
            what=f"logits spread over {float(rows.max() - rows.min()):.3g} before anything is learned",
            remedy="Scale the inputs to about unit size, or start the last layer with smaller weights.",
        )  # fmt: skip


def _turned_prior(call: LossCall, logits: Tensor, target: Tensor, loss: float, where: Where) -> Iterator[Finding]:
    """Yield that the logits begin where the rare label would be the common one."""
    share, mean = float(target.mean()), float(logits.mean())
    rare = min(share, 1 - share)
    if not 0 < rare <= RARE or mean * (share - 0.5) >= 0 or float(logits.std()) > SAME * abs(mean):
        return
    expected = float(F.binary_cross_entropy_with_logits(-logits, target))
    # Logits of the size that states a rare label, and no small offset of weights drawn at random.
    if loss > TURNED * expected and abs(mean) >= math.log((1 - RARE) / RARE):
        yield LOSS_AT_INIT.found(
            where, loss=loss, expected=expected, why="the same logits with the other sign", source=call.place.source,
            what=f"they are {mean:.3g} on average, though {share:.2g} of the labels are positive",
            remedy="Turn the sign of the last layer's bias: log(p / (1 - p)) for a share p of positive labels.",
        )  # fmt: skip
