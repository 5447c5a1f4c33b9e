"""A finding's evidence as rows that a person can read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.name_lists import begun, operation_name
from lightning_debugkit.report.number_formats import NONFINITE, as_list, as_number, phrase, sentence

_LABELS = {"batch_idx": "batch", "op": "operation", "norm": "gradient norm"}
_NAMES_OF_CODE = {"op", "backward", "parameters", "parameter", "module", "modules", "layer", "layers"}
_TOLD_APART = {"source", "note"}
_KEYS_OF_WORDS = {"cause", "columns"}  # the message has them in words
_SOURCE = re.compile(r"(?P<place>[^\n]+?:\d+):\s?(?P<code>.*)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One line of an evidence table."""

    label: str
    text: str
    is_code: bool = False
    is_nonfinite: bool = False


def rows(finding: Finding) -> list[Row]:
    """Return what message, place and advice do not say: empty values are left out, source and note are told apart.

    >>> from lightning_debugkit.core.finding import Severity, Where
    >>> told = {"batch_idx": 24, "parameters": [], "loss": "inf", "told": "it broke", "norm": "nan"}
    >>> rows(Finding("a-rule", Severity.ERROR, "it broke at step 24: loss is inf", Where(0, 24), told))
    [Row(label='gradient norm', text='nan', is_code=False, is_nonfinite=True)]
    >>> rows(Finding("a-rule", Severity.ERROR, "division by 0", Where(0, 24), {"op": "aten.div.Tensor"}))[0].text
    'div'
    """
    said = " ".join(" ".join((finding.message, finding.advice, finding.where.module)).split())
    shown = {key: operation_name(str(value)) if key == "op" else value for key, value in finding.evidence.items()}
    return [
        Row(
            label=_label(key, value),
            text=phrase(value),
            is_code=key in _NAMES_OF_CODE,
            is_nonfinite=any(item in NONFINITE for item in as_list(value) if isinstance(item, str)),
        )
        for key, value in shown.items()
        if key not in _TOLD_APART | _KEYS_OF_WORDS and value not in (None, "", [], {}, ()) and not _is_said(value, said)
    ]


def _label(key: str, value: Any) -> str:
    if key == "samples" and isinstance(value, list):
        return "position in batch"
    return _LABELS.get(key, key.replace("_", " "))


def _is_said(value: Any, said: str) -> bool:
    """Tell whether a value stands in ``said``, however it is rounded there: messages are built of evidence.

    >>> [_is_said(value, "36 % of 560, so the loss stays at 1.46") for value in (0.3571, 1.461, 560, 1.5, 1.386)]
    [True, True, True, False, False]
    >>> _is_said(-0.367, "a gain of -36.7 %"), _is_said(0.0589, "9.9 points (5.9 to 14.4) worse")
    (True, True)
    """
    if isinstance(value, bool | Mapping):
        return False
    return any(re.search(_alone(text), said) for text in _wordings(value))


def _wordings(value: Any) -> set[str]:
    """Return how a message may have put a value."""
    known = as_number(value)
    if known is None or not math.isfinite(known):
        return {" ".join(phrase(value).split()).rstrip(".")} - {""}
    # One digit of a number that has more proves nothing.
    rounded = {f"{known:.{digits}g}" for digits in range(2, 8)}
    in_percent = {f"{100 * known:.{digits}f}" for digits in range(3)} if 0 < abs(known) < 1 else set()
    points = {text for text in in_percent if "." in text}  # of an interval in percent, whose sign stands elsewhere
    return {phrase(value), *rounded, *points, *(f"{text}{gap}%" for text in in_percent for gap in ("", " "))}


def _alone(text: str) -> str:
    """Return the pattern of a text that is no part of a longer word or number."""
    before = r"(?<![\w.])" if re.match(r"\w", text) else ""
    return rf"{before}{re.escape(text)}(?![\w]|\.\d)"


def source(evidence: Mapping[str, Any]) -> tuple[str, str]:
    """Return the place and the text of the user's line of code; empty where there is none.

    >>> source({"source": "train.py:28: t = torch.log(wh)"})
    ('train.py:28', 't = torch.log(wh)')
    """
    told = "\n".join(map(str, as_list(evidence.get("source"))))
    match = _SOURCE.fullmatch(told)
    return (match["place"], match["code"]) if match else ("", told)


def note(evidence: Mapping[str, Any]) -> str:
    """Return the remark that the finder left, empty if none."""
    return f"{begun(sentence(phrase(evidence['note'])))}." if evidence.get("note") else ""
