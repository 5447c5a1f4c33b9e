"""Weights that can always be run again: every checkpoint carries the code that made it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_debugkit.core import run as runs
from lightning_debugkit.core.background_task import BackgroundTask
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import is_trial
from lightning_debugkit.core.end_facts import is_stop
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.run import current_run
from lightning_debugkit.core.sharding import holds_whole_model
from lightning_debugkit.core.weight_names import fit_names
from lightning_debugkit.provenance.capture.capture import Wanted, capture
from lightning_debugkit.provenance.capture.project_modules import main_file
from lightning_debugkit.provenance.carried.manifest import KEY, NoSnapshot, embedded, taken_from
from lightning_debugkit.provenance.snapshot import checkpoint_hooks, snapshot_arguments, snapshot_rules
from lightning_debugkit.provenance.snapshot.checkpoint_hooks import Loading, Saving
from lightning_debugkit.provenance.snapshot.export_program import Example, write_programs
from lightning_debugkit.provenance.snapshot.run_end_commit import RunEnd, keep_outcome, summary_of
from lightning_debugkit.provenance.snapshot.run_facts import arguments_not_kept, run_facts
from lightning_debugkit.provenance.snapshot.snapshot_files import write_snapshot_files
from lightning_debugkit.provenance.snapshot.snapshot_session import SnapshotSession, compared_with_now

_log = logging.getLogger("lightning_debugkit")
_LATER = 1.0  # seconds after which a preset's snapshot is begun: many fits are over by then and save nothing
_OF_FIT = ("_session", "_taking", "_leaving", "_names")


class CodeSnapshot(DebugCallback):
    """Let every checkpoint carry its code: commit, uncommitted changes, the sources that ran, environment, settings.

    Taken once, beside the first steps of a fit, and before its first checkpoint at the latest. Checkpoints of any
    callback carry it, weights-only files too, and load as before; `load_model` rebuilds a model from it,
    ``lightning-debugkit diff | restore | show | log`` read it. The whole working tree becomes a commit on
    ``refs/debugkit/runs/<id>``, and its child at the end tells the outcome: branches, index, stash and files stay as
    they are. Nothing leaves the machine; large files and secrets are left out and listed.

    Args:
        note: Why this run is made, for the experiment log.
        label: Name of this run in the experiment log, such as ``e201.1``.
        side_ref: Keep the working tree, untracked files included, as a commit that no branch shows.
        include: Names of further files of the project to take along, such as configurations.
        max_file: Bytes of the largest file that is taken.
        max_bundle: Bytes of the packed sources that a checkpoint may carry; above, it carries hashes only.
        timeout: Seconds that the capture may take; what is not done by then is left out.
        export: Leave a ``torch.export`` program of the model's forward beside the best and the last checkpoint when
            the fit ends: it runs without any code.
    """

    def __init__(
        self,
        note: str = "",
        label: str = "",
        side_ref: bool = True,
        include: Sequence[str] = ("*.yaml", "*.yml", "*.toml"),
        max_file: int = 1_000_000,
        max_bundle: int = 20_000_000,
        timeout: float = 10.0,
        export: bool = False,
    ) -> None:
        snapshot_arguments.check_snapshot(note, label, include)
        snapshot_arguments.check_numbers(max_file, max_bundle, timeout)
        self.note = note
        self.label = label
        self.side_ref = side_ref
        self.include = include
        self.max_file = max_file
        self.max_bundle = max_bundle
        self.timeout = timeout
        self.export = export
        self._session: SnapshotSession | None = None
        self._taking: BackgroundTask | None = None
        self._leaving: BackgroundTask | None = None
        self._example = Example()
        self._names: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to a fit in progress stays with it.
        return {name: value for name, value in self.__dict__.items() if name not in (*_OF_FIT, "_example")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, **dict.fromkeys(_OF_FIT), _example=Example())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if not self.idle and pl_module.strict_loading and holds_whole_model(trainer):
            self._release_names()
            self._names = fit_names(pl_module, report=lambda told: self._tell_renamed(trainer, told))
        if self.idle or not trainer.is_global_zero:
            return
        if stage == "fit":
            self._begin(trainer, pl_module)
        checkpoint_hooks.install(trainer, Loading, lambda checkpoint, path: self._compare(trainer, checkpoint, path))

    def _begin(self, trainer: Trainer, module: LightningModule) -> None:
        """Ask now what may change in training; look at files and repository beside the steps."""
        self._drop()
        self._session = None
        wanted = Wanted(
            model=type(module),
            main=main_file(),
            made_of=tuple({type(part).__module__ for part in module.modules()}),
            run=run_facts(trainer, module),
            note=self.note,
            label=self.label,
            # A trial saves nothing that could be restored.
            side_ref=self.side_ref and not is_trial(trainer),
            include=tuple(self.include),
            max_file=self.max_file,
            max_bundle=self.max_bundle,
            seconds=self.timeout,
        )
        missing, where = arguments_not_kept(module), self.where(trainer)
        self._taking = BackgroundTask(
            lambda: self._part(trainer, "setup", lambda: self._take(trainer, wanted, missing, where)),
            0.0 if self.chosen or self.side_ref else _LATER,
        )
        # Beside a short fit in a preset nobody looks for the sources.
        self._leaving = BackgroundTask(
            lambda: self._part(trainer, "setup", lambda: self._leave(trainer)), 0.0 if self.chosen else runs.SHORT
        )
        # It stays there: many save by hand when the fit is over.
        checkpoint_hooks.install(trainer, Saving, lambda checkpoint, path: self._add(trainer, checkpoint, path))

    def _drop(self) -> None:
        for each in (self._taking, self._leaving):
            if each is not None:
                each.drop()

    def _take(self, trainer: Trainer, wanted: Wanted, missing: Mapping[str, Any], where: Where) -> None:
        taken = capture(wanted)
        self._session = SnapshotSession(taken)
        manifest, kept = taken.manifest, taken.manifest["tree"]
        run = current_run(trainer)
        if run is not None:
            run.append(
                "artifact", epoch=where.epoch, step=where.step, rank=where.rank, name="code",
                path="code/manifest.json", id=manifest.id, commit=manifest.commit, dirty=manifest.is_dirty,
                ref=kept.get("ref"), note=manifest.data["note"], label=manifest.data["label"],
                seconds=round(taken.seconds, 3), bytes=len(taken.source or b""),
            )  # fmt: skip
        model = str(manifest["model"].get("qualname"))
        told = [
            *snapshot_rules.of_capture(manifest, where, self.max_bundle, is_asked=self.chosen),
            snapshot_rules.of_left_out(manifest, where),
            snapshot_rules.of_model(model, missing, where),
        ]
        for finding in filter(None, told):
            if finding.rule in snapshot_rules.NOTES:
                self.remark(trainer, finding)
            else:
                self.emit(trainer, finding)

    def _leave(self, trainer: Trainer) -> None:
        session, run = self._taken(), current_run(trainer)
        if session is not None and run is not None:
            write_snapshot_files(session.taken, run.folder)

    def _taken(self) -> SnapshotSession | None:
        """Return the snapshot of the fit, taken now if it has not been; ``None`` if there is none."""
        if self._taking is not None:
            self._taking.now()
        return self._session

    def _tell_renamed(self, trainer: Trainer, told: str) -> None:
        if trainer.is_global_zero:
            self.emit(trainer, snapshot_rules.WEIGHTS_RENAMED.found(self.where(trainer), told=told))

    def _release_names(self) -> None:
        if self._names is not None:
            self._names.remove()
            self._names = None

    def _compare(self, trainer: Trainer, checkpoint: dict[str, Any], path: Any) -> None:
        """Tell whether the code of a checkpoint is not the one that is about to run; never in the way of it."""
        try:
            checkpoint_hooks.remove(trainer, Loading)
            manifest, source = taken_from(checkpoint)
            is_fit = trainer.state.fn == "fit"
            comparison = compared_with_now(manifest, source, self._taken() if is_fit else self._session)
            finding = snapshot_rules.differing(comparison, str(path), self.where(trainer))
            if finding is not None:
                self.emit(trainer, finding, about=str(path))
        except NoSnapshot:
            _log.debug(f"{path} carries no code to compare with")
        except Exception as error:
            self.trouble(trainer, "load_checkpoint", error)

    def _add(self, trainer: Trainer, checkpoint: dict[str, Any], path: Any) -> None:
        """Put the snapshot into a checkpoint that is about to be written; never in the way of it."""
        try:
            session = self._taken()
            if session is not None:
                manifest = session.manifest_for(trainer)
                checkpoint.setdefault(KEY, embedded(manifest, session.source))
        except Exception as error:
            self.trouble(trainer, "save_checkpoint", error)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        checkpoint_hooks.remove(trainer, Loading)
        self._release_names()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release_names()
        if self.export and trainer.is_global_zero:
            self._example.watch(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        try:
            self._end(trainer, RunEnd("stopped" if trainer.interrupted else "finished"))
            if self.export:
                self._part(trainer, "export", lambda: self._leave_programs(trainer, pl_module))
        finally:
            super().on_fit_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        failed = RunEnd("exception", f"{type(exception).__name__}: {exception}")
        outcome = RunEnd("interrupted") if is_stop(exception) else failed
        try:
            self._end(trainer, outcome)
        finally:
            super().on_exception(trainer, pl_module, exception)

    def _end(self, trainer: Trainer, outcome: RunEnd) -> None:
        """Tell how it ended, each part by itself: what cannot be told must not take the rest with it."""
        self._example.release()
        run = current_run(trainer)
        if run is None or run.ended or self._taking is None:
            return
        self._drop()
        is_kept = self.chosen or run.seconds >= runs.SHORT or outcome.status == "exception" or run.is_alarmed(1)
        if is_kept and self._leaving is not None:
            self._leaving.now()
        session = self._taken() if is_kept or self._taking.is_begun else None
        if session is not None and not session.has_ended:
            session.has_ended = True
            self._part(trainer, "drift", lambda: self._tell_drift(trainer, session))
        self._part(trainer, "outcome", lambda: self.write(trainer, "artifact", name="code-end", **summary_of(trainer)))
        if session is not None:
            self._part(trainer, "commit", lambda: self._keep(trainer, outcome, session, run.folder))

    def _keep(self, trainer: Trainer, outcome: RunEnd, session: SnapshotSession, folder: Path) -> None:
        keep_outcome(session, trainer, outcome, folder, max_file=self.max_file, seconds=self.timeout)

    def _part(self, trainer: Trainer, name: str, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:
            self.trouble(trainer, name, error)

    def _tell_drift(self, trainer: Trainer, session: SnapshotSession) -> None:
        finding = snapshot_rules.drifted(*session.drift(), self.where(trainer))
        if finding is not None:
            self.emit(trainer, finding, about="drift")

    def _leave_programs(self, trainer: Trainer, module: LightningModule) -> None:
        if self._session is not None:
            for event in write_programs(trainer, module, self._example):
                self.write(trainer, "artifact", name="export", **event)
