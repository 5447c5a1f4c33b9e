"""What the end of a run says: how many steps it took, and why it is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from lightning_debugkit.core.compat import EarlyStopping, Trainer, callbacks_of, is_fit, is_trial, stage_of
from lightning_debugkit.core.run import Run

# Somebody else's decision, and no fault: a signal, or a search (Optuna's) that gives a trial up.
_STOPS = ("KeyboardInterrupt", "SIGTERMException", "TrialPruned")


def is_stop(exception: BaseException) -> bool:
    """Tell whether an exception asks for the end of a run that is well."""
    is_named = any(kind.__name__ in _STOPS for kind in type(exception).__mro__)
    return is_named or (isinstance(exception, SystemExit) and not exception.code)


def end_facts(trainer: Trainer, run: Run, step: int, status: str, exception: BaseException | None) -> dict[str, Any]:
    """Return what the journal's end says beside its place and status.

    Args:
        step: Optimizer steps that the Trainer has taken.
        status: How it ended; ``interrupted`` by ``exception``, which asked for the end then.
    """
    facts: dict[str, Any] = {"steps": step - run.first_step, "stage": stage_of(trainer)}
    facts |= {} if run.trained is None else {"trained": run.trained}
    facts |= {"skipped": run.skipped} if run.skipped else {}
    if exception is None:
        reason = run.end_reason or _reason(trainer)
    else:
        said = ": ".join(filter(None, [type(exception).__name__, str(exception).rstrip(".")]))
        reason = said if status == "interrupted" else ""
    return facts | ({"reason": reason} if reason else {})


def _reason(trainer: Trainer) -> str:
    """Return why a fit that no exception ended is over, empty where that is not known.

    Lightning counts an epoch that is cut short: then ``max_epochs`` may be reached, but ended nothing.
    """
    if not is_fit(trainer):
        return ""
    if is_trial(trainer):
        return "fast_dev_run"
    if 0 in (trainer.num_training_batches, trainer.limit_train_batches):
        return "there were no training batches"
    if trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps:
        return f"max_steps={trainer.max_steps} was reached"
    is_last = trainer.max_epochs is not None and 0 <= trainer.max_epochs <= trainer.current_epoch
    if trainer.should_stop and not (is_last and trainer.is_last_batch):
        return "; ".join(_asked(trainer)) or "trainer.should_stop was set by the program or one of its callbacks"
    return f"max_epochs={trainer.max_epochs} was reached" if is_last else ""


def _asked(trainer: Trainer) -> Iterator[str]:
    """Yield which of Lightning's callbacks asked for the end; they keep their state from one fit to the next."""
    for timer in callbacks_of(trainer):
        left = timer.time_remaining() if callable(getattr(timer, "time_remaining", None)) else None
        if left is not None and left <= 0:
            limit = timedelta(seconds=round(left + timer.time_elapsed()))
            yield f"the time limit of {limit} was reached ({type(timer).__name__})"
    for stopping in callbacks_of(trainer, EarlyStopping):
        told = getattr(stopping, "stopping_reason_message", "")  # Lightning 2.5 has none
        asked = stopping.stopped_epoch > 0 if told == "" else told is not None
        if asked and stopping.stopped_epoch == trainer.current_epoch - 1:
            said = f": {told.partition('. ')[0]}" if told else f" on {stopping.monitor}"
            yield f"{type(stopping).__name__}{said}"
