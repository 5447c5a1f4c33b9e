"""What the checkpoint callback can say, and when it says it."""

from __future__ import annotations

import difflib
import errno
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lightning_debugkit.checkpointing.keeper import SaveOutcome
from lightning_debugkit.checkpointing.listing import size
from lightning_debugkit.checkpointing.records import Record
from lightning_debugkit.checkpointing.repair import Repairs
from lightning_debugkit.core.atomic_files import is_full
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed, plural
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.shared_rules import MONITOR_MISSING

CHECKPOINT_FAILED = Rule(
    "checkpoint-failed",
    Severity.WARNING,
    "the checkpoint of step {step} was not written: {error}",
    "Make room in {folder}, or let the rules keep fewer files.",
    section="checkpoints",
    cost="once",
)
MONITOR_NONFINITE = Rule(
    "monitor-nonfinite",
    Severity.WARNING,
    "{metric} is {value}{in_a_row}: it does not rank",
    "Find out why it is not finite; {until}.",
    section="checkpoints",
    cost="once",
)
MONITOR_BEFORE_UPDATE = Rule(
    "monitor-before-update",
    Severity.INFO,
    "{metric} is logged in training_step, before the weights are updated: a file ranked by it holds those of one "
    "update later",
    "Rank by a metric of validation, if a file must have the weights that its metric was measured on.",
    section="checkpoints",
    cost="once",
)
CHECKPOINT_REPAIRED = Rule(
    "checkpoint-repaired",
    Severity.INFO,
    "in {folder}: {done}",
    "Nothing needs to be done.",
    section="checkpoints",
    cost="once",
)
DISK_LOW = Rule(
    "disk-low",
    Severity.WARNING,
    "{free} are free in {folder}, less than the {size} of a checkpoint: the next one does not fit",
    "Make room there, or let the rules keep fewer files.",
    section="checkpoints",
    cost="once",
)

Named = tuple[str, Finding]
_PATIENCE = 3
_SPARSELY = 10  # epochs with a validation after which a metric without a value is no longer one that comes now and then
_ALIKE = 0.7  # of `difflib`: val_acc is like val_accuracy (0.74), val_loss is another metric than train_loss (0.67)
_FEW = 8


def failed_finding(
    where: Where, outcome: SaveOutcome, folder: Path, in_a_row: int, severity: Severity | None = None
) -> Finding:
    """Word a save that failed, and what to do by its cause."""
    error = outcome.error
    finding = CHECKPOINT_FAILED.found(
        where,
        severity=severity,
        error=told_of_save(error),
        step=outcome.draft.step,
        folder=str(folder),
        in_a_row=in_a_row,
    )
    if error is not None and is_full(error):
        return finding
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return replace(finding, advice=f"Let this process write to {folder}, or choose another dirpath.")
    if isinstance(error, OSError):
        return replace(finding, advice=f"See whether {folder} is still there and can be written.")
    return replace(
        finding, advice="See what the checkpoint holds that cannot be saved: hyperparameters, states of callbacks."
    )


def store_away(where: Where, outcome: SaveOutcome, folder: Path) -> Finding:
    """Word an object store that does not take a file, or that cannot be asked."""
    finding = CHECKPOINT_FAILED.found(
        where, error=told_of_save(outcome.error), step=outcome.draft.step, folder=str(folder), store=outcome.away
    )
    message = f"{outcome.away} cannot be reached ({told_of_save(outcome.error)}): the newest files wait in {folder}"
    advice = "See whether the store is there and takes your key; what waits is sent then, by this fit or the next."
    return replace(finding, message=message, advice=advice)


def told_of_save(error: BaseException | None) -> str:
    """Return an error in one line."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def repaired_finding(where: Where, repairs: Repairs, folder: Path) -> Finding | None:
    """Word what was set right in a folder; a warning if a file was damaged."""
    done = list(_done(repairs))
    if not done:
        return None
    evidence = {"swept": len(repairs.swept), "adopted": list(repairs.adopted), "lost": list(repairs.lost)}
    evidence |= {"set_aside": [name for name, _ in repairs.set_aside]}
    severity = Severity.WARNING if repairs.set_aside else Severity.INFO
    finding = CHECKPOINT_REPAIRED.found(where, severity=severity, folder=str(folder), done="; ".join(done), **evidence)
    if repairs.set_aside:
        return replace(
            finding, advice="Check the disk: files there do not hold what was written. Delete the .damaged ones."
        )
    return finding


def _done(repairs: Repairs) -> Iterator[str]:
    if repairs.swept:
        yield f"removed {plural(len(repairs.swept), 'unfinished file')} of a killed run ({size(sum(repairs.swept))})"
    if repairs.adopted:
        yield f"gave a record to {listed(repairs.adopted, _FEW)}, whole but not committed"
    for name, why in repairs.set_aside[:_FEW]:
        yield f"renamed a damaged file to {name} ({why})"
    if repairs.lost:
        yield f"forgot {listed(repairs.lost, _FEW)}, which {'is' if len(repairs.lost) == 1 else 'are'} gone"


def passed_over(where: Where, skipped: Iterable[tuple[Record, str]], chosen: str, folder: Path) -> Finding:
    """Word a resume from an older file than the newest."""
    names = [f"{record.name} (step {record.step}): {why}" for record, why in skipped]
    finding = CHECKPOINT_REPAIRED.found(
        where,
        severity=Severity.WARNING,
        folder=str(folder),
        done=f"resumed from {chosen}, as newer files are damaged: {'; '.join(names)}",
        skipped=names,
    )
    return replace(finding, advice="Check the disk: files there do not hold what was written.")


def gone(where: Where, outcome: SaveOutcome, folder: Path) -> Finding:
    """Word files that somebody else has deleted in mid-run; a warning if none was left to go on from."""
    names = tuple(record.name for record in outcome.gone)
    finding = CHECKPOINT_REPAIRED.found(
        where,
        severity=Severity.INFO if outcome.left else Severity.WARNING,
        folder=outcome.away or str(folder),
        done="; ".join(_done(Repairs(lost=names))),
        lost=list(names),
    )
    return replace(finding, advice="See who deletes there while the training goes on; the next save is made as usual.")


def left_behind(where: Where, aside: list[Record], folder: Path) -> Finding:
    """Word the files of a branch that was left by going back."""
    newest = max(record.step for record in aside)
    finding = CHECKPOINT_REPAIRED.found(
        where,
        folder=str(folder),
        done=f"{plural(len(aside), 'file')} up to step {newest} of a branch that is left behind stay as they are",
        aside=[record.name for record in aside],
    )
    return replace(finding, advice="Delete them with their records (.json) when the branch is not wanted any more.")


def shared(where: Where, folder: Path) -> Finding:
    """Word a folder that another process, or another callback, saves into at the same time."""
    finding = CHECKPOINT_REPAIRED.found(
        where,
        folder=str(folder),
        done="another NestedCheckpoint that is still at work saves here, too; each keeps its own files",
    )
    return replace(
        finding,
        advice="Give each a dirpath of its own: last.ckpt, best.ckpt and ckpt_path='last' are of whoever saved last.",
    )


def disk_low(where: Where, free: int, next_size: int, folder: Path) -> Finding:
    """Word a disk on which the next file does not fit."""
    return DISK_LOW.found(where, free=size(free), size=size(next_size), folder=str(folder))


class Monitors:
    """Watches the metrics that rules rank by: whether they are logged, and whether they are numbers."""

    def __init__(self, metrics: Iterable[str]) -> None:
        self.metrics = tuple(dict.fromkeys(metrics))
        self.seen: dict[str, bool] = {}  # by metric: whether a value was ever finite
        self.broken: dict[str, int] = {}  # by metric: how many values in a row were not
        self.validated: set[str] = set()  # those that a validation has logged
        self.absent: dict[str, int] = {}  # by metric never logged: in how many epochs of this fit

    def state_dict(self) -> dict[str, dict[str, int]]:
        return {
            "seen": {name: int(finite) for name, finite in self.seen.items()},
            "broken": dict(self.broken),
            "validated": dict.fromkeys(sorted(self.validated), 1),
        }

    def load_state_dict(self, state: Mapping[str, Mapping[str, int]]) -> None:
        self.validated = set(state.get("validated", {}))
        self.seen = {name: bool(finite) for name, finite in state.get("seen", {}).items()}
        self.broken = dict(state.get("broken", {}))

    def judge(self, where: Where, fresh: Mapping[str, float]) -> Iterator[tuple[str, Finding]]:
        """Return, by metric, what is wrong with its newest value.

        A metric may have no value before the model has learned anything, as the correlation of constant predictions:
        so a first one is worth knowing only. One that was finite and is no more is a fault.
        """
        for name in self.metrics:
            if name not in fresh:
                continue
            was_finite = self.seen.get(name, False)
            if math.isfinite(fresh[name]):
                self.seen[name], self.broken[name] = True, 0
                continue
            self.seen.setdefault(name, False)
            self.broken[name] = self.broken.get(name, 0) + 1
            times = self.broken[name]
            severity = Severity.WARNING if was_finite or times >= _PATIENCE else Severity.INFO
            yield (
                name,
                MONITOR_NONFINITE.found(
                    where,
                    severity=severity,
                    metric=name,
                    value=fresh[name],
                    times=times,
                    in_a_row=", for the third evaluation in a row" if times == _PATIENCE else "",
                    until="what was ranked before stays" if was_finite else "until then no file is ranked by it",
                ),
            )

    def unlogged(self, where: Where, validated: Mapping[str, float], logged: Iterable[str]) -> Iterator[Named]:
        """Return, by metric, those of earlier validations that this one did not log."""
        for name in self.metrics:
            if name in validated:
                self.validated.add(name)
            elif name in self.validated:
                finding = MONITOR_MISSING.found(
                    where, severity=Severity.INFO, metric=name, logged=_shown(sorted(logged)), closest=[]
                )
                message = f"{name} was not logged in this validation, so that no file of it is ranked by {name}"
                advice = "Log it in every validation, if each is to be ranked; it is ranked where it comes."
                yield name, replace(finding, message=message, advice=advice)

    def before_update(self, where: Where, in_training: set[str]) -> Iterator[Named]:
        """Return, by metric, those of a batch that was measured before the update that a file is saved after."""
        for name in self.metrics:
            if name in in_training:
                yield name, MONITOR_BEFORE_UPDATE.found(where, metric=name)

    def missing(self, where: Where, logged: Iterable[str], is_last: bool) -> Iterator[tuple[str, Finding]]:
        """Return, by metric, those never logged though all there is to log was.

        One whose name is like that of another is misspelt. Any other may be of some validations only, and is worth
        knowing until it has been absent for long or the fit ends.
        """
        names = sorted(logged)
        for name in self.metrics:
            if name in self.seen or name in names:
                continue
            self.absent[name] = self.absent.get(name, 0) + 1
            close = difflib.get_close_matches(name, names, 1, _ALIKE)
            is_sure = close or is_last or self.absent[name] >= _SPARSELY
            severity = Severity.WARNING if is_sure else Severity.INFO
            finding = MONITOR_MISSING.found(where, severity=severity, metric=name, logged=_shown(names), closest=close)
            if close:
                finding = replace(finding, advice=f"Write {close[0]!r}, if that is what is meant; else log {name!r}.")
            yield name, finding


def _shown(names: list[str]) -> str:
    return listed(names, _FEW) or "none at all"
