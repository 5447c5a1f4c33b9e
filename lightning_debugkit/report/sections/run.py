"""The facts of the run: versions, commit, seed, configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.report.number_formats import as_mapping, duration, phrase
from lightning_debugkit.report.parts import Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

HYPER_PARAMETERS = {
    "hyper_parameters": "Hyper-parameters", "data_hyper_parameters": "Hyper-parameters of the data",
}  # fmt: skip


def _parts(summary: Summary, _folder: Path) -> Iterator[Paragraph | Table]:
    if not summary.run:
        yield Paragraph("The journal does not say how the run was set up.")
    else:
        yield _table("Facts", dict(_facts(summary)))
    config = summary.run.get("config")
    if config:
        held = config if isinstance(config, Mapping) else {"config": config}
        yield _table("Configuration", {name: value for name, value in held.items() if name not in HYPER_PARAMETERS})
        for name, caption in HYPER_PARAMETERS.items():
            if held.get(name):
                yield _table(caption, as_mapping(held[name]))


def _facts(summary: Summary) -> Iterator[tuple[str, Any]]:
    run = summary.run
    yield from as_mapping(run.get("versions")).items()
    if run.get("commit"):
        yield "commit", f"{run['commit']}{' with uncommitted changes' if run.get('dirty') else ''}"
    for name in ("seed", "started"):
        if run.get(name) is not None:
            yield name, run[name]
    if run.get("batch_size") is not None:
        yield "batch size", run["batch_size"]
    if summary.resumed:
        yield "resumed from", str(summary.resumed.get("path") or "a checkpoint")
        yield "resumed at", f"step {summary.step - summary.steps}"
    yield "processes", summary.world_size
    if summary.seconds is not None:
        yield "duration", duration(summary.seconds)


def _table(caption: str, facts: Mapping[str, Any]) -> Table:
    rows = ((str(name), phrase(value)) for name, value in facts.items())
    return table_of(caption, (), tuple(rows))


SECTION = Section("The run", order=100, parts=_parts, is_small=True)
