"""How to read the numbers of a case: what was measured how, what is open, what else could explain it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_debugkit.core.name_lists import begun
from lightning_debugkit.evaluation.bias_variance.advice import best_epoch, onset, optimism
from lightning_debugkit.evaluation.bias_variance.measured_case import BiasVarianceCase
from lightning_debugkit.evaluation.bias_variance.units_of_error import NAMES
from lightning_debugkit.stats.error_gaps import Gap
from lightning_debugkit.stats.rate_decomposition import bootstrap_rate_decomposition, rate_decomposition
from lightning_debugkit.stats.sample_size import smallest_visible_gap

WORDS = {
    "avoidable_bias": "underfitting",
    "variance": "overfitting",
    "distribution_shift": "distribution shift",
    "validation_overfitting": "validation overfitting",
}


def bias_variance_notes(case: BiasVarianceCase) -> Iterator[str]:
    unit, errors = case.unit, case.errors
    yield from case.notes
    if case.goal is None:
        yield "No goal is stated: avoidable bias is at most the distance to the best value there is."
    if case.running is not None and "train" in errors:
        n = errors["train"].n
        of = f" of {case.train_samples:,}" if case.train_samples and n and n < case.train_samples else ""
        yield (
            f"{begun(unit.of('train'))} is {unit.value(errors['train'].value)} in eval mode on {n:,}{of} samples; "
            f"{case.running[0]} as it was logged is {case.running[1]:.4g}, averaged while the weights moved."
        )
    for name, gap in case.gaps.items():
        if gap.side == "below":
            yield f"{begun(WORDS[name])} is negative, {unit.gap(gap.value)}: {_causes(name)}."
        elif case.side(gap) == "across":
            visible = smallest_visible_gap(gap.before, gap.after)
            yield (
                f"{begun(unit.of(gap.to))} and {start_of(case, gap)} cannot be told apart: {unit.gap(gap.value)} "
                f"({unit.gap_between(gap.interval)}); these samples could show a gap of {unit.gap(visible)}."
            )
    if "variance" in case.gaps and "train_dev" not in errors:
        yield "Variance holds any shift between training and validation data: train_dev=0.1 would part them."
    yield from _about_test(case)
    for split, count in case.broken.items():
        if count:
            name = NAMES.get(split, split)
            yield f"{count:,} {name} samples have predictions that are not finite; they count as wrong."
    yield from _over_time(case)


def _causes(name: str) -> str:
    return {
        "avoidable_bias": "the goal is too modest, or training data repeat themselves",
        "variance": "validation data are easier, they are in the training data, or the training data are augmented",
        "distribution_shift": "validation data are easier than the training data's own kind",
        "validation_overfitting": "test data are easier, or have other shares of classes",
    }[name]


def _about_test(case: BiasVarianceCase) -> Iterator[str]:
    if "validation_overfitting" not in case.gaps:
        return
    gap, unit = case.gaps["validation_overfitting"], case.unit
    most = optimism(case)
    if most:
        yield (
            f"Choosing the best of {case.choices:,} models makes the {unit.of('val')} look up to {unit.gap(most)} "
            "better than it is."
        )
    if gap.low > most and case.side(gap) == "above":
        yield (
            "The test error is worse than choosing among models explains: the test data are harder or of another kind, "
            "or validation data are in the training data."
        )
    if "val" in case.by_class and "test" in case.by_class:
        parts = rate_decomposition(*_tables(case))
        yield (
            f"Of the {unit.gap(gap.value)} from validation to test, {unit.gap(parts.labels)} come from other shares of "
            f"classes and {unit.gap(parts.within)} from other errors within classes."
        )


def _over_time(case: BiasVarianceCase) -> Iterator[str]:
    best = best_epoch(case)
    if best is not None and len(case.past) > 1:
        yield f"{begun(case.unit.of('val'))} was best in epoch {best[0]}: {case.unit.value(best[1])}."
    since = onset(case)
    if since is not None and len(case.past) > 1:
        yield f"Variance has been beyond doubt since epoch {since}."


def start_of(case: BiasVarianceCase, gap: Gap) -> str:
    """Return what a gap starts from, in words."""
    return "the goal" if gap.frm == "goal" else case.unit.of(gap.frm)


def is_label_shift(case: BiasVarianceCase) -> bool:
    """Tell whether the gap from validation to test is one of class shares, not of the model's errors within classes."""
    if "val" not in case.by_class or "test" not in case.by_class:
        return False
    labels, within = bootstrap_rate_decomposition(*_tables(case))
    return labels.side == "above" and within.side != "above"


def _tables(case: BiasVarianceCase) -> Any:
    val, test = case.by_class["val"], case.by_class["test"]
    size = max(val.shape[1], test.shape[1])
    padded = [[[*row.tolist(), *[0] * (size - len(row))] for row in table] for table in (val, test)]
    return tuple((supports, wrong) for supports, wrong in padded)
