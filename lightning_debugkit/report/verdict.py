"""The one sentence to read if only one is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.report.number_formats import headline, sentence
from lightning_debugkit.report.troubles import Trouble, others

_UNHEARD = "; the inputs of loss functions were not checked"
_LIMITS = "bias-variance"  # section of the report
_EVALUATED = {"test": "tested", "validate": "validated", "predict": "asked for predictions"}


@dataclass(frozen=True)
class Ending:
    """How a run ended."""

    status: str  # `finished`, `exception`, `interrupted`, `stopped` or `unfinished`
    steps: int  # optimizer steps taken in this run
    exception: str = ""  # its type and message, empty if there was none
    broken: tuple[Trouble, ...] = ()  # callbacks of the kit that stopped looking
    callbacks: tuple[str, ...] = ()  # names of all callbacks of the kit in the run, empty if unknown
    trained: int | None = None  # steps that this run made itself and that had a gradient; `None` if nobody counted
    # optimizer steps taken in all, those of the runs that it went on from included; `steps` if not given
    last: int | None = None
    stage: str = ""  # what the Trainer was asked for, `fit` or `test` for one; empty if unknown
    ignored: tuple[str, ...] = ()  # rules that found what calls for action and are ignored, as the user asked
    is_unheard: bool = False  # nobody could look at what loss functions are given
    skipped: int = 0  # broken steps whose update was dropped, after which the run went on

    @property
    def counted(self) -> int:
        """Steps that a sound run is praised for."""
        return self.steps if self.trained is None else self.trained

    @property
    def step(self) -> int:
        """The step at which it ended."""
        return self.steps if self.last is None else self.last


def verdict(ending: Ending, findings: Sequence[Finding]) -> str:
    """Return the verdict on a run whose findings are ordered: the gravest first, but none before its cause.

    >>> verdict(Ending("finished", 96), [])
    'No fault found in 96 steps.'
    >>> verdict(Ending("finished", 96, trained=36), [])
    'No fault found in 36 steps.'
    >>> verdict(Ending("finished", 96, ignored=("constant-input",)), [])
    'No fault found in 96 steps; constant-input was found and is ignored.'
    >>> verdict(Ending("finished", 96, is_unheard=True), [])
    'No fault found in 96 steps; the inputs of loss functions were not checked.'
    >>> from lightning_debugkit.core.finding import Where
    >>> gap = Finding("overfitting", Severity.INFO, "...", Where(7, 96), section="bias-variance")
    >>> verdict(Ending("finished", 96), [gap])
    'No fault found in 96 steps; what limits the model: overfitting.'
    >>> verdict(Ending("exception", 96, "ValueError: bad shape"), [])
    'The run ended with an exception at step 96: ValueError: bad shape.'
    """
    pressing = [finding for finding in findings if finding.severity >= Severity.WARNING]
    error = next((finding for finding in pressing if finding.severity is Severity.ERROR), None)
    if error is not None:
        said = _broken(ending, error) if error is pressing[0] else _led_to(ending, pressing[0], error)
    elif not pressing:
        said = _quiet(ending) + (_UNHEARD if ending.is_unheard else "") + _of_the_data(findings) + _limit(findings)
    else:
        said = f"{_course(ending)}; {_attention(pressing)}"
    ignored = [f"{rule} was found and is ignored" for rule in ending.ignored]
    return "; ".join([said, *ignored, *(trouble.told for trouble in ending.broken)]) + "."


def start_here(findings: Sequence[Finding]) -> str:
    """Return the advice of the first finding that calls for action."""
    first = next((finding for finding in findings if finding.severity >= Severity.WARNING), None)
    return " ".join(first.advice.split()) if first else ""


def _broken(ending: Ending, first: Finding) -> str:
    said, _ = headline(first.message)
    # The message often names its step already.
    at = "" if re.search(rf"\bstep {first.where.step}\b", said) else f" at step {first.where.step}"
    if _went_on(ending, first):
        skipped = "1 step was skipped" if ending.skipped == 1 else f"{ending.skipped} steps were skipped, the first"
        return f"{_course(ending)}; {skipped}{at}: {said}"
    if ending.status == "finished":
        return f"The run finished, but went wrong{at}: {said}"
    return f"The run broke{at}: {said}"


def _led_to(ending: Ending, cause: Finding, error: Finding) -> str:
    course = "The run finished, but went wrong" if ending.status == "finished" else "The run broke"
    if _went_on(ending, error):
        course = f"{_course(ending)}; {plural(ending.skipped, 'step')} skipped"
    first, then = headline(cause.message)[0], headline(error.message)[0]
    return f"{course}, first at step {cause.where.step}: {first}; then at step {error.where.step}: {then}"


def _went_on(ending: Ending, broken: Finding) -> bool:
    is_ours = ending.exception.startswith("TrainingAnomaly")  # too many were skipped
    return ending.skipped > 0 and broken.evidence.get("update") == "skipped" and not is_ours


def _quiet(ending: Ending) -> str:
    if ending.status == "finished":
        if ending.counted:
            return _unblemished(ending)
        if ending.stage in _EVALUATED:
            by = f" {others(ending.callbacks, ending.broken)}" if ending.broken else ""
            return f"The model was {_EVALUATED[ending.stage]}, not trained; no fault was found{by}"
        return "No step of this run trained anything" if ending.steps else "No step was taken"
    if ending.status == "exception":
        return _course(ending)
    by = f" {others(ending.callbacks, ending.broken)}" if ending.broken else ""
    return f"{_course(ending)}; no fault was found until then{by}"


def _of_the_data(findings: Sequence[Finding]) -> str:
    # Who reads "no fault" must hear of what is odd about the data.
    notes = [finding for finding in findings if finding.on_data]
    if not notes:
        return ""
    first = sentence(notes[0].message.partition(": ")[0])
    return f"; {'a note on the data' if len(notes) == 1 else f'{len(notes)} notes on the data, first'}: {first}"


def is_named(finding: Finding) -> bool:
    """Tell whether the verdict on a run without fault names a finding: a note on the data, or what limits the model."""
    return finding.on_data or finding.section == _LIMITS


def _limit(findings: Sequence[Finding]) -> str:
    names = [finding.rule.replace("-", " ") for finding in findings if is_named(finding) and not finding.on_data]
    return f"; what limits the model: {' and '.join(dict.fromkeys(names))}" if names else ""


def _unblemished(ending: Ending) -> str:
    steps = plural(ending.counted, "step")
    if not ending.broken:
        return f"No fault found in {steps}"
    if set(ending.callbacks) and set(ending.callbacks) <= {trouble.callback for trouble in ending.broken}:
        return f"Nothing is known of the {steps}"
    return f"No fault found {others(ending.callbacks, ending.broken)} in {steps}"


def _course(ending: Ending) -> str:
    match ending.status:
        case "finished":
            return "The run finished"
        case "exception":
            said = sentence(ending.exception)
            return f"The run ended with an exception at step {ending.step}" + (f": {said}" if said else "")
        case "stopped":
            return f"The run was stopped at step {ending.step}"
        case "interrupted":
            return f"The run was interrupted at step {ending.step}"
        case _:
            return f"The run was killed or is still running, last seen at step {ending.step}"


def _attention(pressing: Sequence[Finding]) -> str:
    said, _ = headline(pressing[0].message)
    if len(pressing) == 1:
        return f"one thing needs attention: {said}"
    return f"{len(pressing)} things need attention, first: {said}"
