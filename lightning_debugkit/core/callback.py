"""What every callback of the kit shares: a journal, a memory that resumes, and no fault of ours in the run."""

from __future__ import annotations

import contextlib
import inspect
import logging
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_debugkit.core import batch_hooks
from lightning_debugkit.core import run as runs
from lightning_debugkit.core.anomaly import TrainingAnomaly, as_event
from lightning_debugkit.core.arguments import check_names
from lightning_debugkit.core.compat import belong_to_both, callbacks_of, is_fit, is_search, stage_of
from lightning_debugkit.core.end_facts import end_facts, is_stop
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.guards import guarded, guarded_state, leave_out_passing_frames, tell_exceptions
from lightning_debugkit.core.optimizer_steps import load_uncounted, save_uncounted, steps_in, steps_taken
from lightning_debugkit.core.optimizers import epoch_of
from lightning_debugkit.core.run import Run, current_run, open_run
from lightning_debugkit.core.run_sinks import render_report, sinks_of

_log = logging.getLogger("lightning_debugkit")
_PLACE = {"epoch", "step", "rank"}
_ENDS = ("on_fit_end", "on_exception")

# Epoch and step of the checkpoint whose weights a Trainer validates or tests; it keeps those of its last fit.
_loaded: WeakKeyDictionary[Trainer, tuple[int, int]] = WeakKeyDictionary()


class RefusedSetup(ValueError):
    """What was asked for cannot be done in this Trainer; said before training starts."""


class DebugCallback(Callback):
    """Base of the kit's callbacks.

    Hooks of subclasses are guarded: what fails inside them is written to the journal and the training goes on. The
    last kit callback of a Trainer writes the end of the run, and renders the report of a run that was long, in which
    something was found, or in which a callback whose purpose is a report was chosen by name.
    """

    # What may leave a hook: it is meant for the user.
    passes: tuple[type[Exception], ...] = (TrainingAnomaly, RefusedSetup)
    # Set for callbacks that the environment variable added: they give way to the user's own.
    autoloaded = False
    # Not so for callbacks of a preset: nobody has asked for just this one.
    chosen = True
    # Stages other than the fit whose end is one of the run: the purpose of the callback is a report.
    reports_on: tuple[str, ...] = ()
    # Those at whose end it writes something.
    writes_on: tuple[str, ...] = ()
    idle = numpy_raises = False
    _said_left_out = ""
    _may_rest = False
    _told: list[str]
    _troubles: dict[str, int]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, hook in list(vars(cls).items()):
            if (name.startswith("on_") or name in ("setup", "teardown")) and callable(hook):
                # The end and the report are those of all callbacks.
                setattr(cls, name, guarded(name, hook, getattr(DebugCallback, name) if name in _ENDS else None))
            elif name in ("state_dict", "load_state_dict"):
                setattr(cls, name, guarded_state(name, hook))

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        check_names(cls, kwargs)
        DebugCallback.belong()
        self = super().__new__(cls)
        self._told = []
        self._troubles = {}
        return self

    @staticmethod
    def belong() -> None:
        """Make all callbacks of the kit ones of ``pytorch_lightning`` too, if that is imported."""
        belong_to_both(DebugCallback, Callback)

    def __repr__(self) -> str:
        names = [name for name in inspect.signature(type(self).__init__).parameters if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @cached_property  # Lightning asks for it at every hook
    def state_key(self) -> str:
        return f"{type(self).__qualname__}{'(autoloaded)' if self.autoloaded else ''}"

    def state_dict(self) -> dict[str, Any]:
        return {"told": list(self._told)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._told = list(state_dict.get("told", []))

    def gives_way(self, trainer: Trainer) -> bool:
        """Tell whether the user's own callback of this kind makes an autoloaded one needless."""
        callbacks = callbacks_of(trainer)
        return self.autoloaded and any(type(c) is type(self) and not c.autoloaded for c in callbacks)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        _loaded.pop(trainer, None)
        if stage == "fit":
            self.wake()
            self.idle = self.gives_way(trainer)
            if not self.idle:
                self._told, self._troubles, self._said_left_out = [], {}, ""
                self._may_rest = any(each is self for each in callbacks_of(trainer))
                self.rest(*batch_hooks.unused(type(self)))
                open_run(trainer, pl_module)
                company = self._company(trainer) if self._may_rest else [self]
                if company[:1] == [self]:
                    tell_exceptions(trainer, pl_module, company)

    def rest(self, *hooks: str) -> None:
        """Let the Trainer pass over hooks of batches, in which nothing is left to do in this fit.

        A callback of the user's that holds this one calls all of them.
        """
        if self._may_rest:
            batch_hooks.rest(self, hooks)

    def wake(self, *hooks: str) -> None:
        """Let the Trainer call hooks of batches again, all of them if none is named."""
        batch_hooks.wake(self, hooks or batch_hooks.NAMES)

    def left_out(self, trainer: Trainer, text: str, error: Exception) -> None:
        """Say what is left out: to those who have arguments to mend it by, all; to the others one line, once a run."""
        if text == self._said_left_out:
            return  # in another stage
        callbacks = [each for each in callbacks_of(trainer) if isinstance(each, DebugCallback)]
        is_said, self._said_left_out = any(each._said_left_out for each in callbacks), text
        if not self.autoloaded:
            _log.warning(text)
            return
        name = type(self).__name__
        first = str(error).partition("\n")[0].partition("; ")[0].rstrip(".")
        level = logging.INFO if is_said else logging.WARNING
        _log.log(level, f"{name} leaves its section out: {first.replace(f'{name} ', 'it ', 1)}.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        save_uncounted(trainer, checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        place = int(checkpoint.get("epoch", 0)), steps_in(checkpoint)
        if trainer.state.fn != "fit":
            _loaded[trainer] = place
            return
        load_uncounted(trainer, checkpoint)
        run = current_run(trainer)
        if run is not None and not (run.ended or run.is_resumed or is_search(trainer)):
            run.is_resumed, run.first_step = True, place[1]
            run.append("resume", path=str(trainer.ckpt_path), epoch=place[0], step=place[1], rank=run.rank)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.wake()
        self.finish(trainer, "stopped" if trainer.interrupted else "finished")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.wake()
        try:
            self._release()
        finally:
            self.finish(trainer, "interrupted" if is_stop(exception) else "exception", exception)
            leave_out_passing_frames(exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._release()

    def _release(self) -> None:
        """Leave nothing of ours on what is the user's; called after an exception, too, and may be called twice."""

    def finish(
        self, trainer: Trainer, status: str, exception: BaseException | None = None, force: bool = False
    ) -> None:
        """Write the end of the run, and render the report if it is due, once, by the last kit callback in the Trainer.

        Args:
            status: ``finished``, ``stopped``, ``interrupted`` or ``exception``.
            force: This is the end, and the report is due, whoever is the last.
        """
        run = current_run(trainer)
        if run is None or not (force or self._company(trainer)[-1:] == [self]):
            return
        if not run.ended:
            run.ended, step = True, steps_taken(trainer)
            sinks_of(trainer, run).loggers.end(step)
            runs.tell_batch_size(trainer, run)
            facts = end_facts(trainer, run, step, status, exception)
            place = {"epoch": trainer.current_epoch, "step": step, "rank": trainer.global_rank}
            run.append("end", **place, status=status, exception=as_event(exception), seconds=run.seconds, **facts)
        if not trainer.is_global_zero:
            # Who started the processes ends the others with the first that fails: that one makes the report.
            if status == "exception" and sinks_of(trainer, run).console.says_exception:
                self._render(run)
            run.close(is_plain=False)
            return
        is_due = force or status == "exception" or self._is_report_due(trainer, run)
        if is_due and run.rendered != run.written:
            run.settle()
            sinks_of(trainer, run)
            self._render(run)
            run.rendered = run.written
        run.close(is_plain=not is_due and status == "finished" and trainer.world_size == 1)

    def _company(self, trainer: Trainer) -> list[DebugCallback]:
        callbacks = callbacks_of(trainer)
        return [each for each in callbacks if isinstance(each, DebugCallback) and not each.idle]

    def _is_report_due(self, trainer: Trainer, run: Run) -> bool:
        """Tell whether the report is worth its second now: else it is made when somebody asks for it."""
        if run.rendered >= 0 or run.seconds >= runs.SHORT or run.is_alarmed(trainer.world_size):
            return True
        return any(each.reports_on and each.chosen for each in self._company(trainer))

    @contextlib.contextmanager
    def ending(self, trainer: Trainer, stage: str, now: bool = False) -> Iterator[None]:
        """End the run with what runs inside, also if it fails: once, by the last callback with something to report.

        Args:
            stage: What ends: ``validate`` or ``test``.
            now: This callback has something to report, though that is not its purpose.
        """
        try:
            yield
        finally:
            company = self._company(trainer)
            purposes = [each for each in company if stage in each.reports_on]
            if purposes:  # what others write at this end is to be in it
                due = [each for each in company if stage in (*each.reports_on, *each.writes_on)]
            else:
                due = [self] if now else []
            if due[-1:] == [self]:
                self.finish(trainer, "finished", force=True)

    @contextlib.contextmanager
    def telling(self, trainer: Trainer, module: LightningModule, findings: Sequence[Finding]) -> Iterator[None]:
        """Let findings of an evaluation be told inside, and render the report again where no fit is going to."""
        is_fit = trainer.state.fn == "fit"
        if findings and not is_fit and trainer.world_size == 1 and current_run(trainer) is None:
            open_run(trainer, module)  # a collective with several processes
        stage = stage_of(trainer)
        if any(stage in each.reports_on for each in self._company(trainer)):
            yield  # its end is one of the run
        else:
            with self.ending(trainer, stage, now=bool(findings) and not is_fit):
                yield

    def _render(self, run: Run) -> None:
        render_report(run)

    def where(self, trainer: Trainer, module: str = "") -> Where:
        """Return the place of now; where a checkpoint is validated or tested, the one that its weights are from."""
        if is_fit(trainer):
            return Where(trainer.current_epoch, steps_taken(trainer), trainer.global_rank, module)
        epoch, step = _loaded.get(trainer) or (epoch_of(trainer), steps_taken(trainer))
        return Where(epoch, step, trainer.global_rank, module)

    def in_batch(self, trainer: Trainer, run: Run | None) -> Where:
        """Return the place of the step in progress: where a batch has one step, it is that of the batch."""
        return self.where(trainer) if run is None or run.here is None else run.here

    def write(self, trainer: Trainer, kind: str, **fields: Any) -> None:
        """Append an event to the run's journal, with epoch, step and rank: those of now if none are given."""
        run = current_run(trainer)
        if run is not None:
            if not fields.keys() >= _PLACE:
                where = self.where(trainer)
                fields = {"epoch": where.epoch, "step": where.step, "rank": where.rank, **fields}
            run.append(kind, **fields)
            if kind == "measure" and (sinks := sinks_of(trainer, run)).takes_all:
                sinks.loggers.measure(fields["name"], fields["value"], fields["step"])

    def measure(self, trainer: Trainer, where: Where, values: Mapping[str, Any]) -> None:
        """Append one point to each of some series, of one place."""
        if (run := current_run(trainer)) is not None:
            run.measure(where, values)
            if (sinks := sinks_of(trainer, run)).takes_all:
                for name, value in values.items():
                    sinks.loggers.measure(name, value, where.step)

    def is_ignored(self, trainer: Trainer, finding: Finding) -> bool:
        """Tell whether the user wants nothing of this rule."""
        run = current_run(trainer)
        return run is not None and finding.rule in sinks_of(trainer, run).ignored

    def emit(self, trainer: Trainer, finding: Finding, about: str = "", is_raised: bool = False) -> bool:
        """Journal ``finding`` and pass it on, unless the same was told before; tell whether it is news.

        A lasting condition is told once for its rule and module, or what else it is about, and again only if it has
        become more severe. What ``is_raised`` next is not said on the terminal, too.
        """
        run = current_run(trainer)
        if run is not None and sinks_of(trainer, run).leave_out(finding, run):
            return False
        about = about or finding.where.module
        key = f"{finding.rule}|{about}|{int(finding.severity)}"
        grave = [f"{finding.rule}|{about}|{int(s)}" for s in Severity if s >= finding.severity]
        if any(k in self._told for k in grave):
            return False
        self._told.append(key)
        if run is not None:
            run.saw(finding)
            sinks_of(trainer, run).finding(finding, is_raised)
        elif finding.severity >= Severity.WARNING:  # a validation by itself leaves no journal
            _log.warning(f"{finding.severity} {finding.rule}: {finding.message}\n  {finding.advice}")
        return True

    def emit_each(self, trainer: Trainer, findings: Iterable[Finding]) -> None:
        """Emit one finding after the other."""
        for finding in findings:
            self.emit(trainer, finding)

    def remark(self, trainer: Trainer, finding: Finding) -> None:
        """Journal what belongs into a section of the report, and asks for nothing."""
        run = current_run(trainer)
        if run is not None:
            run.append(**{**finding.to_event(), "kind": "note"})

    def forget(self, rule: str) -> None:
        """Let ``rule`` be told again: its condition has passed."""
        self._told = [key for key in self._told if not key.startswith(f"{rule}|")]

    def trouble(self, trainer: Trainer, hook: str, error: BaseException) -> None:
        """Journal a fault of the kit itself, at most three times for each hook."""
        self._troubles[hook] = self._troubles.get(hook, 0) + 1
        if self._troubles[hook] > 3:
            return
        try:
            told = f"{type(error).__name__}: {error}"
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            at = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
            self.write(trainer, "trouble", callback=type(self).__name__, hook=hook, error=told, at=at)
            if self._troubles[hook] == 3 and (run := current_run(trainer)) is not None:
                run.alarmed = True  # it stopped looking, and the reader must hear of it
        except Exception:
            _log.debug("the journal cannot take a fault of the kit", exc_info=True)


for _name in ("setup", "teardown", *_ENDS):
    setattr(DebugCallback, _name, guarded(_name, vars(DebugCallback)[_name]))
