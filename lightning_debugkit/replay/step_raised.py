"""Errors that the user's own step raised: which of them a replay can explain, and how that is worded."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import begun
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.error_origins import about_numbers, in_a_line
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances
from lightning_debugkit.replay.nonfinite_rules import GRADIENT, finding, named_entries, named_samples

RAISED = Rule(
    "step-raised",
    Severity.ERROR,
    "{who} raises {error} at step {step}{place}{samples_text}",
    "{remedy}",
    section="loss",
    can_follow=("label-not-integral", "label-out-of-range", "nonfinite-input"),
)

# A mistake in the program, or a limit of the machine: the same for any batch, and the error itself says all.
_PROGRAM = (
    *(AttributeError, NameError, ImportError, TypeError, KeyError, NotImplementedError, SyntaxError, LookupError),
    *(OSError, MemoryError, RecursionError, StopIteration, StopAsyncIteration, EOFError, BufferError),
)
_SHAPES = re.compile(
    r"\bshapes?\b|\bsizes?\b|\bdtype\b|same device|require grad|second time|inplace operation|not implemented for|"
    r"must match|state_dict|out of memory|communicat",
    re.I,
)
_VALUES = re.compile(
    r"constraint|invalid values|out of (range|bounds)|negative|positive|singular|converge|num_classes|between 0 and 1|"
    r"nonzero value|assert",
    re.I,
)
# What mends an error, by what it says: the first advice where the samples are not to blame.
_CURES = (
    (re.compile(r"^index \d"), "have a row for each index in what is looked up"),
    (re.compile(r"^target \d"), "have a class for each target"),
    (re.compile(r"not positive.definite"), "add a small number to the diagonal of the matrix (jitter)"),
    (re.compile(r"\bsingular\b"), "add a small number to the diagonal of the matrix, or take lstsq or pinv"),
)
_LOST = re.compile(r"device-side assert|CUDA error|HIP error|acceleratorerror", re.I)
_LOOP = re.compile(r"(lightning\.pytorch|pytorch_lightning)\.loops\.(optimization\.|evaluation_loop$)")


def can_be_explained(error: BaseException) -> bool:
    """Tell whether a replay of the step may say more about ``error`` than it says itself.

    Only what a step, its backward pass or the optimizer's step raised counts, not what other callbacks or loaders did;
    nor what is a mistake in the program for any batch, what ends a run by hand, or a full memory.
    """
    if not isinstance(error, Exception) or not _is_of_the_step(error):
        return False
    if isinstance(error, IndexError):
        return True
    text = in_a_line(error)
    if isinstance(error, _PROGRAM) or "OutOfMemory" in type(error).__name__ or "out of memory" in text:
        return False
    return about_numbers(error) or _VALUES.search(text) is not None or _SHAPES.search(text) is None


def device_is_lost(error: BaseException) -> bool:
    """Tell whether ``error`` leaves the device in a state in which nothing can be run on it again."""
    return _LOST.search(in_a_line(error)) is not None


def _is_of_the_step(error: BaseException) -> bool:
    inside = False
    step = error.__traceback__
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        if _LOOP.match(module):
            inside = True
        elif inside and step.tb_frame.f_code.co_name == "_call_callback_hooks":
            return False
        step = step.tb_next
    return inside


def is_of_anomaly_mode(error: BaseException) -> bool:
    """Tell whether torch's anomaly detection raised ``error``."""
    return isinstance(error, RuntimeError) and "returned nan values in its" in str(error)


def explained(where: Where, found: Diagnosis, when: Circumstances, *, error: str, hook: str = "") -> Finding:
    """Return the finding for a step that raised an ``error`` of that type, from what its replay found.

    Args:
        hook: The step, if it is not that of training.
    """
    if found.origin == "raised":
        return _of_samples(where, found, when, hook)
    seen = f"{_article(error)} is raised" + (f" in {hook}" if hook else "")
    return finding(where, found, when, seen=seen, loss=found.loss, parameters=found.parameters)


def _article(error: str) -> str:
    return f"{'an' if error[:1] in 'AEIOU' else 'a'} {error}"


def _of_samples(where: Where, found: Diagnosis, when: Circumstances, hook: str) -> Finding:
    """Return the finding for an error that some samples raise though every number is finite."""
    samples = list(found.samples)
    values = f" ({found.value})" if found.value else ""
    entries = named_entries(when.dataset_indices, when.below, found.part)
    which = entries or named_samples(samples, found.part).removeprefix(", ")
    look = f"look at {f'{which} in ' if samples else ''}what is used"
    cure = next((cure for known, cure in _CURES if known.search(f"{found.value} {found.error}")), "")
    first, second = (look, cure) if samples else (cure or look, "")
    remedy = f"{begun(first)}{found.at_line}{f', or {second}' if second else ''}."
    told: dict[str, Any] = {
        "batch_idx": when.batch_idx,
        "samples": samples,
        "dataset_indices": list(when.dataset_indices),
        "op": found.op,
        "source": found.source,
        "parameters": [],
        "exception": found.error,
    }
    optional = {"values": found.value, "part": found.part, "entries": list(when.below)}
    optional["note"] = "; ".join(filter(None, (found.note, when.note)))
    told |= {name: value for name, value in optional.items() if value}
    words: dict[str, Any] = {
        "who": hook or "the step",
        "error": f"{found.error}{values}",
        "place": found.in_module,
        "samples_text": named_samples(samples, found.part),
    }
    return replace(RAISED.found(where.at(found.module), remedy=remedy, **words), evidence=told)


def lost_device(where: Where, error: BaseException, batch_idx: int) -> Finding:
    """Return the finding for an error after which the device runs nothing any more."""
    text = in_a_line(error)
    remedy = (
        "Run this step on the CPU (accelerator='cpu'), where the operation raises at its own line and the step is "
        "replayed; or set CUDA_LAUNCH_BLOCKING=1 to see the line."
    )
    note = "the device runs nothing after such an error, so that the step was not replayed"
    words: dict[str, Any] = {
        "who": "the step",
        "error": text.partition(". ")[0],
        "place": f": {note}",
        "samples_text": "",
    }
    return replace(
        RAISED.found(where, remedy=remedy, **words), evidence={"batch_idx": batch_idx, "exception": text, "note": note}
    )


def scaled_overflow(where: Where, error: BaseException, scale: float, batch_idx: int) -> Finding:
    """Return the finding for anomaly detection that made an error of what a GradScaler would have skipped."""
    what = (
        f"they overflow only at the loss scale {scale:g}, which the GradScaler would have lowered, skipping the step; "
        "detect_anomaly made an error of it"
    )
    remedy = (
        "Switch detect_anomaly off: under 16-mixed the first overflows are normal, as the scale is found by them. The "
        "kit replays a step whose gradients break without a scale, too."
    )
    found = GRADIENT.found(
        where, severity=Severity.WARNING, seen="gradients are not finite", what=what, samples_text="", remedy=remedy
    )
    return replace(found, evidence={"batch_idx": batch_idx, "scale": scale, "exception": in_a_line(error)})
