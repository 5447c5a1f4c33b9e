"""Which finding can be the cause of which: a fault of the wiring stands before what came of it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_debugkit.core.finding import Finding, Severity

_BROKEN_NUMBERS = {
    "nonfinite-loss", "nonfinite-gradient", "nonfinite-activation", "nonfinite-parameter", "nonfinite-scores",
    "loss-scale-collapse",
}  # fmt: skip
_STILL = {"constant-output", "constant-loss", "class-never-predicted"}
_CUT = {"vanishing-gradient", *_STILL}
_TOO_FAR = {"diverging-loss", "exploding-gradient", "dead-units", "saturated-units", *_CUT, *_BROKEN_NUMBERS}
_TOO_LITTLE = {"parameter-not-updated", "update-ratio-low", *_CUT}

# Each names what it does to the weights, the gradient or the batch, and so what can come of it. Rules that are not
# here cause nothing that another rule would tell of.
_COMES_OF = {
    # Gradients pile up or are cut in vain: the steps are too large.
    "stale-gradients": {"update-ratio-high", "clipping-always", "clipping-severe", "clipping-advised", *_TOO_FAR},
    "clipping-before-backward": {"update-ratio-high", *_TOO_FAR},
    # Normalisation by statistics of another time: activations drift.
    "eval-mode-in-training": {"update-ratio-high", "clipping-always", "clipping-severe", *_TOO_FAR},
    "update-ratio-high": _TOO_FAR,
    # A part of the gradient, or nearly nothing of it, is used.
    "gradients-cleared": _TOO_LITTLE,
    "clipping-scaled-gradients": {"clipping-always", "clipping-severe", *_TOO_LITTLE},
    "learning-rate-schedule": _TOO_LITTLE,
    # Units without a slope pass no gradient, and nothing that differs.
    "dead-units": _CUT,
    "saturated-units": _CUT,
    # Data of a kind of its own that go wrong look as if their labels did.
    "weak-slice": {"label-issue"},
    # A class that was not learnt makes up a part of each error that is measured.
    "class-never-predicted": {"overfitting", "distribution-shift", "underfitting"},
    # What was broken before it entered the network.
    "nonfinite-input": {"diverging-loss", *_BROKEN_NUMBERS},
}


def causes(effect: Finding, findings: Sequence[Finding]) -> list[Finding]:
    """Return those of ``findings`` that came no later and can have ``effect`` as their consequence.

    What asks for nothing is the cause of notes only.

    Example:
        >>> from lightning_debugkit.core.finding import Where
        >>> piled = Finding("stale-gradients", Severity.WARNING, "never cleared", Where(0, 3))
        >>> dead = Finding("dead-units", Severity.ERROR, "16 of 16 are dead", Where(2, 118))
        >>> [cause.rule for cause in causes(dead, [dead, piled])], causes(piled, [dead, piled])
        (['stale-gradients'], [])
    """
    return [
        cause
        for cause in findings
        if cause.severity >= min(Severity.WARNING, effect.severity)
        and cause.where.step <= effect.where.step
        and effect.rule in _COMES_OF.get(cause.rule, ())
    ]


def causes_first(findings: Sequence[Finding]) -> list[Finding]:
    """Return ``findings`` in their order, but each behind its causes."""
    placed: dict[int, Finding] = {}

    def place(finding: Finding) -> None:
        # No rule is a consequence of its own consequences: this ends.
        for cause in causes(finding, findings):
            if id(cause) not in placed:
                place(cause)
        placed[id(finding)] = finding

    for finding in findings:
        if id(finding) not in placed:
            place(finding)
    return list(placed.values())
