"""Faults of the kit itself: a callback that broke has found nothing, and the reader must know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_debugkit.core.journal import Event
from lightning_debugkit.report.number_formats import as_int, as_list, sentence

# The journal takes so many faults of one hook, and no more: from there on nothing is known of it.
_MOST = 3
_NAMED = 3


@dataclass(frozen=True)
class Trouble:
    """A callback of the kit that failed in one of its hooks."""

    callback: str
    step: int  # optimizer steps taken when it failed first
    error: str  # type and message of the first fault
    times: int  # faults of that hook in the journal
    hook: str = ""
    at: str = ""  # where in the kit the first was raised, empty if unknown

    @property
    def is_lasting(self) -> bool:
        """It failed as often as the journal takes: what it would have seen since is not known."""
        return self.times >= _MOST

    @property
    def told(self) -> str:
        """What became of it, and why."""
        stopped = f"{self.callback} stopped looking at step {self.step}: {self.error}"
        return f"{stopped} (this is a defect of the kit, please report it)"

    @property
    def remark(self) -> str:
        """The same as sentences of their own, with the place."""
        at = f", at {self.at}" if self.at else ""
        if self.is_lasting:
            said = f"{self.callback} stopped looking at step {self.step}: {self.error}{at}."
        else:
            often = "once" if self.times == 1 else f"{self.times} times, first"
            failed = f"{self.callback} failed {often} at step {self.step}, in {self.hook}: {self.error}{at}"
            said = f"{failed}; what it would have found there is missing."
        return f"{said} This is a defect of the kit: please report it."


def troubles(events: Iterable[Event]) -> tuple[Trouble, ...]:
    """Return the faults of the kit, one for each callback: its worst, those that last first."""
    hooks: dict[tuple[str, str, int], list[Event]] = {}
    for event in events:
        key = str(event.get("callback", "a callback")), str(event.get("hook", "")), as_int(event.get("rank"))
        hooks.setdefault(key, []).append(event)
    found: dict[str, Trouble] = {}
    for (callback, hook, _), faults in hooks.items():
        first = faults[0]
        at = next((str(frame) for frame in reversed(as_list(first.get("at")))), "")
        error = sentence(str(first.get("error", "unknown")), 200)
        trouble = Trouble(callback, as_int(first.get("step")), error, len(faults), hook, at.rpartition("/")[2])
        before = found.get(callback)
        if before is None or (trouble.is_lasting, -trouble.step) > (before.is_lasting, -before.step):
            found[callback] = trouble
    return tuple(sorted(found.values(), key=lambda each: (not each.is_lasting, each.step)))


def others(callbacks: Sequence[object], broken: Sequence[Trouble]) -> str:
    """Return who looked to the end, in words: of the ``callbacks`` of the run all that are not ``broken``.

    >>> broken = [Trouble("ActivationMonitor", 3, "IndexError: out of range", 3)]
    >>> others(["ActivationMonitor", "ErrorAnalysis"], broken), others([], broken)
    ('by ErrorAnalysis', 'by the other callbacks')
    """
    names = {trouble.callback for trouble in broken}
    left = [str(name) for name in callbacks if name not in names]
    if not callbacks:
        return "by the other callbacks"
    return f"by {', '.join(left)}" if len(left) <= _NAMED else f"by the {len(left)} other callbacks"
