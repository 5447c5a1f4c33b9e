"""What to try next: the lecture's lists in their order, minus what the run already does, each with its reason.

The lists are those of Tobin, Troubleshooting Deep Neural Networks, Full Stack Deep Learning, 2019; what more data,
training longer and fresh validation data are for, of Ng, Machine Learning Yearning, 2018, chapters 25 to 27 and 42.
"""

from __future__ import annotations

from lightning_debugkit.evaluation.bias_variance.measured_case import BiasVarianceCase
from lightning_debugkit.evaluation.bias_variance.training_facts import TrainingFacts
from lightning_debugkit.stats.error_gaps import GAPS, Gap
from lightning_debugkit.stats.selection_bias import selection_optimism

_TO_BOUND = 3.92  # width of a 95 % interval in standard errors
_LARGE_DROPOUT = 0.5


def steps(name: str, case: BiasVarianceCase) -> list[str]:
    """Return what to try against one gap, first things first."""
    gap = case.gaps[name]
    return {
        "avoidable_bias": _underfitting,
        "variance": _overfitting,
        "distribution_shift": _shift,
        "validation_overfitting": _validation,
    }[name](case, gap)


def _underfitting(case: BiasVarianceCase, gap: Gap) -> list[str]:
    facts, unit = case.facts, case.unit
    found = []
    fell = still_falling(case)
    if fell is not None:
        early = " and early stopping off" if facts.early_stopping else ""
        found.append(
            f"Train longer{early}: {unit.of('train')} still fell from {unit.value(fell[0])} to {unit.value(fell[1])} "
            "in the last quarter of the run."
        )
    found.append(f"Make the model larger: with {_parameters(facts)}, {unit.of('train')} is {_value(case, gap)}.")
    if facts.frozen > 0:
        found.append(f"Train more of the model: {100 * facts.frozen:.0f} % of its parameters are frozen.")
    held = _regularised(case)
    if held:
        found.append(f"Regularise less: there is {held}.")
    found += [
        "Look at a hundred training samples that are wrong, and count what they have in common.",
        "Try an architecture that is known to do well on such data.",
        "Tune hyper-parameters, the learning rate first.",
        "Give the model features that it lacks.",
    ]
    return found


def _overfitting(case: BiasVarianceCase, gap: Gap) -> list[str]:
    facts, unit = case.facts, case.unit
    n = f" than these {facts.samples:,} samples" if facts.samples else ""
    found = [f"Collect more training data{n}: learning_curve() tells what it would bring."]
    if not facts.norms:
        found.append("Add normalisation layers, such as batch norm or layer norm: the model has none.")
    if facts.augmentation is False:
        found.append("Augment the training data: a sample comes out the same whenever it is read.")
    elif facts.augmentation is None:
        found.append("Augment the training data, unless the run does so already: that could not be read off it.")
    found += _regularise(case)
    found += [
        "Look at a hundred validation samples that are wrong, and count what they have in common.",
        "Try an architecture that is known to do well on such data.",
        "Tune hyper-parameters.",
    ]
    best = best_epoch(case)
    if not facts.early_stopping and best is not None and best[0] != case.past[-1].epoch:
        found.append(f"Stop early: {unit.of('val')} was best in epoch {best[0]}, at {unit.value(best[1])}.")
    found.append("Leave out features that hardly matter.")
    if facts.parameters:
        samples = f" for {facts.samples:,} samples" if facts.samples else ""
        found.append(f"Make the model smaller, last of all: it has {_parameters(facts)}{samples}.")
    return found


def _regularise(case: BiasVarianceCase) -> list[str]:
    facts = case.facts
    if not facts.dropout and not facts.weight_decay:
        return ["Regularise: the model has no dropout and its optimizer no weight decay."]
    if not facts.weight_decay:
        return [f"Add weight decay: the optimizer has none beside a dropout of {facts.dropout:g}."]
    if not facts.dropout:
        return [f"Add dropout: the model has none beside a weight decay of {facts.weight_decay:g}."]
    if facts.dropout >= _LARGE_DROPOUT:
        return [f"Raise the weight decay of {facts.weight_decay:g}: a dropout of {facts.dropout:g} is high already."]
    return [f"Regularise more: dropout is {facts.dropout:g}, weight decay {facts.weight_decay:g}."]


def _shift(case: BiasVarianceCase, gap: Gap) -> list[str]:
    train_dev, val = case.unit.value(gap.before.value), case.unit.value(gap.after.value)
    return [
        f"Look at validation samples that are wrong ({val}, against {train_dev} on held-out training data), and "
        "collect training data like them.",
        "Make such training data from what there is: noise, lighting, background, handwriting as validation has them.",
        "Adapt the model to the validation domain: fine-tune on a part of it, or align the features of both.",
    ]


def _validation(case: BiasVarianceCase, gap: Gap) -> list[str]:
    n = f" than {gap.before.n:,} samples" if gap.before.n else ""
    found = [f"Collect fresh or more validation data{n}, from where the test data come."]
    if case.choices > 1:
        found.append(f"Choose among fewer models, or by cross_validate(): {case.choices:,} were compared on one set.")
    return found


def optimism(case: BiasVarianceCase) -> float:
    """Return how much better than it is the best of the models compared can look by chance: an upper bound."""
    val = case.errors.get("val")
    if val is None or case.choices < 2 or not val.high >= val.low:
        return 0.0
    return selection_optimism((val.high - val.low) / _TO_BOUND, case.choices)


def still_falling(case: BiasVarianceCase) -> tuple[float, float] | None:
    """Return training errors of three quarters of the run and of its end, if it surely became better in between."""
    past = [moment for moment in case.past if "train" in moment.errors]
    if len(past) < 4:
        return None
    early, late = past[-1 - max(1, len(past) // 4)].errors["train"], past[-1].errors["train"]
    return (early.value, late.value) if case.worse(early, late).side == "above" else None


def best_epoch(case: BiasVarianceCase) -> tuple[int, float] | None:
    """Return the epoch whose validation error was best, and that error."""
    past = [(moment.epoch, moment.errors["val"].value) for moment in case.past if "val" in moment.errors]
    past = [(epoch, value) for epoch, value in past if value == value]
    if not past:
        return None
    return (max if case.higher_is_better else min)(past, key=lambda each: each[1])


def onset(case: BiasVarianceCase) -> int | None:
    """Return the epoch since which the gap from training to held-out data has been beyond doubt, to the end."""
    since = None
    for moment in case.past:
        held = moment.errors.get("train_dev", moment.errors.get("val"))
        if held is None or "train" not in moment.errors:
            continue
        open_ = case.worse(held, moment.errors["train"]).side == "above"
        since = (moment.epoch if since is None else since) if open_ else None
    return since


def gaps_in_order(gaps: dict[str, Gap], names: list[str]) -> list[str]:
    """Order gaps as the lecture does; a later one goes first only if it is larger beyond doubt."""
    waiting = [name for name in GAPS if name in names]
    ordered = []
    while waiting:
        first = next(n for n in waiting if all(gaps[other].low <= gaps[n].high for other in waiting))
        ordered.append(first)
        waiting.remove(first)
    return ordered


def _parameters(facts: TrainingFacts) -> str:
    return f"{facts.parameters:,} trainable parameter{'' if facts.parameters == 1 else 's'}"


def _value(case: BiasVarianceCase, gap: Gap) -> str:
    return case.unit.value(gap.after.value)


def _regularised(case: BiasVarianceCase) -> str:
    facts = case.facts
    held = [f"a dropout of {facts.dropout:g}"] if facts.dropout else []
    held += [f"a weight decay of {facts.weight_decay:g}"] if facts.weight_decay else []
    return " and ".join(held)
