"""A finding's evidence as rows that a person can read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.report.number_formats import NONFINITE, as_list, phrase

_LABELS = {"batch_idx": "batch", "op": "operation", "samples": "position in batch", "norm": "gradient norm"}
_NAMES_OF_CODE = {"op", "backward", "parameters", "parameter", "module", "modules", "layer", "layers"}
_TOLD_APART = {"source", "note"}
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

    Example:
        >>> from lightning_debugkit.core.finding import Severity, Where
        >>> told = {"batch_idx": 24, "parameters": [], "loss": "inf", "told": "it broke", "norm": "nan"}
        >>> rows(Finding("a-rule", Severity.ERROR, "it broke at step 24: loss is inf", Where(0, 24), told))
        [Row(label='gradient norm', text='nan', is_code=False, is_nonfinite=True)]
    """
    said = " ".join(" ".join((finding.message, finding.advice, finding.where.module)).split())
    return [
        Row(
            label=_LABELS.get(key, key.replace("_", " ")),
            text=phrase(value),
            is_code=key in _NAMES_OF_CODE,
            is_nonfinite=any(item in NONFINITE for item in as_list(value) if isinstance(item, str)),
        )
        for key, value in finding.evidence.items()
        if key not in _TOLD_APART and value not in (None, "", [], {}, ()) and not _is_said(value, said)
    ]


def _is_said(value: Any, said: str) -> bool:
    """Tell whether a value stands in ``said``: messages are built of evidence, and a single digit proves nothing."""
    if isinstance(value, bool | Mapping):
        return False
    text = " ".join(phrase(value).split()).rstrip(".")
    return len(text) > 1 and re.search(rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)", said) is not None


def source(evidence: Mapping[str, Any]) -> tuple[str, str]:
    """Return the place and the text of the user's line of code; empty where there is none.

    Example:
        >>> source({"source": "train.py:28: t = torch.log(wh)"})
        ('train.py:28', 't = torch.log(wh)')
    """
    told = "\n".join(map(str, as_list(evidence.get("source"))))
    match = _SOURCE.fullmatch(told)
    return (match["place"], match["code"]) if match else ("", told)


def note(evidence: Mapping[str, Any]) -> str:
    """Return the remark that the finder left, empty if none."""
    return phrase(evidence["note"]) if evidence.get("note") else ""
