"""Classes that a model never predicts, and whether that means that it did not learn them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import NO_LEARNING, Rule
from lightning_debugkit.stats.intervals import wilson

if TYPE_CHECKING:
    from lightning_debugkit.evaluation.error_analysis.errors_json import ErrorAnalysisResult

NEVER = Rule(
    "class-never-predicted",
    Severity.WARNING,
    "{label} is never predicted, though {support} {unit} belong to it{more}: {why}",
    "{first}",
    section="error-analysis",
    cost="once",
    can_follow=NO_LEARNING,
)

_TENTH = 0.1
_DOUBT = 1.96  # standard errors of a 95 % interval
_NAMED = 5
_UNKNOWN = "its probabilities are not known"


def never_predicted(case: ErrorAnalysisResult, where: Where) -> Iterator[Finding]:
    """A model that knows but the share of a class gives its samples that share of probability; less, it was not learnt.

    A class that is never the likeliest may be well known all the same, as a rare one in noise is.
    """
    classes = [
        label for label in _unpredicted(case) if case.moment.stage == "test" or case.history.never_predicted(label)
    ]
    if not classes or (case.history.moments and not case.history.is_settled):
        return
    support = case.found.confusion.support
    given = {label: _given(case, label) for label in classes}
    shares = {label: float(support[label]) / case.found.confusion.total for label in classes}
    unlearnt = [label for label in classes if (own := given[label]) is not None and own < _TENTH * shares[label]]
    told = unlearnt or classes
    label = told[0]
    value = given[label]
    why, first = _why(value, shares[label], _is_known(case, label, shares[label]))
    more = f", and so it is with {_named([case.names[other] for other in told[1:]])}" if told[1:] else ""
    yield NEVER.found(
        where,
        severity=Severity.WARNING if unlearnt else Severity.INFO,
        stage=case.moment.stage,
        label=case.names[label],
        support=int(support[label]),
        unit=case.unit,
        more=more,
        why=why,
        first=first,
        given="unknown" if value is None else value,
        share=shares[label],
        classes=told,
    )


def _named(names: Sequence[str]) -> str:
    """Return names as a list in a sentence, the first few of many.

    >>> _named(["7"]), _named(["7", "8", "9"]), _named(list("abcdefgh"))
    ('7', '7, 8 and 9', 'a, b, c, d, e and 3 more')
    """
    shown, left = list(names[:_NAMED]), len(names) - _NAMED
    if left > 0:
        shown.append(f"{left} more")
    return " and ".join(part for part in (", ".join(shown[:-1]), shown[-1]) if part)


def _why(given: float | None, share: float, is_known: bool) -> tuple[str, str]:
    if given is None:
        return _UNKNOWN, "Look at its samples in the report, and whether the training data hold the class."
    if given < _TENTH * share:
        return (
            f"they get {given:.2g} of probability on average, and guessing by frequency would give {share:.2g}",
            "Check that the training data hold the class, and that neither its number nor a mask keeps it from the "
            "loss.",
        )
    if not is_known:
        return (
            f"they get {given:.2g} of probability on average, and guessing by frequency gives as much ({share:.2g})",
            "Look whether inputs and labels belong together: the model hardly tells this class from others.",
        )
    return (
        f"they get {given:.2g} of probability on average, but another class always gets more",
        "Lower the threshold for it or weight its loss if it must be found: it is known, but outweighed.",
    )


def _unpredicted(case: ErrorAnalysisResult) -> list[int]:
    """Return classes whose recall is beyond doubt below that of the others."""
    confusion = case.found.confusion
    found = []
    for label, (support, predicted) in enumerate(
        zip(confusion.support.tolist(), confusion.predicted_count.tolist(), strict=True)
    ):
        if support and not predicted and label != case.found.none and wilson(0, support).high < case.accuracy.low:
            found.append(label)
    return found


def _given(case: ErrorAnalysisResult, label: int) -> float | None:
    own = _probabilities(case, label)
    return None if own is None else float(own.mean())


def _is_known(case: ErrorAnalysisResult, label: int, share: float) -> bool:
    """Tell whether samples of a class get more probability than its share beyond doubt: labels at random do not."""
    own = _probabilities(case, label)
    return own is not None and len(own) > 1 and float(own.mean() - _DOUBT * own.std(ddof=1) / len(own) ** 0.5) > share


def _probabilities(case: ErrorAnalysisResult, label: int) -> NDArray[np.float64] | None:
    """Return what samples of a class give to it, ``None`` where that is not known of each."""
    table: dict[str, Any] = case.found.table
    own: NDArray[np.float64] = table["given"][table["target"] == label]
    return None if case.unit != "samples" or not len(own) or np.isnan(own).any() else own
