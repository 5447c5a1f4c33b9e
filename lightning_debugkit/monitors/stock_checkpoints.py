"""Files of Lightning's own `ModelCheckpoint` that are not what they say: an old "last", a metric of other weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from string import Formatter
from typing import Any

from lightning_debugkit.core.compat import ModelCheckpoint, Trainer, both_packages, callbacks_of, in_training_step
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.shared_rules import MONITOR_MISSING

STALE = Rule("checkpoint-stale", Severity.INFO, "{told}", "{remedy}", section="checkpoints")

_NAMED_BY = "ModelCheckpoint names its files by {metric}, which nothing logs{close}: each name says 0"
_NAME = "Log it with self.log({metric!r}, value), or name one that is logged in filename={filename!r}."
_OWN = ("epoch", "step")  # what Lightning adds to the metrics


class SavedCheckpoints:
    """Follows at which step each `ModelCheckpoint` saved, and of which step its metric is."""

    def __init__(self) -> None:
        self._epochs: list[tuple[int, int]] = []  # epoch, and the step at which it ended
        self._validated = -1  # step of the last validation that has ended
        self._looked: dict[int, int] = {}  # by callback: the step of the save that was looked at last
        self._stock: list[Any] | None = None  # asked for once an epoch

    def validates(self, trainer: Trainer) -> None:
        """Take note that a validation begins: it has ended when this looks again."""
        self._validated = trainer.global_step

    def end_epoch(self, trainer: Trainer) -> None:
        """Take note of the end of an epoch, before it is saved."""
        self._epochs.append((trainer.current_epoch, trainer.global_step))
        self._stock = None

    def judge(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        """Yield the saves since this was asked last that rank by a metric of an earlier validation."""
        if self._stock is None:
            self._stock = _stock(trainer)
        for callback in self._stock:
            step = callback._last_global_step_saved
            if step == 0 or step != trainer.global_step or self._looked.get(id(callback)) == step:
                continue
            self._looked[id(callback)] = step
            if 0 <= self._validated < step and callback.monitor in _of_validation(trainer):
                yield STALE.found(
                    where,
                    severity=Severity.WARNING,
                    told=f"ModelCheckpoint ranks the file of step {step} by {callback.monitor} of step "
                    f"{self._validated}, the last validation before it",
                    remedy="Save where the metric is measured (every_n_train_steps=None), or use NestedCheckpoint, "
                    "which ranks no file by an older metric.",
                    monitor=str(callback.monitor),
                    saved=step,
                    measured=self._validated,
                )
            elif callback.monitor in in_training_step(trainer):
                yield STALE.found(
                    where,
                    told=f"ModelCheckpoint ranks by {callback.monitor}, which training_step logs before the weights "
                    "are updated: a file holds those of one update later",
                    remedy="Rank by a metric of validation, if a file must have the weights that its metric was "
                    "measured on.",
                    monitor=str(callback.monitor),
                    saved=step,
                )

    def conclude(self, trainer: Trainer, where: Where, *, broken: bool = False) -> Iterator[Finding]:
        """Yield the files whose name is not true: a metric that is not there, or the last though of an earlier epoch.

        Args:
            broken: Whether it ends with an exception, so that it is to be resumed.
        """
        for callback in _stock(trainer):
            yield from _misnamed(callback, trainer, where)
            every = callback._every_n_epochs
            if not callback.save_last or not callback.last_model_path or every < 1 or callback.save_top_k == -1:
                continue
            saved = callback._last_global_step_saved
            passed = [epoch for epoch, step in self._epochs if step > saved and (epoch + 1) % every == 0]
            if passed:
                yield STALE.found(
                    where,
                    severity=Severity.WARNING if broken else Severity.INFO,
                    told=f"{callback.last_model_path} is of step {saved}, {len(passed)} "
                    f"epoch{'s' * (len(passed) > 1)} older than the run: ModelCheckpoint writes it only when a file "
                    "ranks among the best",
                    remedy="Resume from it only if those epochs may be lost; NestedCheckpoint's last is the latest.",
                    saved=saved,
                    epochs=len(passed),
                )


def _misnamed(callback: Any, trainer: Trainer, where: Where) -> Iterator[Finding]:
    """Yield the metrics in the names of saved files that were never logged: Lightning takes 0 for them."""
    if not callback._last_global_step_saved or not callback.filename:
        return
    logged = [*trainer.callback_metrics]
    fields = [field for _, field, _, _ in Formatter().parse(callback.filename) if field]
    for metric in sorted({*fields} - {*logged, *_OWN}):
        close = get_close_matches(metric, logged, n=1)
        rule = replace(MONITOR_MISSING, says=_NAMED_BY, advice=_NAME)
        told = f" ({close[0]} is logged)" if close else ""
        yield rule.found(where, metric=metric, close=told, filename=callback.filename, logged=logged)


def _stock(trainer: Trainer) -> list[Any]:
    """Return Lightning's checkpoint callbacks, those of ours and of others' own making left out."""
    kinds = both_packages(ModelCheckpoint)
    if not trainer.is_global_zero:
        return []
    return [callback for callback in callbacks_of(trainer) if type(callback) in kinds]


def _of_validation(trainer: Trainer) -> set[str]:
    """Return the metrics that validation alone logs."""
    loop: Any = trainer.fit_loop.epoch_loop
    trained = {item.meta.name for item in loop._results.values()}
    trained |= {f"{name}{end}" for name in trained for end in ("_step", "_epoch")}
    return set(trainer.callback_metrics) - trained
