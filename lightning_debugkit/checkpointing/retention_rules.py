"""When to save and what to keep, as values that compose: ``Every``, ``Best``, ``Latest``."""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from lightning_debugkit.checkpointing.object_store import is_url, missing_package
from lightning_debugkit.checkpointing.records import Moment, Record
from lightning_debugkit.core.arguments import Needs, check_names

_HOUR = 3600.0


class Occasion(enum.Enum):
    """Why there is a decision to be made now."""

    STEP = "an optimizer step"
    BOUNDARY = "a validation or an epoch has ended"
    FINAL = "the training ends"


class KeepRule(ABC):
    """One reason to save and to keep a checkpoint.

    A file stays while any rule keeps it. ``keeps`` looks at the whole history, so that the order in which files arrive
    does not matter; ``is_due`` says when a new file is worth writing.
    """

    to: str | None

    def __new__(cls, *args: Any, **kwargs: Any) -> KeepRule:
        check_names(cls, kwargs)
        return super().__new__(cls)

    @abstractmethod
    def keeps(self, history: Sequence[Record]) -> dict[str, str]:
        """Return the names this rule keeps of an ordered history, each with the reason in words."""

    @abstractmethod
    def crosses(self, before: Moment, now: Moment, occasion: Occasion) -> bool:
        """Tell whether a file could be due: from steps and time alone, so that every rank answers alike."""

    def is_due(self, candidate: Record, before: Moment, history: Sequence[Record], occasion: Occasion) -> bool:
        """Tell whether to write ``candidate`` now: its time has come, and it would be kept."""
        return self.crosses(before, candidate.moment, occasion) and candidate.name in self.keeps([*history, candidate])

    def __repr__(self) -> str:
        parts = fields(self)  # type: ignore[arg-type]  # each rule is a dataclass
        given = [(part.name, getattr(self, part.name)) for part in parts if getattr(self, part.name) != part.default]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"


@dataclass(frozen=True, repr=False)
class Every(KeepRule):
    """Save every so often, whatever the metrics say, and keep it.

    Give one of ``steps``, ``epochs`` and ``hours``. The first file at or after each multiple is kept.

    Args:
        steps: Optimizer steps.
        epochs: Epochs.
        hours: Hours of training, counted on when it is resumed.
        keep: How many of them to keep, the newest; all if None.
        to: URL of an object store to keep them in; if None, where the callback keeps its files.
    """

    steps: int | None = None
    epochs: int | None = None
    hours: float | None = None
    keep: int | None = None
    to: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_to(self)
        given = {name: getattr(self, name) for name in ("steps", "epochs", "hours") if getattr(self, name) is not None}
        needs, hours = Needs("Every"), self.hours
        advice = "Every(steps=5000) is an example"
        needs.that("one of", len(given) == 1, "steps, epochs and hours", given or None, advice)
        for name in ("steps", "epochs", "keep"):
            _check_count(self, name, optional=True)
        fits = hours is None or (not isinstance(hours, bool) and 0 < hours < math.inf)
        needs.that("hours", fits, "> 0", hours, "0.5 is half an hour")

    def __str__(self) -> str:
        if self.hours is not None:
            return f"every {self.hours:g} hours" if self.hours != 1 else "every hour"
        count, unit = (self.steps, "step") if self.steps is not None else (self.epochs, "epoch")
        return f"every {count} {unit}s" if count != 1 else f"every {unit}"

    def place(self, moment: Moment) -> float:
        """Return how many of its intervals had passed, with fraction."""
        if self.hours is not None:
            return moment.seconds / (_HOUR * self.hours)
        return moment.step / self.steps if self.steps is not None else moment.epochs / (self.epochs or 1)

    def crosses(self, before: Moment, now: Moment, occasion: Occasion) -> bool:
        return math.floor(self.place(now)) > math.floor(self.place(before))

    def keeps(self, history: Sequence[Record]) -> dict[str, str]:
        firsts: dict[int, str] = {}
        for record in history:
            count = math.floor(self.place(record.moment))
            if count >= 1:
                firsts.setdefault(count, record.name)
        return dict.fromkeys(_newest(firsts, self.keep), str(self))

    def intervals(self, history: Iterable[Record]) -> list[list[Record]]:
        """Return the history cut at each multiple, the newest ``keep`` pieces; a multiple ends its interval."""
        pieces: dict[int, list[Record]] = {}
        for record in history:
            pieces.setdefault(max(math.ceil(self.place(record.moment)) - 1, 0), []).append(record)
        return _newest(pieces, self.keep)


@dataclass(frozen=True, repr=False)
class Best(KeepRule):
    """Save when a metric is among the best so far, and keep those.

    Values that are not finite never rank; of equal ones the earlier is kept. The metric is judged when it is fresh:
    after the validation, or the epoch, that logged it.

    Args:
        metric: Name under which it is logged.
        k: How many to keep.
        mode: ``min`` if smaller is better, ``max`` if larger is.
        within: Keep the best of each of these intervals that has a value, instead of those of the whole run.
        to: URL of an object store to keep them in; if None, where the callback keeps its files.
    """

    metric: str
    k: int = 1
    mode: Literal["min", "max"] = "min"
    within: Every | None = None
    to: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_to(self)
        if not isinstance(self.metric, str) or not self.metric:
            raise ValueError(f"Best needs the name of a metric, got {self.metric!r}; Best('val_loss') is an example.")
        _check_count(self, "k")
        Needs("Best").one_of("mode", self.mode, ("min", "max"), "'min' suits a loss")
        if self.within is not None and not isinstance(self.within, Every):
            raise ValueError(f"Best needs within=Every(...), got {self.within!r}; Every(steps=5000) is an example.")

    def __str__(self) -> str:
        which = f"best {self.metric}" if self.k == 1 else f"one of the {self.k} best {self.metric}"
        return which if self.within is None else f"{which} of {str(self.within).replace('every', 'each', 1)}"

    def crosses(self, before: Moment, now: Moment, occasion: Occasion) -> bool:
        return occasion is not Occasion.STEP

    def is_due(self, candidate: Record, before: Moment, history: Sequence[Record], occasion: Occasion) -> bool:
        # A step at which another rule writes may bring a fresh training metric, too: keeps() ranks it then.
        return self.metric in candidate.metrics and super().is_due(candidate, before, history, occasion)

    def ranked(self, history: Sequence[Record]) -> list[Record]:
        """Return the records with a finite value, the best first, of equal ones the earlier first."""
        sign = 1.0 if self.mode == "min" else -1.0
        return sorted(self._finite(history), key=lambda record: sign * record.metrics[self.metric])

    def _finite(self, history: Sequence[Record]) -> list[Record]:
        return [record for record in history if math.isfinite(record.metrics.get(self.metric, math.nan))]

    def keeps(self, history: Sequence[Record]) -> dict[str, str]:
        # An interval without a value is none: whether it counts would depend on whether its files are still there.
        pieces = [history] if self.within is None else self.within.intervals(self._finite(history))
        reason = str(self)
        return {record.name: reason for piece in pieces for record in self.ranked(piece)[: self.k]}


@dataclass(frozen=True, repr=False)
class Latest(KeepRule):
    """Always have the newest state to go on from.

    Args:
        n: How many to keep.
        every_n_steps: Optimizer steps between two of them; if None, one after each validation and each epoch.
            The end of the training is saved in any case.
        to: URL of an object store to keep them in; if None, where the callback keeps its files.
    """

    n: int = 1
    every_n_steps: int | None = None
    to: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        _check_to(self)
        _check_count(self, "n")
        _check_count(self, "every_n_steps", optional=True)

    def __str__(self) -> str:
        return "latest" if self.n == 1 else f"one of the {self.n} latest"

    def crosses(self, before: Moment, now: Moment, occasion: Occasion) -> bool:
        if occasion is Occasion.FINAL:
            return True
        if self.every_n_steps is None:
            return occasion is Occasion.BOUNDARY
        return now.step // self.every_n_steps > before.step // self.every_n_steps

    def keeps(self, history: Sequence[Record]) -> dict[str, str]:
        return dict.fromkeys((record.name for record in history[-self.n :]), str(self))


def urls_of(dirpath: Any, rules: Iterable[KeepRule]) -> list[str]:
    """Return the object stores that a folder and rules name, each once."""
    urls = [str(dirpath)] if is_url(dirpath) else []
    return [*dict.fromkeys([*urls, *(rule.to for rule in rules if rule.to)])]


def _check_to(rule: KeepRule) -> None:
    fits = rule.to is None or (isinstance(rule.to, str) and is_url(rule.to))
    advice = "'s3://bucket/run' is an example"
    Needs(type(rule).__name__).that("to", fits, "as the URL of an object store", rule.to, advice)
    if rule.to is not None and (missing := missing_package(rule.to)):
        raise ValueError(f"{type(rule).__name__} needs a package for to={rule.to!r}: {missing}.")


def _check_count(rule: KeepRule, name: str, *, optional: bool = False) -> None:
    value = getattr(rule, name)
    if not (optional and value is None):
        Needs(type(rule).__name__).whole(name, value, 1, "give a whole number")


def _newest(pieces: Mapping[int, Any], keep: int | None) -> list[Any]:
    ordered = [pieces[count] for count in sorted(pieces)]
    return ordered if keep is None else ordered[-keep:]
