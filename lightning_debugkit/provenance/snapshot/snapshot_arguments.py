"""Check what `CodeSnapshot` is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any


def check_snapshot(note: str, label: str, include: Sequence[str]) -> None:
    """Raise ``ValueError`` for a note, label or file names that cannot be used."""
    for name, text in (("note", note), ("label", label)):
        if not isinstance(text, str):
            raise ValueError(f"CodeSnapshot needs {name} as text, got {text!r}; a sentence will do.")
    if "\n" in label:
        raise ValueError(f"CodeSnapshot needs label on one line, got {label!r}; the rest belongs into note.")
    if isinstance(include, str) or not all(isinstance(each, str) and each for each in include):
        raise ValueError(f'CodeSnapshot needs include as a list of file names, got {include!r}; such as ["*.yaml"].')
    for each in include:
        parts = PurePath(each).parts
        if PurePath(each).is_absolute() or ".." in parts or any("**" in part and part != "**" for part in parts):
            raise ValueError(
                f"CodeSnapshot needs include to name files below the project, got {each!r}; such as *.yaml, or "
                "configs/**/*.yaml for folders within folders."
            )


def check_numbers(max_file: Any, max_bundle: Any, timeout: Any) -> None:
    """Raise ``ValueError`` for limits that are none."""
    for name, value, usual in (("max_file", max_file, 1_000_000), ("max_bundle", max_bundle, 20_000_000)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ValueError(f"CodeSnapshot needs {name} >= 0 bytes, got {value!r}; {usual:,} is usual.")
    if not isinstance(timeout, int | float) or isinstance(timeout, bool) or not timeout > 0:
        raise ValueError(f"CodeSnapshot needs timeout > 0 seconds, got {timeout!r}; 10 is usual.")
