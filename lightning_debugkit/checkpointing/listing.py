"""The table of a folder of checkpoints: what is there, why it is kept, whether it is sound, what a plan would keep."""

from __future__ import annotations

import difflib
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lightning_debugkit.checkpointing.keep_reasons import RESUMED, kept
from lightning_debugkit.checkpointing.object_store import ObjectStore, is_url
from lightning_debugkit.checkpointing.records import DAMAGED, Record, head, history, in_order, read_records
from lightning_debugkit.checkpointing.retention_rules import Best, KeepRule
from lightning_debugkit.checkpointing.rule_text import read_rules
from lightning_debugkit.checkpointing.verification import damage, mismatch
from lightning_debugkit.core.name_lists import plural

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_METRICS = 3


@dataclass(frozen=True)
class Listing:
    """The table as text, and the names of the files that are damaged."""

    text: str
    damaged: tuple[str, ...]


def listing(folder: Path | str, plan: Sequence[KeepRule] | None = None, *, quick: bool = False) -> Listing:
    """Return the table of ``folder``; nothing in it is changed.

    Args:
        folder: A folder of checkpoints, or one with such a folder ``checkpoints`` in it, or the URL of an object store.
        plan: Rules to try: what they would keep is told beside what is there.
        quick: Compare sizes and directories only, instead of reading each file.

    Raises:
        FileNotFoundError: There is no checkpoint with a record.
    """
    given, store = str(folder), ObjectStore(str(folder)) if is_url(folder) else None
    folder = Path(folder)
    if store is None and not read_records(folder):
        folder = folder / "checkpoints"
    records = read_records(folder) if store is None else store.records()
    newest = head(records)
    if newest is None:
        raise FileNotFoundError(
            f"checkpoints needs a folder in which NestedCheckpoint has saved, got {given!r}; "
            "it is the one with step-....ckpt and .ckpt.json files."
        )
    faults = _faults(records, folder, store, quick)
    current = history(records, newest.run, newest.lineage)
    aside = [record for record in records if record not in current]
    rules = _rules_of(newest)
    place = folder if store is None else given
    told = [f"{place}: {_total(current)}, kept by {', '.join(map(str, newest.rules)) or 'no rule'}", ""]
    told += _table(current, _columns(current, rules, faults, plan, quick))
    if aside:
        told += ["", f"Of other fits or branches left behind, which no rule touches: {_total(aside)}", ""]
        told += _table(aside, _columns(aside, (), faults, None, quick))
    told += _leavings(folder) if store is None else []
    if plan is not None:
        told += ["", _planned(current, plan), *_unknown_metrics(records, plan)]
    return Listing("\n".join(told), tuple(name for name, fault in faults.items() if fault))


def _faults(records: Sequence[Record], folder: Path, store: ObjectStore | None, quick: bool) -> dict[str, str]:
    if store is None:
        check = mismatch if quick else damage
        return {record.name: check(folder / record.name, record) for record in records}
    faults = {}
    for record in records:
        with tempfile.TemporaryDirectory(prefix="lightning-debugkit-") as here:  # one at a time
            faults[record.name] = store.damage(record, None if quick else Path(here))
    return faults


def size(count: int) -> str:
    """Return bytes in words.

    >>> size(999), size(1500), size(416_000_000)
    ('999 bytes', '1.5 kB', '416 MB')
    """
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}"


Column = tuple[str, dict[str, str]]


def _columns(
    records: Sequence[Record],
    rules: Sequence[KeepRule],
    faults: dict[str, str],
    plan: Sequence[KeepRule] | None,
    quick: bool,
) -> list[Column]:
    columns: list[Column] = [
        ("step", {record.name: str(record.step) for record in records}),
        ("epoch", {record.name: str(record.epoch) for record in records}),
    ]
    for metric in _metrics(records, rules):
        values = {record.name: record.metrics.get(metric) for record in records}
        columns.append((metric, {name: "" if value is None else f"{value:.4g}" for name, value in values.items()}))
    columns.append(("size", {record.name: size(record.size) for record in records}))
    columns.append(("saved", {record.name: _moment(record.time) for record in records}))
    if rules:
        columns.append(("kept because", _said(kept(records, rules, {_resumed(records): RESUMED}))))
    if plan is not None:
        columns.append(("planned", {record.name: "goes" for record in records} | _said(kept(records, plan))))
    sound = "right size" if quick else "yes"
    columns.append(("sound", {record.name: faults[record.name] or sound for record in records}))
    columns.append(("file", {record.name: record.name for record in records}))
    return columns


def _metrics(records: Sequence[Record], rules: Sequence[KeepRule]) -> list[str]:
    """Return those that rules rank by, else the first few that were logged."""
    ranked = list(dict.fromkeys(rule.metric for rule in rules if isinstance(rule, Best)))
    logged = sorted({metric for record in records for metric in record.metrics})
    return ranked or logged[:_METRICS]


def _resumed(records: Sequence[Record]) -> str:
    """Return the file that the newest fit was resumed from, if it is there."""
    newest = head(records)
    place = newest.lineage[-1:] if newest is not None else ()
    return next((record.name for record in records if (record.run, record.step) in place), "")


def _rules_of(record: Record) -> tuple[KeepRule, ...]:
    """Return the rules in force when a record was made; one of a newer version of the kit is passed over."""
    rules: list[KeepRule] = []
    for text in record.rules:
        try:
            rules.extend(read_rules(text))
        except ValueError:
            continue
    return tuple(rules)


def _table(records: Sequence[Record], columns: Sequence[Column]) -> list[str]:
    rows = [[title for title, _ in columns]]
    rows += [[cells.get(record.name, "") for _, cells in columns] for record in in_order(records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _planned(records: Sequence[Record], plan: Sequence[KeepRule]) -> str:
    staying = kept(records, plan)
    stay = [record for record in records if record.name in staying]
    going = [record for record in records if record.name not in staying]
    return (
        f"With {', '.join(map(repr, plan))}: {_total(stay)} would stay, {_total(going)} would go. "
        "Files that are gone already cannot come back."
    )


def _unknown_metrics(records: Sequence[Record], plan: Sequence[KeepRule]) -> list[str]:
    """Return a sentence for each metric of a plan that no checkpoint has: a name misspelt keeps nothing."""
    known = sorted({name for record in records for name in record.metrics})
    asked = dict.fromkeys(rule.metric for rule in plan if isinstance(rule, Best))
    told = []
    for name in asked:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(known) or 'none'}."
            told.append(f"No checkpoint has the metric {name!r}: {hint}")
    return told


def _leavings(folder: Path) -> list[str]:
    damaged = sorted(path.name for path in folder.glob(f"*{DAMAGED}"))
    drafts = sorted(path.name for path in folder.glob(".*.tmp"))
    told = [f"Damaged and set aside: {', '.join(damaged)}"] if damaged else []
    told += [f"Being written, or left by a killed run (removed by the next fit): {', '.join(drafts)}"] if drafts else []
    return ["", *told] if told else []


def _said(reasons: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: "; ".join(why) for name, why in reasons.items()}


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M") if math.isfinite(time) else ""


def _total(records: Iterable[Record]) -> str:
    sizes = [record.size for record in records]
    return f"{plural(len(sizes), 'file')} of {size(sum(sizes))}"
