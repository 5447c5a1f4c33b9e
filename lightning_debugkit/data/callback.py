"""Look at the data that flows by in the first epoch: labels, values, copies, boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import _NormBase
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.patching import Hearing, has_compiled_code
from lightning_debugkit.data import (
    boxes,
    class_weights,
    duplicates,
    labels,
    near_duplicates,
    shared_windows,
    values,
    workers,
)
from lightning_debugkit.data.baseline import baselines
from lightning_debugkit.data.data_summary import pairs_of, sketch
from lightning_debugkit.data.first_loss import FirstLoss
from lightning_debugkit.data.input_target_checks import InputTargetChecks, Unrelated
from lightning_debugkit.data.loaders import class_mapping
from lightning_debugkit.data.samples_seen import SAMPLES, Seen
from lightning_debugkit.data.validation_hits import ValidationHits

# Training batches after which labels and copies are judged though the epoch goes on: long epochs take hours.
BATCHES = 500
LOSSES = 50  # the last, whose mean is judged
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
NEEDS = Needs("DataCheck")


class DataCheck(DebugCallback):
    """Check the data of the first epoch as it flows by: order and share of labels, scales, copies across splits, boxes.

    Nothing is read that the Trainer does not read itself, so that it works for streams as well, and the training is
    never changed. Of each split fingerprints of 8 bytes a sample are kept, and 36 MB of values.

    Args:
        neighbours: Compare the labels of samples that are alike, and look for samples that are almost equal.
        samples: Samples of each split that are looked at; of more than 20,000, the first epoch is waited for.
        baseline: Let simple models learn what was looked at, for about 10 seconds, at the end of the first epoch.
    """

    def __init__(self, neighbours: bool = True, samples: int = SAMPLES, baseline: bool = False) -> None:
        NEEDS.switch("neighbours", neighbours, "True is usual")
        NEEDS.whole("samples", samples, 1, f"{SAMPLES} is usual, 1_000_000 takes 8 MB")
        NEEDS.switch("baseline", baseline, "False is usual")
        self.neighbours = neighbours
        self.samples = samples
        self.baseline = baseline
        self._reset()

    def _reset(self) -> None:
        self._train, self._val = Seen(self.samples), Seen(self.samples)
        self._boxes: dict[str, list[boxes.Boxes]] = {"training": [], "validation": []}
        self._hearing: Hearing | None = None
        self._first: tuple[str, Tensor] | None = None
        self._first_loss = FirstLoss()
        self._uniform = labels.Uniform()
        self._is_taken = False  # enough of the training data, and validation is waited for
        self._is_done = False
        self._is_val_whole = False
        self._unrelated: Unrelated | None = None
        self._losses: list[Tensor] = []
        self._hits: ValidationHits | None = None  # of the last validation, where `_unrelated` may ask for them

    def __getstate__(self) -> dict[str, Any]:
        # What was kept of the data stays with its fit.
        state = {**self.__dict__, "_hearing": None, "_first": None, "_losses": [], "_unrelated": None, "_hits": None}
        state |= {"_first_loss": FirstLoss(), "_uniform": labels.Uniform()}
        return {
            **state,
            "_train": Seen(self.samples),
            "_val": Seen(self.samples),
            "_boxes": {"training": [], "validation": []},
        }

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and not self.idle:
            self._release()
            self._reset()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if kept := class_mapping(trainer):
            checkpoint.setdefault("class_mapping", kept)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._is_done = steps_taken(trainer) > 0 or not trainer.is_global_zero
        if not self._is_done:
            self.emit_each(trainer, workers.judge(trainer.train_dataloader, self.where(trainer)))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        # A hook for all modules would have compiled parts compiled anew.
        if self._is_done or self._train.batches or has_compiled_code(pl_module):
            self.rest("on_train_batch_start")
            return
        names = {id(part): name for name, part in pl_module.named_modules() if isinstance(part, LAYERS)}

        def hear(part: nn.Module, args: Any, output: Any) -> None:
            if self._first is None and args and isinstance(args[0], Tensor):
                self._first = (names[id(part)], args[0].detach())

        parts = [part for part in pl_module.modules() if id(part) in names]
        self._hearing = Hearing(parts, hear)
        self._first_loss.put_around(pl_module, "training_step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._keep_loss(trainer, outputs)
        if self._is_done and self._unrelated is None:
            self.rest("on_train_batch_end")
        if self._is_done or self._is_taken:
            return
        self._release()
        with torch.no_grad():
            if self._first is not None:
                (name, given), self._first = self._first, None
                self.emit_each(
                    trainer, values.judge_first(name, given, _is_normed(pl_module, name), self.where(trainer))
                )
            self._train.take(batch)
            self._uniform.take(batch, self._first_loss.is_given)
        self._keep_boxes("training", batch)
        if self._train.batches >= BATCHES and (self.samples <= SAMPLES or self._train.is_full):
            self._judge(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._unrelated is not None and not has_compiled_code(pl_module):
            self._release()
            self._hits = ValidationHits()
            self._hits.put_around(pl_module, "validation_step")

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        if self._is_done or any(place[1:]) or trainer.sanity_checking or self._is_val_whole:
            return
        with torch.no_grad():
            self._val.take(batch)
        self._keep_boxes("validation", batch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()
        self._is_val_whole = self._is_val_whole or bool(self._val.batches)
        if self._is_val_whole and self._is_taken and not self._is_done:
            self._judge(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_done and not self._is_taken:
            self._judge(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()
        if self._is_taken and not self._is_done:
            self._let_go()
        if self.baseline and trainer.is_global_zero:
            scores = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val")}
            self.write(trainer, "measure", name="baseline-network", value=scores)
        if self._unrelated is not None and self._losses:
            losses = [float(loss) * trainer.accumulate_grad_batches for loss in self._losses]
            start = replace(self.where(trainer), epoch=0, step=0)
            answers = None if self._hits is None else self._hits.compared()
            self.emit_each(trainer, self._unrelated(losses, steps_taken(trainer), answers, start))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._release()
        self._train, self._val = Seen(self.samples), Seen(self.samples)

    def _keep_loss(self, trainer: Trainer, outputs: Any) -> None:
        """Keep the first loss and the last ones, unread, until it is known whether they are asked for."""
        if self._is_done and self._unrelated is None:
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            del self._losses[1 : len(self._losses) - LOSSES]
            self._losses.append(loss.detach())

    def _keep_boxes(self, split: str, batch: Any) -> None:
        kept = self._boxes[split]
        if sum(map(len, kept)) < BATCHES * 10:
            kept += boxes.boxes_of(batch)

    def _judge(self, trainer: Trainer) -> None:
        """Judge what was seen, and let go of it, unless a validation is to come: then all is judged again with that."""
        self._is_taken = True
        # What is true of the data was so from the first batch on: what came of it in the meantime stands behind.
        train, val, where = self._train, self._val, replace(self.where(trainer), epoch=0, step=0)
        with torch.no_grad():
            found = list(self._findings(trainer, where))
        drawn = sketch(train.values, val.values, train.shape, train.classes, val.classes)
        value = {"samples": {"training": train.count, "validation": val.count}, **drawn}
        value |= {"class_mapping": class_mapping(trainer), "pairs": pairs_of(found, train, val)}
        self.write(trainer, "measure", name="data-check", value=value)
        if self._is_val_whole or not trainer.enable_validation:
            if self.baseline:
                self.write(trainer, "measure", name="baseline", value=_baselines(train, val))
            self._let_go()
        self.emit_each(trainer, found)

    def _let_go(self) -> None:
        self._is_done = True
        self._train, self._val, self._boxes = Seen(self.samples), Seen(self.samples), {"training": [], "validation": []}
        if self._unrelated is None:
            self._losses = []

    def _findings(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        train, val = self._train, self._val
        loader, others = trainer.train_dataloader, trainer.val_dataloaders
        is_plain, is_same = _gives_each_once(loader), _is_same(loader, others)
        prints = train.prints, val.prints
        copies = list(duplicates.judge(*prints, is_plain, is_same, train.is_rich, where, train.is_text))
        yield from copies
        train.ignored = val.ignored = self._first_loss.ignored
        known = None if train.classes is None else train.classes[train.named]
        counted, told = train.counted, val.counted
        yield from labels.judge_order(list(train.by_batch), where)
        pairing = InputTargetChecks(train, val, self._first_loss, where)
        yield from pairing.mapped() if self.neighbours else ()
        if train.batches == trainer.num_training_batches:
            yield from self._uniform.judge(self._first_loss.ignored, where)
        if counted is not None:
            # A rare class may come later.
            is_all = train.batches == trainer.num_training_batches and len(counted) == train.taken
            if is_all and any(map(self._first_loss.is_given, [*train.labels, *train.numbers][:1])):
                yield from labels.judge_one_class(counted, where)
            is_single = is_plain and not (train.is_rich and duplicates.has_copies(train.prints))
            yield from labels.judge_counts(counted, told if self._is_val_whole else None, is_single, where)
        inputs, asked = values.finite(train.values), values.finite(val.values)
        yield from values.judge(inputs, asked, where, train.shape)
        small, small_val = values.finite(train.thumbnails), values.finite(val.thumbnails)
        is_table = len(train.shape) <= 1
        if small_val is not None and is_table and not is_same and self._is_val_whole and len(small_val) == val.taken:
            yield from values.judge_own_scale(small_val, where)
        # Numbers that are names, such as those of words, have no distance.
        if self.neighbours and small is not None and train.is_measured:
            yield from near_duplicates.judge(small, small_val, is_table, is_same, where)
        if inputs is not None and asked is not None and train.is_measured and not is_same and not _overlaps(copies):
            yield from shared_windows.judge(inputs, asked, train.shape, where)
        is_whole = trainer.is_last_batch and known is not None and len(train.named) == train.taken
        if known is not None and is_whole:
            yield from class_weights.judge_each(self._first_loss.weights, known, where)
        yield from pairing.findings(self.neighbours)
        self._unrelated = pairing.unrelated or self._unrelated
        for split, kept in self._boxes.items():
            yield from boxes.judge(kept, split, where)

    def _release(self) -> None:
        """Hear no more; may be called twice."""
        if self._hearing is not None:
            self._hearing.remove()
            self._hearing = None
        self._first_loss.remove()
        if self._hits is not None:
            self._hits.remove()


def _baselines(train: Seen, val: Seen) -> dict[str, Any]:
    """Return what simple models make of what was looked at, or why there is nothing to learn."""
    parts = train.values, train.targets, val.values, val.targets
    inputs, wanted, others, answers = parts
    if inputs is None or wanted is None or others is None or answers is None:
        return {"left_out": "it needs inputs of one shape and a label or number for each, in training and validation"}
    if not (train.is_paired and val.is_paired):
        return {"left_out": "which target is whose input's is not told by each batch"}
    if inputs.shape[1] != others.shape[1] or not (values.is_finite(inputs) and values.is_finite(others)):
        return {"left_out": "inputs are not finite, or have other shapes in validation"}
    return baselines(inputs.numpy(), wanted[: len(inputs)], others.numpy(), answers[: len(others)])


def _overlaps(found: list[Finding]) -> bool:
    return any(finding.rule == duplicates.TRAIN_VAL_OVERLAP.name for finding in found)


def _is_normed(module: nn.Module, name: str) -> bool:
    """Tell whether the part that is registered behind the one named is a normalisation."""
    parts = {path: part for path, part in module.named_modules() if not next(part.children(), None)}
    behind = list(parts)[list(parts).index(name) + 1 :] if name in parts else []
    return bool(behind) and isinstance(parts[behind[0]], NORMS)


def _gives_each_once(loader: Any) -> bool:
    """Tell whether the sampler of ``loader`` is known to give each sample once: it balances nothing."""
    batches = getattr(loader, "batch_sampler", None)
    sampler = getattr(batches, "sampler", None)
    if isinstance(sampler, RandomSampler):
        return not sampler.replacement
    known = isinstance(sampler, SequentialSampler | DistributedSampler)
    return known and (isinstance(batches, BatchSampler) or type(batches).__module__.startswith("lightning"))


def _is_same(loader: Any, others: Any) -> bool:
    """Tell whether validation is on the training dataset itself, as when a batch is overfitted on purpose."""
    listed = others if isinstance(others, list | tuple) else [others]
    own = getattr(loader, "dataset", None)
    return own is not None and any(getattr(other, "dataset", None) is own for other in listed)
