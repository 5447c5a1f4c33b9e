"""What of an analysis is beyond chance and worth telling, by rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import BROKEN_NUMBERS, Rule
from lightning_debugkit.core.trivial_answer import against_constant, trivial_finding
from lightning_debugkit.evaluation.error_analysis.error_summary import picked
from lightning_debugkit.evaluation.error_analysis.slice_columns import class_column
from lightning_debugkit.evaluation.error_analysis.unpredicted_classes import never_predicted
from lightning_debugkit.stats.class_merging import worth_of_merging
from lightning_debugkit.stats.confused_pairs import Pair
from lightning_debugkit.stats.exact_tests import hypergeometric_tail

if TYPE_CHECKING:
    from lightning_debugkit.evaluation.error_analysis.errors_json import ErrorAnalysisResult

CONFUSED = Rule(
    "confused-classes",
    Severity.INFO,
    "{target} is taken for {predicted} in {count} of {support} {unit} ({low:.0%} to {high:.0%}), "
    "{lift:.1f} times as often as by chance",
    "Look at the examples of this pair in the report first: {part:.0%} of all mistakes are of this pair.",
    section="error-analysis",
    cost="once",
)
MERGE = Rule(
    "merge-candidate",
    Severity.INFO,
    "{first} and {second} are taken for each other {count} times, with a kappa of {apart:.2f} between the two (at most "
    "{apart_high:.2f}): as one class, kappa of all would rise from {kappa:.3f} to {kappa_merged:.3f}",
    "Ask whether the two need to be told apart; if so, give both more samples that show the difference.",
    section="error-analysis",
    cost="once",
)
LABELS = Rule(
    "label-issue",
    Severity.INFO,
    "{issues} of {n} labels look wrong: there the model is {confidence:.0%} sure of another class on average; of the "
    "{rest} labels that look right it gives {right:.1%}",
    "Look through the list of the report from the top and mend the labels that are wrong.",
    section="error-analysis",
    cost="once",
    can_follow=("weak-slice",),
    on_data=True,
)
_WEAK_ADVICE = (
    "Train the model further first: it errs more often than labels look wrong, and most of these may be its own "
    "mistakes. Then look through the list of the report from the top."
)
SLICE = Rule(
    "weak-slice",
    Severity.INFO,
    "where {slice}, {rate:.1%} of {n} samples are wrong ({low:.1%} to {high:.1%}), {rest_rate:.1%} elsewhere",
    "Add training samples where {slice}, and look at those that go wrong.",
    section="error-analysis",
    cost="once",
    on_data=True,
)
SURE = Rule(
    "overconfident",
    Severity.INFO,
    "{error:.1%} ({low:.1%} to {high:.1%}) of the answers are wrong, while the model's probabilities expect "
    "{claimed:.1%}",
    "Do not use its probabilities as they are: fit a temperature on held-out data, or train with label smoothing.",
    section="error-analysis",
    cost="once",
)
NONFINITE = Rule(
    "nonfinite-scores",
    Severity.WARNING,
    "the scores of {broken} of {samples} samples are NaN or infinite: they are not counted",
    "Look at what the module gives for the first of them; GradientAnomalyDetector names the operation in training.",
    section="error-analysis",
    cost="once",
    can_follow=(
        *BROKEN_NUMBERS,
        "nonfinite-activation",
        "nonfinite-buffer",
        "nonfinite-gradient",
        "nonfinite-loss",
        "nonfinite-parameter",
        "optimizer-nonfinite",
    ),
)
_PASSES = {"validate": "in validation", "test": "in the test"}
_CHANCE = 0.01
_TWICE = 2.0
_HALF = 0.5


def error_analysis_findings(case: ErrorAnalysisResult, where: Where, is_over: bool) -> Iterator[Finding]:
    """Yield what is beyond chance, each with the pass that it is of; of some only when training has come to its end."""
    said = _PASSES.get(case.moment.stage, f"in {case.moment.stage}")
    return (replace(finding, message=f"{said}, {finding.message}") for finding in _findings(case, where, is_over))


def _findings(case: ErrorAnalysisResult, where: Where, is_over: bool) -> Iterator[Finding]:
    totals = case.found.totals
    if totals.broken:
        yield NONFINITE.found(
            where, stage=case.moment.stage, broken=totals.broken, samples=totals.samples + totals.broken
        )
    if is_over and case.found.form.task not in ("multilabel", "detection") and case.found.confusion.total:
        confusion = case.found.confusion
        compared = against_constant(np.asarray(confusion.hits), np.asarray(confusion.support))
        name = "" if compared is None else _name(case, compared.name)
        trivial = trivial_finding(where, compared, name, case.unit)
        yield from [] if trivial is None else [trivial]
    if case.found.totals.wrong:
        yield from _confused(case, where)
        yield from _merge(case, where)
        yield from _labels(case, where)
        yield from _slice(case, where)
        yield from _sure(case, where)
    if is_over:
        yield from never_predicted(case, where)


def is_all_broken(finding: Finding) -> bool:
    """Tell whether a finding says that no sample has scores that are finite, as weights that broke give."""
    return finding.rule == NONFINITE.name and finding.evidence["broken"] == finding.evidence["samples"]


def _name(case: ErrorAnalysisResult, index: int) -> str:
    return str(case.names[index]) if index < len(case.names) else f"class {index}"


def _tail(count: float, n: float, expected: float) -> float:
    """Return how likely so many of ``n`` are, or more, where ``expected`` are on average."""
    if count <= 0:
        return 1.0
    return float(special.betainc(count, max(n - count, 0) + 1, min(expected / n, 1.0)))


def _own(case: ErrorAnalysisResult) -> list[Pair]:
    return [pair for pair in case.pairs if case.found.none not in (pair.target, pair.predicted)]


def _chance(case: ErrorAnalysisResult, pair: Pair) -> float:
    """Return how likely a pair is among mistakes that fall anywhere."""
    weight = case.found.totals.weight
    return _tail(pair.count * weight, case.found.totals.wrong * weight, pair.count / pair.lift * weight)


def _confused(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    classes = case.found.confusion.classes
    tested = max(classes * (classes - 1), 1)
    for pair in _own(case):
        if _chance(case, pair) * tested < _CHANCE:
            yield CONFUSED.found(
                where,
                stage=case.moment.stage,
                target=case.names[pair.target],
                predicted=case.names[pair.predicted],
                **picked(pair, "count", "support"),
                unit=case.unit,
                **picked(pair, "low", "high", "lift"),
                part=pair.count / max(case.found.confusion.total - case.found.confusion.correct, 1),
                classes=[pair.target, pair.predicted],
            )
            return


def _merge(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    """Two classes are worth being one if the model loses more of what tells them apart than it keeps.

    Classes that are mixed up are so in both directions; other class weights would mend one alone. Kappa rises with
    the merge of any pair that is told apart worse than classes are on average: half of all pairs are such.
    """
    chances = {(pair.target, pair.predicted): _chance(case, pair) for pair in _own(case)}
    confusion = case.found.confusion
    tested = max(confusion.classes * (confusion.classes - 1), 1)
    for merge in case.merges:
        there = chances.get((merge.first, merge.second), 1.0)
        back = chances.get((merge.second, merge.first), 1.0)
        if min(there, back) * tested >= _CHANCE or max(there, back) >= _CHANCE:
            continue
        pair, weight = (merge.first, merge.second), case.found.totals.weight
        worth = worth_of_merging(confusion, *pair, weight)
        # The pair was picked among all for its rise.
        rise = worth_of_merging(confusion, *pair, weight, 1 - _CHANCE / tested).rise
        if rise.side == worth.kappa.side == "above" and worth.apart.high < _HALF:
            yield MERGE.found(
                where,
                stage=case.moment.stage,
                first=case.names[merge.first],
                second=case.names[merge.second],
                **picked(merge, "count", "kappa", "kappa_merged"),
                rise_low=worth.rise.low,
                rise_high=worth.rise.high,
                apart=worth.apart.value,
                apart_low=worth.apart.low,
                apart_high=worth.apart.high,
                **picked(merge, "accuracy", "accuracy_merged"),
                classes=list(pair),
            )
            return


def _labels(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    """A model that errs, however sure, mostly has the right class in second place; a wrong label is in any."""
    issues, records = case.issues, case.found.records
    # A model that is wrong as often as right accuses nobody.
    if issues is None or records is None or not len(issues) or case.accuracy.low < _HALF:
        return
    # Nor does one accuse the labels of a class that it never predicts: it does not know the class.
    known = np.asarray(case.found.confusion.predicted_count.tolist()) > 0
    suspects = int(known[issues.labels].sum())
    if suspects < len(issues) - suspects:
        return
    table = records.table()
    first, label = table.predicted, table.label
    sums = np.bincount(label, weights=table.probability, minlength=records.classes + 1)
    usual = sums / np.maximum(np.bincount(label, minlength=len(sums)), 1)
    # Of those kept, also where these are the three likeliest: one class alone is likelier than the label.
    wrong, second = (first != label) & known[label], (table.probabilities > table.probability[:, None]).sum(axis=1) == 1
    surest = table.confidence >= usual[first]
    counts = [int(part.sum()) for part in (wrong & surest, wrong & surest & second, wrong & ~surest)]
    sure, seconds, others = counts
    if not sure or not others:
        return
    second_others = int((wrong & ~surest & second).sum())
    # So few seconds among the surest mistakes, if sureness told nothing of it.
    chance = hypergeometric_tail(sure - seconds, sure, sure + others - seconds - second_others, sure + others)
    if chance < _CHANCE:
        rest = len(label) - len(issues)
        right = int((first == label).sum()) / max(rest, 1)  # the model contradicts each label that looks wrong
        rule = replace(LABELS, advice=_WEAK_ADVICE) if 1 - right > issues.rate.high else LABELS
        yield rule.found(
            where,
            stage=case.moment.stage,
            issues=len(issues),
            n=len(label),
            confidence=float(np.mean(issues.probability)),
            rest=rest,
            right=right,
            low=issues.rate.low,
            high=issues.rate.high,
            sure=sure,
            second=seconds,
            others=others,
            second_others=second_others,
            dataset_indices=[int(index) for index in issues.indices[:10] if index >= 0],
        )


def _slice(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    """The scores of the classes tell of slices that are classes."""
    for part in case.scan.slices:
        if set(part.conditions) - {class_column(case.found.columns)}:
            yield SLICE.found(
                where,
                stage=case.moment.stage,
                slice=" and ".join(f"{name} is {value}" for name, value in part.conditions.items()),
                **picked(part, "n", "errors", "rate", "low", "high", "rest_rate"),
                p=part.p_adjusted,
            )
            return


def _sure(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    gap = case.found.calibration.gap()
    if case.found.form.task == "detection" or not gap.n:
        return
    low, high = 1 - case.accuracy.high, 1 - case.accuracy.low
    error = 1 - case.accuracy.value
    claimed = error - gap.value
    if low > _TWICE * claimed:
        ece = case.found.calibration.ece()
        yield SURE.found(
            where, stage=case.moment.stage, error=error, low=low, high=high, claimed=max(claimed, 0.0), ece=ece.value
        )
