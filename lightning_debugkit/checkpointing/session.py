"""The checkpoints of one fit: one decision a step, made by the first rank and followed by all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import time
from typing import Any

from lightning_debugkit.checkpointing import strategy_saving
from lightning_debugkit.checkpointing.fresh_metrics import FreshMetrics
from lightning_debugkit.checkpointing.keep_reasons import RESUMED
from lightning_debugkit.checkpointing.keeper import Keeper
from lightning_debugkit.checkpointing.mirror import Mirror
from lightning_debugkit.checkpointing.presence import Presence
from lightning_debugkit.checkpointing.records import Moment, Record
from lightning_debugkit.checkpointing.repair import MANIFEST, Repairs, repair
from lightning_debugkit.checkpointing.retention_rules import Every, KeepRule, Latest, Occasion, urls_of
from lightning_debugkit.checkpointing.save_times import Clock
from lightning_debugkit.checkpointing.serialization import tensor_snapshot
from lightning_debugkit.checkpointing.sharded_saving import ShardWriter
from lightning_debugkit.checkpointing.store import Store
from lightning_debugkit.core.atomic_files import draft_folder
from lightning_debugkit.core.compat import CheckpointIO, Trainer
from lightning_debugkit.core.optimizer_steps import steps_taken


@dataclass(frozen=True)
class Options:
    """How files are written."""

    weights_only: bool = False
    beside: bool = False
    fsync: bool = True
    shards: bool = False
    url: str = ""


@dataclass(frozen=True)
class _Plan:
    """What the first rank has decided; ``place`` is the draft that all write to, if every rank writes a part."""

    save: bool = False
    name: str = ""
    place: str = ""


def keeper_of(folder: Path, rules: tuple[KeepRule, ...], run: str, options: Options) -> Keeper:
    """Return what keeps files in ``folder``, and in the object stores that rules name, or that all files are for."""
    mirrors = []
    for url in urls_of(options.url, rules):
        own = [rule for rule in rules if (rule.to or options.url) == url]
        mirrors.append(Mirror(url, own, is_only=url == options.url))
    here = tuple(rule for rule in rules if not (rule.to or options.url))
    store = Store(folder, here or (Latest(),), run, fsync=options.fsync)
    return Keeper(store, mirrors, rules, beside=options.beside)


class CheckpointSession:
    """The checkpoints of one fit.

    Args:
        is_first: Whether this is the first rank, the only one that touches the folder.
    """

    def __init__(self, folder: Path, rules: tuple[KeepRule, ...], options: Options, *, is_first: bool) -> None:
        self.folder = folder
        self.rules = rules
        self._told_rules = tuple(map(repr, rules))
        self.options = options
        self.run = token_hex(4)
        self.keeper: Keeper | None = None
        if is_first:
            self.keeper = keeper_of(folder, rules, self.run, options)
        self.parent: Record | None = None
        self.fresh: dict[str, float] = {}
        self.owed = False
        self.fault: Exception | None = None
        self.has_company = False  # others that are at work save into the folder, too
        self._presence: Presence | None = None
        self._pin = ""
        self._draft_folder = ExitStack()
        self._shards = ShardWriter(beside=options.beside)
        self._metrics = FreshMetrics()
        self._clock = Clock()
        self._is_timed = any(isinstance(rule, Every) and rule.hours is not None for rule in rules)
        self._before = Moment(0)

    def repair(self, suspects: tuple[str, ...]) -> Repairs:
        """Set the folder right, on the first rank."""
        if self.keeper is None or not self.folder.is_dir():
            return Repairs()
        return repair(self.folder, suspects=suspects, fsync=self.options.fsync)

    def came_from(self, checkpoint: Mapping[str, Any]) -> None:
        """Take note of the checkpoint that is being resumed; one of another callback has nothing to say."""
        manifest = checkpoint.get(MANIFEST)
        if isinstance(manifest, dict) and isinstance(manifest.get("checkpoint"), dict):
            self.parent = Record.from_plain(manifest["checkpoint"])

    def begin(self) -> None:
        """Read what is there, and take up the history of the checkpoint that was resumed."""
        parent = self.parent
        if self.keeper is not None:
            store = self.keeper.store
            self._presence = Presence(self.folder)
            self.has_company = self._presence.has_company
            self.keeper.read()
            if parent is not None:
                store.lineage = (*parent.lineage, (parent.run, parent.step))
                store.pinned[parent.name] = RESUMED
            self.keeper.follow()

    def start(self, trainer: Trainer) -> None:
        """Start the clock where the resumed training had stopped it."""
        done = self.parent.moment if self.parent is not None else Moment(0)
        self._clock = Clock(done.seconds)
        epochs = max(done.epochs, trainer.current_epoch) if self.parent is not None else trainer.current_epoch
        self._before = Moment(steps_taken(trainer), epochs, done.seconds)

    def decide(
        self,
        trainer: Trainer,
        occasion: Occasion,
        epochs: int,
        judge: Callable[[Mapping[str, float]], object],
        pin: str = "",
    ) -> bool:
        """Save if a rule wants it; tell whether all ranks met over it.

        What ``judge`` says of the fresh metrics, on the first rank, is said before the save: its file remembers it.
        With ``pin``, save in any case and keep the file for that reason.
        """
        before, now = self._before, self._now(trainer, occasion, epochs)
        self._before = now
        if occasion is Occasion.STEP and not any(rule.crosses(before, now, occasion) for rule in self.rules):
            return False
        self.fresh = self._metrics.look(trainer.callback_metrics)
        plan, draft = _Plan(), None
        if self.keeper is not None:
            try:
                judge(self.fresh)
                self._pin = pin
                plan, draft = self._plan(trainer, self.keeper, before, now, occasion)
            except Exception as error:  # the others wait to be told of a plan, and of what came of it
                self.fault = error
        plan = trainer.strategy.broadcast(plan)
        if plan.place:
            self._save_shards(trainer, Path(plan.place), draft)
        elif plan.save:
            self._save(trainer, plan.name, draft)
        return True

    def _now(self, trainer: Trainer, occasion: Occasion, epochs: int) -> Moment:
        step = steps_taken(trainer)
        if not self._is_timed:
            return Moment(step, epochs, self._clock.seconds)
        agreed = self._clock.agreed(trainer, step, always=occasion is not Occasion.STEP)
        if agreed is None:
            return Moment(step, epochs, self._before.seconds)
        now = Moment(step, epochs, agreed)
        self._clock.ask_again(now, self.rules)
        return now

    def _plan(
        self, trainer: Trainer, keeper: Keeper, before: Moment, now: Moment, occasion: Occasion
    ) -> tuple[_Plan, Record | None]:
        if occasion is Occasion.FINAL:
            keeper.wait()
        if not keeper.is_busy:
            self.owed |= keeper.forget_gone()
        same = next((record for record in reversed(keeper.history) if record.step == now.step), None)
        if same is not None:
            if self._pin:
                keeper.store.pinned[same.name] = self._pin
            keeper.amend(same.name, self.fresh, now.epochs)
            return _Plan(), None
        draft = self._draft(trainer, keeper.store, now)
        wanting = keeper.due(draft, before, occasion)
        if self._pin:
            keeper.store.pinned[draft.name] = self._pin
        wanted = bool(wanting or self._pin) or (self.owed and occasion is not Occasion.STEP)
        save = wanted and not keeper.may_skip(wanting, occasion)
        place = self._place(keeper, draft) if save and self.options.shards else ""
        return _Plan(save and bool(place or not self.options.shards), draft.name, place), draft

    def _place(self, keeper: Keeper, draft: Record) -> str:
        """Return an empty folder for shards, none if it cannot be made."""
        try:
            if keeper.history:
                keeper.store.expect_room()
            return str(self._draft_folder.enter_context(draft_folder(self.folder / draft.name)))
        except OSError as error:
            keeper.failed(draft, error)
            return ""

    def _draft(self, trainer: Trainer, store: Store, now: Moment) -> Record:
        return Record(
            name=f"step-{now.step:08d}-{self.run}.ckpt",
            moment=now,
            epoch=trainer.current_epoch,
            metrics=dict(self.fresh),
            time=time(),
            run=self.run,
            lineage=store.lineage,
            rules=self._told_rules,
            weights_only=self.options.weights_only,
        )

    def _save_shards(self, trainer: Trainer, place: Path, draft: Record | None) -> None:
        def add(checkpoint: dict[str, Any]) -> None:
            if draft is not None:
                checkpoint[MANIFEST] = {**checkpoint.get(MANIFEST, {}), "checkpoint": draft.to_plain()}

        shards = self._shards.write(trainer, place, self.options.weights_only, add)
        folder = self._draft_folder.pop_all()
        if self.keeper is not None and draft is not None:
            # The draft becomes the checkpoint; the folder that the store gives is its own draft.
            self.keeper.save(draft, place.rename, in_folder=True, shards=shards, after=folder.close)

    def finish(self) -> None:
        """Wait for what is being written, on every rank; what is saved afterwards is saved at once."""
        if self._presence is not None:
            self._presence.leave()
        self._shards.wait()
        if self.keeper is not None:
            self.keeper.close()

    def _save(self, trainer: Trainer, name: str, draft: Record | None) -> None:
        def take(checkpoint: dict[str, Any], usual: CheckpointIO) -> None:
            # On the first rank alone: what is raised here would leave the others waiting.
            if self.keeper is None or draft is None:
                return
            try:
                checkpoint[MANIFEST] = {**checkpoint.get(MANIFEST, {}), "checkpoint": draft.to_plain()}
                held = tensor_snapshot(checkpoint) if self.keeper.beside else checkpoint
                write, in_folder = strategy_saving.writer(held, usual)
                self.keeper.save(draft, write, in_folder=in_folder)
            except Exception as error:
                self.keeper.failed(draft, error)

        try:
            strategy_saving.dump(trainer, self.folder / name, self.options.weights_only, take)
        except Exception as error:  # of a hook of the user's: a checkpoint that failed, not a training
            if self.keeper is not None and draft is not None:
                self.keeper.failed(draft, error)
