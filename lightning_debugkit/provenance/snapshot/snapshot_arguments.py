"""Check what `CodeSnapshot` is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from lightning_debugkit.core.arguments import Needs, is_whole

_NEEDS = Needs("CodeSnapshot")


def check_snapshot(note: str, label: str, include: Sequence[str]) -> None:
    """Raise ``ValueError`` for a note, label or file names that cannot be used."""
    for name, text in (("note", note), ("label", label)):
        _NEEDS.that(name, isinstance(text, str), "as text", text, "a sentence will do")
    _NEEDS.that("label", "\n" not in label, "on one line", label, "the rest belongs into note")
    names = not isinstance(include, str) and all(isinstance(each, str) and each for each in include)
    _NEEDS.that("include", names, "as a list of file names", include, 'such as ["*.yaml"]')
    for each in include:
        parts = PurePath(each).parts
        below = not PurePath(each).is_absolute() and ".." not in parts
        below = below and not any("**" in part and part != "**" for part in parts)
        advice = "such as *.yaml, or configs/**/*.yaml for folders within folders"
        _NEEDS.that("include", below, "to name files below the project", each, advice)


def check_numbers(max_file: Any, max_bundle: Any, timeout: Any) -> None:
    """Raise ``ValueError`` for limits that are none."""
    for name, value, usual in (("max_file", max_file, 1_000_000), ("max_bundle", max_bundle, 20_000_000)):
        _NEEDS.that(name, is_whole(value) and value >= 0, ">= 0 bytes", value, f"{usual:,} is usual")
    _NEEDS.that(
        "timeout",
        (is_whole(timeout) or isinstance(timeout, float)) and timeout > 0,
        "> 0 seconds",
        timeout,
        "10 is usual",
    )
