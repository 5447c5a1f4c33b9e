"""What limits the model, how sure that is, and what to do next."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.trivial_answer import TRIVIAL, AgainstTrivial, against_constant, trivial_finding
from lightning_debugkit.evaluation.bias_variance.advice import gaps_in_order, steps
from lightning_debugkit.evaluation.bias_variance.bias_variance_notes import (
    WORDS,
    bias_variance_notes,
    is_label_shift,
    start_of,
)
from lightning_debugkit.evaluation.bias_variance.measured_case import BiasVarianceCase
from lightning_debugkit.evaluation.bias_variance.units_of_error import NAMES
from lightning_debugkit.stats.error_gaps import Gap
from lightning_debugkit.stats.intervals import Interval
from lightning_debugkit.stats.sample_size import samples_after_for_gap, samples_for_gap, smallest_visible_gap

_SAYS = "{after} is {value}, {gap} ({bounds}) worse than {before}"

_HERE, _NEVER = "bias-variance", ("class-never-predicted",)
UNDERFITTING = Rule("underfitting", Severity.INFO, _SAYS, "{first}", section=_HERE, cost="once", can_follow=_NEVER)
OVERFITTING = Rule("overfitting", Severity.INFO, _SAYS, "{first}", section=_HERE, cost="once", can_follow=_NEVER)
SHIFT = Rule(
    "distribution-shift", Severity.INFO, _SAYS, "{first}", section=_HERE, cost="once", can_follow=_NEVER, on_data=True
)
VALIDATION = Rule("validation-overfitting", Severity.INFO, _SAYS, "{first}", section=_HERE, cost="once")
RULES = {
    "avoidable_bias": UNDERFITTING,
    "variance": OVERFITTING,
    "distribution_shift": SHIFT,
    "validation_overfitting": VALIDATION,
}


@dataclass(frozen=True)
class Conclusion:
    """The end of an analysis."""

    verdict: str
    next: list[str]  # what to try, first things first
    gaps: dict[str, Gap]  # the parts of the last error
    notes: list[str]
    told: list[str] = field(default_factory=list)  # gaps beyond doubt, the most limiting first
    pressing: list[str] = field(default_factory=list)  # those that a missed goal makes a warning
    trivial: AgainstTrivial | None = None  # the comparison with always answering the same, where the model is no better


def conclude(case: BiasVarianceCase) -> Conclusion:
    """Judge a case."""
    gaps = case.gaps
    why = _unjudgeable(case)
    notes = list(bias_variance_notes(case))
    trivial = next((c for split in ("val", "test", "train") if (c := _compared(case, split)) is not None), None)
    if trivial is not None and trivial.is_trivial:
        said = f"no better than always answering class {trivial.name}: the model has not learned to tell them apart"
        return Conclusion(said, [TRIVIAL.advice], gaps, notes, trivial=trivial)
    if why:
        return Conclusion(f"cannot tell: {why}", _without_verdict(case), gaps, notes)
    seen = [name for name, gap in gaps.items() if case.side(gap) == "above"]
    if case.goal is None:
        seen = [name for name in seen if name != "avoidable_bias"]
    shifted = is_label_shift(case)
    told = gaps_in_order(gaps, seen)
    advice = [step for name in told for step in _steps(name, case, shifted)]
    # A gap that is smaller than the first beyond doubt is worth knowing, but presses nobody.
    pressing = [name for name in told if gaps[name].high >= gaps[told[0]].low] if case.is_missed else []
    verdict = _verdict(case, told, shifted)
    if case.goal is None:
        advice.append("State a goal: let a human label about a hundred samples, and give that error as goal=.")
    if not told:
        advice = [*_more_samples(case), *advice]
    return Conclusion(verdict, list(dict.fromkeys(advice)), gaps, notes, told, pressing)


def bias_variance_findings(case: BiasVarianceCase, conclusion: Conclusion, where: Where) -> Iterator[Finding]:
    """Word what is beyond doubt as findings."""
    shifted = is_label_shift(case)
    if conclusion.trivial is not None:
        found = trivial_finding(where, conclusion.trivial, f"class {conclusion.trivial.name}", "samples")
        yield from [] if found is None else [found]
    for name in conclusion.told:
        gap = conclusion.gaps[name]
        rule = SHIFT if name == "validation_overfitting" and shifted else RULES[name]
        severity = Severity.WARNING if name in conclusion.pressing else Severity.INFO
        first = _steps(name, case, shifted)[0]
        found = rule.found(where, severity=severity, first=first, **_words(case, gap))
        yield replace(found, evidence=_evidence(case, gap))


def _compared(case: BiasVarianceCase, split: str) -> AgainstTrivial | None:
    """Return the comparison of a split whose classes are known; of one class there is nothing to tell apart.

    A prediction that is not finite counts as wrong, and says nothing of what was learned.
    """
    table = None if case.broken.get(split) else case.by_class.get(split)
    return None if table is None or (table[0] > 0).sum() < 2 else against_constant(table[0] - table[1], table[0])


def _words(case: BiasVarianceCase, gap: Gap) -> dict[str, str]:
    unit = case.unit
    before = f"the goal of {unit.value(gap.before.value)}"
    if gap.frm != "goal":
        before = f"{unit.of(gap.frm)}, {unit.value(gap.before.value)}"
    return {
        "after": unit.of(gap.to),
        "value": unit.value(gap.after.value),
        "gap": unit.gap(gap.value),
        "bounds": unit.gap_between(gap.interval),
        "before": before,
    }


def _evidence(case: BiasVarianceCase, gap: Gap) -> dict[str, Any]:
    """Return the numbers that the message is made of."""
    return {
        "metric": case.unit.metric,
        gap.frm: gap.before.value,
        gap.to: gap.after.value,
        "gap": gap.value,
        "low": gap.low,
        "high": gap.high,
        "samples": gap.after.n,
        "goal": None if case.goal is None else case.goal.value,
    }


def _verdict(case: BiasVarianceCase, told: list[str], shifted: bool) -> str:
    gaps, unit = case.gaps, case.unit
    if case.is_reached:
        last = list(case.chain)[-1]
        rest = f"; what remains is {', '.join(_part(case, name, shifted) for name in told)}" if told else ""
        return f"goal reached: {unit.of(last)} is {_bounded(case, case.errors[last])}{rest}"
    if not told:
        return _cannot_tell_yet(case)
    said = "; then ".join(_part(case, name, shifted) for name in told)
    bias = gaps.get("avoidable_bias")
    if case.goal is None and bias is not None and bias.low > max(gaps[name].high for name in told):
        said += (
            f"; but the {unit.of('train')} of {unit.value(bias.after.value)} is the larger part, and without a goal "
            "nobody can tell how much of it is avoidable"
        )
    return said


def _part(case: BiasVarianceCase, name: str, shifted: bool) -> str:
    gap, unit = case.gaps[name], case.unit
    word = "distribution shift" if name == "validation_overfitting" and shifted else WORDS[name]
    before = "the goal" if gap.frm == "goal" else unit.of(gap.frm)
    return f"{word}: {unit.of(gap.to)} is {unit.gap(gap.value)} ({unit.gap_between(gap.interval)}) worse than {before}"


def _cannot_tell_yet(case: BiasVarianceCase) -> str:
    unit = case.unit
    judged = {name: gap for name, gap in case.gaps.items() if case.goal is not None or name != "avoidable_bias"}
    known = {name: gap for name, gap in judged.items() if case.side(gap) in ("across", "below")}
    if not judged:
        return "cannot tell: without a goal or a second error there is nothing to compare"
    if not known:
        return f"cannot tell: the uncertainty of {unit.metric} is unknown"
    name, gap = max(known.items(), key=lambda each: each[1].value)
    if gap.side == "below":
        return f"cannot tell yet: no gap is worse than chance; {WORDS[name]} is {unit.gap(gap.value)}, see the notes"
    visible = unit.gap(smallest_visible_gap(gap.before, gap.after))
    return (
        f"cannot tell yet: no gap stands out from chance; the largest, {unit.of(gap.to)} against "
        f"{start_of(case, gap)}, is {unit.gap(gap.value)} ({unit.gap_between(gap.interval)}), and these samples could "
        f"show one of {visible}"
    )


def _unjudgeable(case: BiasVarianceCase) -> str:
    unit = case.unit
    for split, error in case.chain.items():
        if math.isnan(error.value):
            return f"{unit.of(split)} is nan"
        if not math.isfinite(error.value):
            return f"{unit.of(split)} is {error.value}"
        broken = case.broken.get(split, 0)
        if 2 * broken >= (error.n or 0) > 0 and broken:
            return f"predictions of {broken:,} of {error.n:,} {NAMES[split]} samples are not finite"
        classes = case.by_class.get(split)
        if classes is not None and (classes[0] > 0).sum() == 1:
            return f"all targets of the {NAMES[split]} data are of one class, {int(classes[0].argmax())}"
    if not case.chain:
        return "no error could be measured"
    if len(case.chain) == 1 and case.goal is None:
        return f"only the {unit.of(next(iter(case.chain)))} is known, and there is no goal"
    return ""


def _without_verdict(case: BiasVarianceCase) -> list[str]:
    found = []
    if any(case.broken.get(split) or not math.isfinite(error.value) for split, error in case.chain.items()):
        found.append("Find out where the numbers break: GradientAnomalyDetector names operation and samples.")
    if any((table[0] > 0).sum() == 1 for table in case.by_class.values()):
        found.append("Shuffle before splitting: a set of one class cannot tell a good model from a constant.")
    if len(case.chain) < 2:
        found.append("Give trainer.fit a validation loader, and call trainer.test.")
    if case.goal is None:
        found.append("State a goal: let a human label about a hundred samples, and give that error as goal=.")
    return found


def _more_samples(case: BiasVarianceCase) -> Iterator[str]:
    """Say how many samples would show the largest gap, if it is as large as it looks."""
    open_ = [gap for gap in case.gaps.values() if case.side(gap) == "across" and gap.value > 0]
    if case.goal is None:
        open_ = [gap for gap in open_ if gap.frm != "goal"]
    for gap in sorted(open_, key=lambda gap: -gap.value)[:1]:
        counts = samples_for_gap(gap.value, gap.before, gap.after)
        there = case.facts.samples
        if gap.frm in ("train", "train_dev") and there and (gap.before.n or 0) <= there < (counts[0] or 0):
            yield _more_after(case, gap, there)
            continue
        sides = zip((gap.frm, gap.to), (gap.before, gap.after), counts, strict=True)
        asked = [f"{n:,} {NAMES[split]} samples instead of {now.n:,}" for split, now, n in sides if n and now.n]
        if asked:
            yield f"Evaluate about {' and '.join(asked)}: a true gap of {case.unit.gap(gap.value)} would show."


def _more_after(case: BiasVarianceCase, gap: Gap, there: int) -> str:
    """Say how many samples would show a gap where there are too few training samples to evaluate more of them."""
    n, true = samples_after_for_gap(gap.value, gap.before, gap.after, there), case.unit.gap(gap.value)
    other, now = NAMES[gap.to], gap.before.n or 0
    if n is None or gap.to == "train_dev":
        return (
            f"Judge by the other gaps or collect more data: a true gap of {true} cannot be seen with the {there:,} "
            f"training samples that there are, however many {other} samples are evaluated."
        )
    first = f"all {there:,} {NAMES[gap.frm]} samples instead of {now:,} and " if now < there else ""
    return f"Evaluate {first}about {n:,} {other} samples instead of {gap.after.n:,}: a true gap of {true} would show."


def _steps(name: str, case: BiasVarianceCase, shifted: bool) -> list[str]:
    if name == "validation_overfitting" and shifted:
        return ["Give validation and test data the same shares of classes: the model is no worse within a class."]
    return steps(name, case)


def _bounded(case: BiasVarianceCase, error: Interval) -> str:
    return f"{case.unit.value(error.value)} ({case.unit.between(error)})"
