"""Which checkpoints stay: a pure function of the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lightning_debugkit.checkpointing.records import Record, head, history, in_order
from lightning_debugkit.checkpointing.retention_rules import KeepRule

RESUMED = "resumed from"
EXCEPTION = "left by an exception"
PREEMPTED = "left by a SIGTERM"
SAFEGUARD = "the only one"


def kept(
    records: Iterable[Record], rules: Sequence[KeepRule], pinned: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return the names to keep, in the order of training, each with every reason for it.

    Rules alone could leave nothing (a metric that is never logged, say): then the newest file stays.

    Args:
        records: One history; their order does not matter.
        rules: A file stays while any of them keeps it.
        pinned: Names that stay for another reason, with that reason: the file that a training was resumed from, since
            a job that is started again may ask for it by name.

    >>> from lightning_debugkit.checkpoints import Best, Latest, Moment
    >>> made = [Record(f"{step}", Moment(step), metrics={"loss": loss}) for step, loss in [(1, 3.0), (2, 5.0)]]
    >>> kept(made, [Best("loss"), Latest()])
    {'1': ('best loss',), '2': ('latest',)}
    """
    ordered = in_order(records)
    return kept_by_rules(ordered, rules, pinned) or {record.name: (SAFEGUARD,) for record in ordered[-1:]}


def kept_by_rules(
    records: Iterable[Record], rules: Sequence[KeepRule], pinned: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """Return what `kept` does, but nothing where the rules keep nothing."""
    ordered = in_order(records)
    said = [*(rule.keeps(ordered) for rule in rules), dict(pinned or {})]
    reasons = {record.name: _reasons(record.name, said) for record in ordered}
    return {name: why for name, why in reasons.items() if why}


def doomed(
    records: Iterable[Record], rules: Sequence[KeepRule], pinned: Mapping[str, str] | None = None
) -> list[Record]:
    """Return the records that no rule keeps, the earliest first."""
    ordered = in_order(records)
    staying = kept(ordered, rules, pinned)
    return [record for record in ordered if record.name not in staying]


def present(records: Sequence[Record]) -> list[Record]:
    """Return the history that the newest record ends."""
    newest = head(records)
    return [] if newest is None else history(records, newest.run, newest.lineage)


def _reasons(name: str, said: Iterable[dict[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons[name] for reasons in said if name in reasons))
