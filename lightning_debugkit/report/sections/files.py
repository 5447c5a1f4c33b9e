"""What else the run left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightning_debugkit.core.journal import Event
from lightning_debugkit.report.number_formats import as_int, phrase
from lightning_debugkit.report.parts import Cell, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_MOST = 40


def _parts(summary: Summary, folder: Path) -> Iterator[Table]:
    # Checkpoints have a section of their own; a file that was written again is the same file; of the sources of a short
    # run there may be no more than what checkpoints carry.
    held = [event for event in summary.artifacts if event.get("path") and event.get("name") != "checkpoint"]
    named = {str(event["path"]): event for event in held}
    files = [event for path, event in named.items() if "://" in path or (folder / path).exists()]
    rows = tuple(
        (_what(event), Cell(str(event["path"]), is_code=True), str(as_int(event.get("step"))))
        for event in files[-_MOST:]
    )
    if rows:
        caption = f"The last {_MOST} of {len(files)} files" if len(files) > _MOST else "Files in the run folder"
        yield table_of(caption, ("what", "path", "step"), rows)


def _what(event: Event) -> str:
    return phrase(event.get("name", event.get("what")))


SECTION = Section("Files", order=90, parts=_parts, is_small=True)
