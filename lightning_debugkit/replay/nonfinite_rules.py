"""The rules for numbers that stop being finite, worded from what the replay found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import begun, listed
from lightning_debugkit.core.rule import BROKEN_NUMBERS, Rule
from lightning_debugkit.data.batches import indexed
from lightning_debugkit.replay.diagnosis import OF_ALL, Diagnosis
from lightning_debugkit.replay.nonfinite_cause_messages import (
    Circumstances,
    Words,
    overflowed,
    ran_away,
    words_of_operation,
)

_SAYS = "{seen} at step {step}: {what}{samples_text}"

LOSS = Rule("nonfinite-loss", Severity.ERROR, _SAYS, "{remedy}", section="loss", can_follow=BROKEN_NUMBERS)
GRADIENT = Rule("nonfinite-gradient", Severity.ERROR, _SAYS, "{remedy}", section="gradients", can_follow=BROKEN_NUMBERS)
ACTIVATION = Rule(
    "nonfinite-activation", Severity.ERROR, _SAYS, "{remedy}", section="activations", can_follow=BROKEN_NUMBERS
)
INPUT = Rule("nonfinite-input", Severity.ERROR, _SAYS, "{remedy}", section="data")
PARAMETER = Rule(
    "nonfinite-parameter", Severity.ERROR, _SAYS, "{remedy}", section="parameters", can_follow=BROKEN_NUMBERS
)

_MOST_COLUMNS = 4  # more of them say that whole rows are broken

# By these, numbers grow until they overflow.
_RUNAWAY = ("diverging-loss", "exploding-gradient", "input-not-normalized")

_RULES = {"loss": LOSS, "gradient": GRADIENT, "activation": ACTIVATION, "input": INPUT, "parameter": PARAMETER}


def finding(
    where: Where,
    found: Diagnosis | None,
    when: Circumstances,
    *,
    seen: str,
    loss: float | None = None,
    parameters: Sequence[str] = (),
    hooked: tuple[str, str] | None = None,
) -> Finding:
    """Return the finding for a step whose loss or gradients are not finite.

    Args:
        found: What the replay found, ``None`` if it could not tell.
        when: What is known of the step beside it.
        seen: What the look at the step saw, such as ``"loss is inf"``.
        loss: The loss as the look saw it.
        parameters: Parameters whose gradient the look found not finite.
        hooked: Pass (``activation`` or ``gradient``) and module where hooks in the step itself saw it first.
    """
    evidence: dict[str, Any] = {"batch_idx": when.batch_idx}
    if found is None:
        evidence |= {"loss": loss, "parameters": list(parameters), "note": when.note}
        return _unexplained(where, seen, parameters, when.note, hooked, evidence)
    samples = list(found.samples)
    evidence |= {
        "samples": samples,
        "dataset_indices": list(when.dataset_indices),
        "op": found.op,
        "source": found.source,
    }
    # A broken input or loss breaks the gradient of every parameter: their names tell nothing then.
    is_of_all = found.origin == "input" or not math.isfinite(found.loss or 0.0)
    named = [] if is_of_all else list(found.parameters or parameters)
    evidence |= {"parameters": named, "loss": loss}
    optional = {
        "learning_rate": when.growth.rate if when.growth is not None and ran_away(found, when) else 0,
        "backward": found.backward,
        "backward_source": found.backward_source,
        "input": found.path if found.origin == "input" else "",
        "columns": list(found.columns),
        "part": found.part,
        "entries": list(when.below),
        "cause": found.cause,
        "exception": found.error,
        "note": "; ".join(filter(None, (found.note, when.note))),
    }
    evidence |= {name: value for name, value in optional.items() if value}
    entries = named_entries(when.dataset_indices, when.below, found.part)
    what, remedy = _worded(found, samples, entries, where.step, when)
    at = where.at(found.module)
    told = "" if ran_away(found, when) else named_samples(samples, found.part)
    words: dict[str, Any] = {"seen": seen, "what": what, "samples_text": told}
    words["remedy"] = remedy
    made = _RULES[found.origin].found(at, **words)
    return replace(made, evidence=evidence, can_follow=(*made.can_follow, *(_RUNAWAY if overflowed(found) else ())))


def cause(found: Diagnosis, when: Circumstances, step: int) -> tuple[str, str]:
    """Return what broke a number and what to do about it, for a finding of another rule."""
    samples = list(found.samples)
    what, remedy = _worded(found, samples, named_entries(when.dataset_indices, when.below, found.part), step, when)
    is_all = found.cause in OF_ALL and len(samples) == found.size
    return what + ("" if is_all else named_samples(samples, found.part)), remedy


def _unexplained(
    where: Where,
    seen: str,
    parameters: Sequence[str],
    note: str,
    hooked: tuple[str, str] | None,
    evidence: dict[str, Any],
) -> Finding:
    """Return the finding for a step whose replay tells nothing; hooks may have named the module all the same."""
    rule = GRADIENT if seen.startswith("gradient") else LOSS
    module = parameters[0] if parameters and rule is GRADIENT else ""
    words: dict[str, Any] = {"seen": seen, "what": note or "the replay of the step did not reproduce it"}
    words["remedy"] = "Use GradientAnomalyDetector(hooks='always') to name the module in the step itself."
    if hooked is not None:
        rule, module = _RULES[hooked[0]], hooked[1]
        thing = "output" if hooked[0] == "activation" else "gradient of the output"
        words["what"] = f"first in the {thing} of {module} ({words['what']})"
        words["remedy"] = f"Look at {module} and at what goes into it."
    at = where.at(module)
    return replace(rule.found(at, samples_text="", **words), evidence=evidence)


def _worded(found: Diagnosis, samples: list[int], entries: str, step: int, when: Circumstances) -> Words:
    entry = f" ({entries})" if entries and len(samples) == 1 else ""
    batch = indexed(found.part) if found.part else "the batch"
    drop = f", or drop sample {samples[0]} of {batch}{entry}" if len(samples) == 1 else ""
    if found.origin == "input":
        what = f"{indexed(found.path)} holds {found.value}{_in_columns(found.columns)}"
        if found.cause == "masked":
            remedy = f"Leave it out{found.at_line} by torch.where or by an index: 0 * nan is nan."
            return f"{what}, and a mask that is a factor of 0 keeps it", remedy
        return what, f"Clean or drop {entries or 'these samples where the Dataset makes them'}."
    if found.origin == "parameter":
        remedy = "Load a checkpoint from before it broke, or look at what was loaded: training cannot repair it."
        if found.path != "parameter":
            remedy = f"Look at where {found.module} is made and changed: it was kept from before the step."
        return f"the {found.path} {found.module} holds {found.value} before the step", remedy
    place = found.at_line
    if not found.op:
        # It is no part of the batch or the model: a global, or what a closure holds.
        used = f", first used{place}" if place else ""
        hidden = (
            f"; the batch holds {listed(list(found.unentered))}, which cannot be looked into" if found.unentered else ""
        )
        return (
            f"a tensor that was made before the step holds {found.value}{used}{hidden}",
            "Look at where that tensor is made: it is neither in the batch nor in the model.",
        )
    what, remedy = words_of_operation(found, step, when)
    what += found.in_module
    if ran_away(found, when):
        return what, f"{begun(remedy)}."
    first, semicolon, more = remedy.partition(";")
    drop = "" if found.cause in OF_ALL and len(samples) == found.size else drop
    return what, f"{begun(first)}{place}{drop}{semicolon}{more}."


def _in_columns(columns: Sequence[int]) -> str:
    """Return the columns of a table that are broken, empty if there are none or too many to name."""
    if not columns or len(columns) > _MOST_COLUMNS:
        return ""
    return f" in column{'s' if len(columns) > 1 else ''} {listed([str(column) for column in columns])}"


def named_entries(indices: Sequence[Any], below: Sequence[str], part: str) -> str:
    """Return which entries of the data set samples are, empty if that is not known."""
    if not indices:
        return ""
    shown = listed([str(index) for index in indices], most=8)
    behind = f" behind {indexed(part)}" if part else ""
    same = f", which {'is' if len(below) == 1 else 'are'} {listed(list(below), most=8)}" if below else ""
    return f"{'entry' if len(indices) == 1 else 'entries'} {shown} of the dataset{behind}{same}"


def named_samples(samples: Sequence[int], part: str = "") -> str:
    """Return the samples as the end of a message has them, empty if there are none.

    >>> named_samples([3]), named_samples([3, 4], "0")
    (', sample 3 of the batch', ', samples 3, 4 of batch[0]')
    """
    if not samples:
        return ""
    batch = indexed(part) if part else "the batch"
    if len(samples) == 1:
        return f", sample {samples[0]} of {batch}"
    shown = ", ".join(map(str, samples[:8])) + (" and more" if len(samples) > 8 else "")
    return f", samples {shown} of {batch}"
