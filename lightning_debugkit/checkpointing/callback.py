"""Rare checkpoints whatever happens, frequent ones by metric, always the latest, and no way to lose them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from lightning_debugkit.checkpointing import checkpoint_findings, find_checkpoints, save_times, strategy_saving
from lightning_debugkit.checkpointing.after_save import AfterSave, artifacts
from lightning_debugkit.checkpointing.atomic_io import AtomicCheckpointIO
from lightning_debugkit.checkpointing.checkpoint_arguments import check_dirpath, check_saving, chosen_rules
from lightning_debugkit.checkpointing.checkpoint_findings import Monitors
from lightning_debugkit.checkpointing.fresh_metrics import FreshMetrics
from lightning_debugkit.checkpointing.keep_reasons import EXCEPTION, PREEMPTED
from lightning_debugkit.checkpointing.model_checkpoint_view import first_best
from lightning_debugkit.checkpointing.object_store import is_url
from lightning_debugkit.checkpointing.preemption import AgreedSigterm, SigtermAgreement
from lightning_debugkit.checkpointing.records import Record
from lightning_debugkit.checkpointing.repair import Repairs
from lightning_debugkit.checkpointing.retention_rules import Best, KeepRule, Occasion
from lightning_debugkit.checkpointing.session import CheckpointSession, Options
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import in_training_step, is_sigterm, is_trial
from lightning_debugkit.core.optimizer_steps import OptimizerSteps, steps_taken
from lightning_debugkit.core.run import current_run

_log = logging.getLogger("lightning_debugkit")


class NestedCheckpoint(DebugCallback, ModelCheckpoint):
    """Keep rare checkpoints whatever happens, the best by metric, and always the latest.

    A file is written once a step at most, and stays while any rule keeps it. It is whole under its name or not there,
    its bytes are verified before it is loaded, and the last sound one is never deleted.

    Args:
        dirpath: Folder for the checkpoints, or URL of an object store such as ``s3://bucket/run``; if None,
            ``checkpoints`` in the folder of the logger or of the Trainer.
        rules: What to keep: ``Every``, ``Best`` and ``Latest``, or text such as ``"Every(steps=5000)"``; if None, the
            latest.
        monitor: Metric by which to keep the best, beside what the rules keep.
        mode: ``min`` if a smaller value of it is better, ``max`` if a larger is.
        top_k: How many of the best by it to keep.
        save_weights_only: Leave out what is needed to resume the training.
        async_save: Write beside the training; it waits for a copy in host memory only.
        save_on_exception: Save the state in which an exception leaves the training, on a single process; at SIGTERM it
            is saved in any case.
        raise_after: Saves that may fail in a row before training is stopped; if None, it never is.
        fsync: Have the device take each file, so that it outlives a loss of power; training goes on meanwhile, and no
            other file is deleted for it until then.
    """

    def __init__(
        self,
        dirpath: str | Path | None = None,
        rules: Sequence[KeepRule | str] | None = None,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        top_k: int = 1,
        save_weights_only: bool = False,
        async_save: bool = False,
        save_on_exception: bool = False,
        raise_after: int | None = None,
        fsync: bool = True,
    ) -> None:
        check_dirpath(dirpath)
        check_saving(
            raise_after,
            save_weights_only=save_weights_only,
            async_save=async_save,
            save_on_exception=save_on_exception,
            fsync=fsync,
        )
        self.keep_rules = chosen_rules(rules, monitor, mode, top_k)
        best = first_best(self.keep_rules)
        ModelCheckpoint.__init__(
            self,
            monitor=None if best is None else best.metric,
            mode=mode if best is None else best.mode,
            save_top_k=-1 if best is None else best.k,
            save_weights_only=save_weights_only,
        )
        self.dirpath = self._given = dirpath
        self._key: tuple[Any, str] = None, ""
        self._resolved: str | None = None
        self._skipped: list[tuple[Record, str]] = []
        self._io: AtomicCheckpointIO | None = None
        self.rules = rules
        self.monitor = monitor
        self.mode = mode
        self.top_k = top_k
        self.async_save = async_save
        self.save_on_exception = save_on_exception
        self.raise_after = raise_after
        self.fsync = fsync
        self._reset()

    def _reset(self) -> None:
        self._session: CheckpointSession | None = None
        self._settling = AfterSave(self.raise_after)
        self._monitors = Monitors(rule.metric for rule in self.keep_rules if isinstance(rule, Best))
        self._repairs = Repairs()
        self._validation = FreshMetrics()
        self._waits = False
        self._seen_step = -1
        self._has_validated = False
        self._agreement: SigtermAgreement | None = None
        self._steps: OptimizerSteps | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The files of a fit in progress stay with it.
        return {**self.__dict__, "_session": None, "_skipped": [], "_io": None, "_agreement": None, "_steps": None}

    @property
    def state_key(self) -> str:
        given, key = self._key
        if not key or given is not self._given:  # Lightning asks for it in each hook of each batch
            given = None if self._given is None else str(self._given)
            key = self._generate_state_key(dirpath=given, rules=[repr(rule) for rule in self.keep_rules])
            self._key = self._given, key
        return key

    @property
    def _chosen(self) -> Any:
        """The folder that was given, or set by hand after construction; ``None`` if that is left to us."""
        return self._given if self.dirpath == self._resolved else self.dirpath

    @property
    def best_model_path(self) -> str:
        """The best file; before a fit, of those that earlier ones left in ``dirpath``."""
        if self._best or self._session is not None or self._given is None:
            return self._best
        folder = Path(strategy_saving.folder_of(None, self._given))
        return find_checkpoints.view_before_a_fit(folder, self._given, self.keep_rules).best

    @best_model_path.setter
    def best_model_path(self, path: str) -> None:
        self._best = path

    def state_dict(self) -> dict[str, Any]:
        return {**DebugCallback.state_dict(self), "monitors": self._monitors.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        DebugCallback.load_state_dict(self, state_dict)
        self._monitors.load_state_dict(state_dict.get("monitors", {}))

    # The order below is the order of events in a run.

    def _find_last_checkpoints(self, trainer: Trainer) -> set[str]:
        """Answer ``ckpt_path="last"``: the newest file whose every byte is sound, on every rank the same."""
        folder = Path(strategy_saving.folder_of(trainer, self._chosen))
        self._skipped = []
        stores = find_checkpoints.stores_of(self._chosen, self.keep_rules)
        found = find_checkpoints.newest_of_all(
            folder, stores, lambda damaged, why: self._skipped.append((damaged, why))
        )
        for damaged, why in self._skipped:
            _log.warning(f"warning NestedCheckpoint: {folder / damaged.name} is passed over: {why}")
        if found is None and self._chosen is None and (earlier := find_checkpoints.left_by_earlier_start(folder)):
            _log.warning(
                f"warning NestedCheckpoint: {folder} has no checkpoint to go on from, and the training begins anew; "
                f"{earlier} has some: give dirpath, the same in each start, or its path as ckpt_path."
            )
        return set() if found is None else {str(found)}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not is_trial(trainer):
            self._io = strategy_saving.install_io(trainer, self.fsync)
        if stage == "fit":
            self._reset()
            self._given = self._chosen
            self.dirpath = self._resolved = trainer.strategy.broadcast(strategy_saving.folder_of(trainer, self._given))
            if not is_trial(trainer):
                strategy_saving.refuse_what_cannot_be(trainer)
                in_shards = strategy_saving.saves_in_shards(trainer)
                url = str(self._given) if is_url(self._given) else ""
                options = Options(self.save_weights_only, self.async_save, self.fsync, in_shards, url)
                self._session = CheckpointSession(
                    Path(self._resolved), self.keep_rules, options, is_first=trainer.is_global_zero
                )
        DebugCallback.setup(self, trainer, pl_module, stage)
        if self._session is not None and stage == "fit":
            self._repairs = self._session.repair(tuple(record.name for record, _ in self._skipped))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        DebugCallback.on_load_checkpoint(self, trainer, pl_module, checkpoint)
        if self._session is not None and trainer.state.fn == TrainerFn.FITTING:
            self._session.came_from(checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.begin()
            if session.keeper is not None:
                self._tell_what_was_found(trainer, session)
        except Exception as error:  # the others wait to be told
            session.fault = error
        self._settling.settle(self, trainer, session, met=True)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen_step = steps_taken(trainer)
        if self._session is not None:
            self._session.start(trainer)
            self._agreement = SigtermAgreement(trainer)
            self._agreement.install()
            self._steps = OptimizerSteps(self, trainer, pl_module, own=True)
        elif not is_trial(trainer):
            _log.warning("warning NestedCheckpoint saves nothing in this fit: it could not be set up.")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._session is None:
            return
        if self.async_save:
            self._settling.settle(self, trainer, self._session, met=False)
        if (step := steps_taken(trainer)) == self._seen_step:
            return  # gradients are still accumulated
        self._seen_step = step
        self._waits = save_times.is_last_batch(trainer) or save_times.validation_follows(trainer)
        if not self._waits:
            self._decide(trainer, Occasion.FINAL if save_times.is_stopping(trainer) else Occasion.STEP)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is not None:
            self._validation.look(trainer.callback_metrics)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is None or trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._has_validated = True
        if self._session.keeper is not None:
            logged = trainer.callback_metrics
            for name, finding in self._monitors.unlogged(self.where(trainer), self._validation.look(logged), logged):
                self.emit(trainer, finding, about=name)
        if not save_times.is_last_batch(trainer):
            self._decide(trainer, Occasion.FINAL if save_times.is_stopping(trainer) else Occasion.BOUNDARY)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is None:
            return
        done = int(save_times.is_last_batch(trainer))
        self._decide(trainer, Occasion.FINAL if save_times.is_last_epoch(trainer) else Occasion.BOUNDARY, done)
        if self._session.keeper is not None and (self._has_validated or not trainer.enable_validation):
            is_last = save_times.is_last_epoch(trainer)
            for name, finding in self._monitors.missing(self.where(trainer), trainer.callback_metrics, is_last):
                self.emit(trainer, finding, about=name)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._session is not None:
            self._close(trainer, self._session, met=True)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        try:
            session = self._session
            if session is not None and trainer.state.fn == TrainerFn.FITTING:
                # Only a process that is alone knows that no other waits for it, or one of many in the same place.
                are_together = isinstance(exception, AgreedSigterm)
                if (trainer.world_size == 1 or are_together) and steps_taken(trainer) > 0:
                    self._save_what_waits(trainer, session, is_preempted=is_sigterm(exception))
                self._close(trainer, session, met=are_together)
        finally:
            DebugCallback.on_exception(self, trainer, pl_module, exception)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._session is not None and self._session.keeper is not None:
            self._session.keeper.close()
        strategy_saving.remove_io(trainer, self._io)
        self._io = None
        if self._agreement is not None:
            self._agreement.remove()
            self._agreement = None
        self._release()

    def _release(self) -> None:
        if self._steps is not None:
            self._steps.remove()
            self._steps = None

    def _save_what_waits(self, trainer: Trainer, session: CheckpointSession, *, is_preempted: bool) -> None:
        """Save a step whose validation did not come to its end, and any step if that was asked for, or at a SIGTERM."""
        pin = PREEMPTED if is_preempted else EXCEPTION if self.save_on_exception else ""
        if pin or self._waits:
            occasion = Occasion.FINAL if pin else Occasion.BOUNDARY
            session.decide(trainer, occasion, trainer.current_epoch, partial(self._judge, trainer), pin=pin)

    def _decide(self, trainer: Trainer, occasion: Occasion, epochs_done: int = 0) -> None:
        session = self._session
        assert session is not None
        self._waits = False
        if session.decide(trainer, occasion, trainer.current_epoch + epochs_done, partial(self._judge, trainer)):
            self._settling.settle(self, trainer, session, met=True)

    def _judge(self, trainer: Trainer, fresh: Mapping[str, float]) -> None:
        for name, finding in self._monitors.judge(self.where(trainer), fresh):
            self.emit(trainer, finding, about=name)
        scored = {name: fresh[name] for name in self._monitors.metrics if name in fresh}
        if scored:
            for name, finding in self._monitors.before_update(self.where(trainer), in_training_step(trainer)):
                if name in scored:
                    self.emit(trainer, finding, about=name)
            self.write(trainer, "measure", name="monitor", value=scored)

    def _close(self, trainer: Trainer, session: CheckpointSession, *, met: bool) -> None:
        """Wait for the last save, and leave the list of what there is for the report."""
        session.finish()
        if session.keeper is not None:
            find_checkpoints.forget_fetched(session.folder)
        self._settling.settle(self, trainer, session, met=met)
        if session.keeper is not None:
            for event in artifacts(session.keeper, current_run(trainer)):
                self.write(trainer, "artifact", **event)

    def _tell_what_was_found(self, trainer: Trainer, session: CheckpointSession) -> None:
        where, folder = self.where(trainer), session.folder
        assert session.keeper is not None
        chosen = session.parent.name if session.parent is not None else "the start"
        told = [checkpoint_findings.repaired_finding(where, self._repairs, folder)]
        told += [checkpoint_findings.passed_over(where, self._skipped, chosen, folder)] if self._skipped else []
        if session.has_company:
            told.append(checkpoint_findings.shared(where, folder))
        elif aside := session.keeper.store.aside:
            told.append(checkpoint_findings.left_behind(where, aside, folder))
        for finding in filter(None, told):
            self.emit(trainer, finding, about=finding.message)  # each is an event of its own
        self._skipped = []
