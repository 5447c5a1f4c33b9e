"""Does a resumed run end where it would have ended without the interruption?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lightning_debugkit.checkpointing.hybrid_states import is_hybrid, is_in_shards
from lightning_debugkit.checkpointing.preemption import AgreedSigterm
from lightning_debugkit.checkpointing.resume import inexact_causes, pruning, resume_state
from lightning_debugkit.checkpointing.resume.dataloader_position import DataLoaderPosition, is_stateful
from lightning_debugkit.checkpointing.resume.inexact_causes import InexactCause
from lightning_debugkit.checkpointing.resume.program_attributes import ProgramAttributes
from lightning_debugkit.checkpointing.resume.resumption import Resumption
from lightning_debugkit.checkpointing.resume.stopped import batches_of_stopped, reopen_epoch
from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import is_search
from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.rule import Rule

RESUME_NOT_EXACT = Rule(
    "resume-not-exact",
    Severity.INFO,
    "from step {step} on, the resumed run may differ from one that never stopped: {causes}",
    "{advice}",
    section="checkpoints",
    cost="once",
)

KEY = "lightning_debugkit.ExactResume"


class ExactResume(DebugCallback):
    """Let a resumed run end with the weights, to the bit, that it would have had without the interruption.

    Each checkpoint of any callback, or of ``trainer.save_checkpoint``, also gets the random states of Python, NumPy,
    torch, its devices and of generators that samplers, datasets and the model own, and the place in the training
    loaders. When a run resumes from it, they are set again. What cannot be exact is told, and never ends the run.

    Args:
        rewind: Within an epoch, pull the batches again that were used: it takes as long as loading them did. Without
            it the loader begins anew there. Loaders with a ``state_dict`` of their own are never rewound.
    """

    def __init__(self, rewind: bool = True) -> None:
        Needs("ExactResume").switch("rewind", rewind, "True is usual")
        self.rewind = rewind
        self._reset()

    def _reset(self) -> None:
        self._place: DataLoaderPosition | None = None
        self._attributes: ProgramAttributes | None = None
        self._resumption: Resumption | None = None
        self._saved: list[dict[str, Any] | None] | None = None
        self._resumes = self._failing = False
        self._useless: InexactCause | None = None
        self._stopped_behind = 0

    def __getstate__(self) -> dict[str, Any]:
        # Loaders and loops of a fit in progress stay with it.
        return {**self.__dict__, "_place": None, "_attributes": None, "_resumption": None, "_saved": None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # Each resume is an event of its own.
        self._told = [key for key in self._told if not key.startswith(f"{RESUME_NOT_EXACT.name}|")]

    # The order below is the order of events in a run.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._reset()
            self._place = DataLoaderPosition(trainer, pl_module, lambda hook, error: self.trouble(trainer, hook, error))
            self._place.install()
            self._attributes = ProgramAttributes(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        # The searches for rate and batch size save before they start, and load that when they are over: no resume.
        if trainer.state.fn == "fit" and not is_search(trainer):
            self._resumes, self._saved = True, checkpoint.get(KEY)
            self._useless = inexact_causes.of_checkpoint(self._saved, trainer.world_size)
            mine = None if self._useless or not self._saved else self._saved[trainer.global_rank]
            in_epoch = mine["settings"]["number of batches"] if mine else None
            self._stopped_behind = batches_of_stopped(checkpoint, in_epoch)
            if self._attributes is not None:
                self._attributes.loaded()
            if mine and self._stopped_behind:
                reopen_epoch(checkpoint)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        place, attributes = self._place, self._attributes
        if place is None or attributes is None:
            return
        place.start()
        attributes.start()
        if self._resumes:
            self._resume(trainer, pl_module, place, attributes)

    def _resume(
        self, trainer: Trainer, module: LightningModule, place: DataLoaderPosition, attributes: ProgramAttributes
    ) -> None:
        cause, wrong = self._useless, [inexact_causes.HYBRID] if _has_wrong_states(trainer) else []
        mine = None if cause or not self._saved else self._saved[trainer.global_rank]
        self._saved = None
        if cause or not mine:
            self._tell_useless(trainer, place, cause, wrong)
            return
        moved = mine.get("attributes", {})  # those of older versions have none
        self._resumption = Resumption(
            place,
            mine,
            self.rewind,
            bool(self._stopped_behind),
            tell=lambda found, batches: self._tell(trainer, found, batches),
            go_on=partial(attributes.restore, moved),
            trouble=lambda hook, error: self.trouble(trainer, hook, error),
        )
        try:
            self._resumption.causes += wrong
            now = resume_state.state(trainer, module, place)
            now["settings"] |= moved.get("trainer", {})  # set when every `on_train_start` is over: some judge it
            self._resumption.causes += inexact_causes.of_state(mine, now)
            self._resumption.causes += pruning.causes(mine.get("pruning", {}), now["pruning"])
            self._resumption.arm(trainer, module)
        except AttributeError as error:
            self._resumption.release()
            self._tell(trainer, [inexact_causes.UNKNOWN.filled(why=error)], 0)

    def _tell_useless(
        self, trainer: Trainer, place: DataLoaderPosition, cause: InexactCause | None, wrong: list[InexactCause]
    ) -> None:
        """Tell of a checkpoint without states, and what becomes of the batches of its epoch."""
        found = [*wrong, *([cause] if cause else [])]
        batches = self._stopped_behind or place.batches_under_way()
        if self._stopped_behind:
            left = trainer.num_training_batches - batches
            found.append(
                inexact_causes.STOPPED.filled(batches=batches, left=left if left < float("inf") else "the others")
            )
        elif batches and not all(map(is_stateful, place.loaders())):
            lost = inexact_causes.LOST.filled(batches=batches, why="its place was not saved")
            found.append(replace(lost, advice=cause.advice if cause else lost.advice))
        self._tell(trainer, found, batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._place is not None:
            self._place.note(first=batch_idx == 0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._resumption is not None and (short := self._resumption.end_epoch(pl_module)):
            self._tell(trainer, short, trainer.fit_loop.epoch_loop.batch_progress.current.ready, about="epoch")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._place is not None:
            self._place.end()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        mine = None
        try:
            if self._place is not None and self._attributes is not None:
                mine = {
                    **resume_state.state(trainer, pl_module, self._place),
                    "attributes": self._attributes.state(),
                }
        finally:
            # The others wait for this rank, whatever happened here.
            checkpoint[KEY] = resume_state.of_all_ranks(mine, alone=self._failing)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # One rank may be here alone: a checkpoint that is saved from now on must not wait for the others.
        self._failing = not isinstance(exception, AgreedSigterm)
        super().on_exception(trainer, pl_module, exception)

    def _release(self) -> None:
        """Leave loops, strategy and loaders without our hooks; may be called twice."""
        if self._resumption is not None:
            self._resumption.release()
            self._resumption = None
        if self._place is not None:
            self._place.remove()

    def _tell(self, trainer: Trainer, found: list[InexactCause], batches: int, about: str = "") -> None:
        severity = max((cause.severity for cause in found), default=Severity.INFO)
        if not found or (severity < Severity.WARNING and not trainer.is_global_zero):
            return
        found = sorted(found, key=lambda cause: -cause.severity)
        self.emit(
            trainer,
            RESUME_NOT_EXACT.found(
                self.where(trainer),
                severity=severity,
                batches=batches,
                causes="; ".join(cause.says for cause in found),
                names=[cause.name for cause in found],
                advice=found[0].advice,
            ),
            about,
        )


def _has_wrong_states(trainer: Trainer) -> bool:
    """Tell whether Lightning alone has read the states of optimizers under hybrid sharding, and so wrongly."""
    if not is_hybrid(trainer) or not is_in_shards(trainer.strategy.broadcast(trainer.ckpt_path)):
        return False
    from lightning_debugkit.checkpointing import strategy_saving  # late: it takes a while to import

    return not strategy_saving.reads_states_again(trainer)
