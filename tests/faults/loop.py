"""The training loop itself: stepped twice, in the wrong mode, on data that are through, by a metric turned round."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from faults.registry import Classifier, Program, batches, digits, fault
from faults.wiring import program

Columns = tuple[Tensor, Tensor]


class Validated(Classifier):
    """A classifier that logs its loss and its accuracy, both computed by hand."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        scores = self(x)
        self.log("loss", F.cross_entropy(scores, y))
        self.log("right", (scores.argmax(-1) == y).float().mean())


def validated(module: pl.LightningModule, *callbacks: pl.Callback, **trainer: Any) -> Program:
    train, val = halves()
    return Program(
        module, batches(*train), batches(*val, shuffle=False), {"max_epochs": 3, **trainer}, callbacks=callbacks
    )


def halves() -> tuple[Columns, Columns]:
    """512 digits for training, 256 others for validation."""
    x, y = digits(768)
    return (x[:512], y[:512]), (x[512:], y[512:])


# --- optimizer-stepped-twice ---------------------------------------------------------------------------------------


@fault("optimizer-stepped-twice", source="optimizer.step()")
def a_loop_of_plain_torch_beside_lightnings(mended: bool) -> Program:
    """Copied from a script: backward, step and zero_grad, and then the loss is returned, too."""

    class Copied(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.mended:
                optimizer = self.optimizers().optimizer
                super().training_step(batch, batch_idx).backward()
                optimizer.step()
                optimizer.zero_grad()
            return super().training_step(batch, batch_idx)

    return program(Copied(mended))


@fault("optimizer-stepped-twice", source="self.optimizers().step()")
def a_step_in_a_hook(mended: bool) -> Program:
    class Hooked(Classifier):
        def on_after_backward(self) -> None:
            if not self.mended:
                self.optimizers().step()

    return program(Hooked(mended))


@fault("optimizer-stepped-twice", source="self.optimizers().optimizer.step()", raises=None)
def a_step_before_lightnings_backward(mended: bool) -> Program:
    """Lightning's backward then needs weights that are gone."""

    class Early(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            if not self.mended:
                loss.backward(retain_graph=True)
                self.optimizers().optimizer.step()
            return loss

    return program(Early(mended))


# --- scheduler-stepped-twice ---------------------------------------------------------------------------------------


class Decayed(Classifier):
    """SGD under a schedule."""

    interval = "step"

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        calls = int(self.trainer.estimated_stepping_batches) if self.interval == "step" else self.trainer.max_epochs
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, calls)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


@fault("scheduler-stepped-twice", source="self.lr_schedulers().step()")
def a_scheduler_stepped_in_the_training_step(mended: bool) -> Program:
    class Stepped(Decayed):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.mended:
                self.lr_schedulers().step()
            return super().training_step(batch, batch_idx)

    return program(Stepped(mended))


@fault("scheduler-stepped-twice", source="self.lr_schedulers().step()")
def a_scheduler_stepped_as_the_epoch_ends(mended: bool) -> Program:
    class Stepped(Decayed):
        interval = "epoch"

        def on_train_epoch_end(self) -> None:
            if not self.mended:
                self.lr_schedulers().step()

    return program(Stepped(mended), max_epochs=4)


@fault("scheduler-stepped-twice", source="scheduler.step()")
def a_hook_that_steps_and_calls_lightnings(mended: bool) -> Program:
    class Stepped(Decayed):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            if not self.mended:
                scheduler.step()
            super().lr_scheduler_step(scheduler, metric)

    return program(Stepped(mended))


# --- train-mode-in-validation --------------------------------------------------------------------------------------


class Normed(Validated):
    """With batch norm and dropout."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))


@fault("train-mode-in-validation", "net", source="self.train()")
def train_called_in_the_validation_step(mended: bool) -> Program:
    class Trains(Normed):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if not self.mended:
                self.train()
            super().validation_step(batch, batch_idx)

    return validated(Trains(mended))


@fault("train-mode-in-validation", "net")
def eval_left_out_of_lightnings_hook(mended: bool) -> Program:
    class Stays(Normed):
        def on_validation_model_eval(self) -> None:
            if self.mended:
                super().on_validation_model_eval()

    return validated(Stays(mended))


# --- loader-exhausted ----------------------------------------------------------------------------------------------


class Once(IterableDataset[Any]):
    """Rows behind an iterator that is made when the dataset is, or each time that it is read."""

    def __init__(self, columns: Columns, again: bool) -> None:
        self.rows = list(zip(*columns, strict=True))
        self.again = again
        self.reader = iter(self.rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows) if self.again else self.reader


@fault("loader-exhausted")
def training_data_behind_one_iterator(mended: bool) -> Program:
    train, val = halves()
    stream = DataLoader(Once(train, mended), batch_size=32)
    return Program(Validated(mended), stream, batches(*val, shuffle=False), {"max_epochs": 4})


@fault("loader-exhausted")
def validation_data_behind_one_iterator(mended: bool) -> Program:
    """The first validation, and what the sanity check has left of it, is the only one."""
    train, val = halves()
    stream = DataLoader(Once(val, mended), batch_size=32)
    return Program(Validated(mended), batches(*train), stream, {"max_epochs": 4})


@fault("step-raised")
def a_second_loader_that_is_read_by_next(mended: bool) -> Program:
    """The step reads other samples by hand; when they are through, it raises what ends Lightning's epoch."""

    class Reads(Validated):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.others = DataLoader(TensorDataset(*halves()[1]), 16)
            self.reader = iter(self.others)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            other = next(self.reader, None) if self.mended else next(self.reader)
            if other is None:
                self.reader = iter(self.others)
                other = next(self.reader)
            return super().training_step(batch, batch_idx) + 0.1 * super().training_step(other, batch_idx)

    return validated(Reads(mended), max_epochs=5)


@fault("step-raised")
def a_callback_that_counts_batches_by_next(mended: bool) -> Program:
    """Its iterator is through in the second epoch: from then on no batch gets beyond it."""

    class Counts(pl.Callback):
        def __init__(self) -> None:
            self.names = itertools.count() if mended else iter(range(24))

        def on_train_batch_start(self, *args: Any) -> None:
            next(self.names)

    return validated(Validated(mended), Counts(), max_epochs=6)


@fault("step-raised")
def a_hook_of_the_transfer_that_reads_by_next(mended: bool) -> Program:
    class Shifts(Validated):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            if not self.trainer.training:
                return batch
            if "shifts" not in vars(self):
                self.shifts = iter(range(24))
            next(self.shifts, 0) if self.mended else next(self.shifts)
            return batch

    return validated(Shifts(mended), max_epochs=6)


# --- metric-not-reset ----------------------------------------------------------------------------------------------


@fault("metric-not-reset", "accuracy")
def an_accuracy_of_all_validations_together(mended: bool) -> Program:
    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.accuracy = MulticlassAccuracy(10)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.accuracy.update(self(batch[0]), batch[1])

        def on_validation_epoch_end(self) -> None:
            self.log("accuracy", self.accuracy.compute())
            if self.mended:
                self.accuracy.reset()

    return validated(Counts(mended))


@fault("metric-not-reset", "mean")
def a_mean_loss_of_all_validations_together(mended: bool) -> Program:
    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.mean = MeanMetric()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.mean.update(F.cross_entropy(self(batch[0]), batch[1]))

        def on_validation_epoch_end(self) -> None:
            self.log("loss", self.mean.compute())

        def on_validation_epoch_start(self) -> None:
            if self.mended:
                self.mean.reset()

    return validated(Counts(mended))


@fault("metric-not-reset", "hits")
def a_list_of_hits_of_all_validations(mended: bool) -> Program:
    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.hits: list[Tensor] = []

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.hits.append(self(batch[0]).argmax(1) == batch[1])

        def on_validation_epoch_end(self) -> None:
            self.log("accuracy", torch.cat(self.hits).float().mean())
            if self.mended:
                self.hits.clear()

    return validated(Counts(mended))


@fault("metric-not-reset", "right")
def counts_of_all_validations_together(mended: bool) -> Program:
    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.right = self.seen = 0

        def on_validation_epoch_start(self) -> None:
            if self.mended or self.trainer.sanity_checking:
                self.right = self.seen = 0

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.right += int((self(batch[0]).argmax(1) == batch[1]).sum())
            self.seen += len(batch[1])

        def on_validation_epoch_end(self) -> None:
            self.log("accuracy", 100 * self.right / self.seen)

    return validated(Counts(mended), max_epochs=4)


@fault("metric-not-reset", "accuracy")
def an_accuracy_of_training_and_validation_together(mended: bool) -> Program:
    """One object for both, reset as each epoch ends."""

    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.accuracy = MulticlassAccuracy(10)
            self.other = self.accuracy.clone() if mended else self.accuracy

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.accuracy.update(self(batch[0]), batch[1])
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.log("train_accuracy", self.accuracy.compute())
            self.accuracy.reset()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.other.update(self(batch[0]), batch[1])

        def on_validation_epoch_end(self) -> None:
            self.log("accuracy", self.other.compute())
            if self.mended:
                self.other.reset()

    return validated(Counts(mended))


@fault("metric-not-reset", "accuracy")
def an_accuracy_logged_in_both_steps(mended: bool) -> Program:
    """Lightning computes and resets it as the validation ends, which comes before the end of the epoch."""

    class Logs(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.accuracy = MulticlassAccuracy(10)
            self.other = self.accuracy.clone() if mended else self.accuracy

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.accuracy(self(batch[0]), batch[1])
            self.log("train_accuracy", self.accuracy, on_step=True, on_epoch=False)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.other.update(self(batch[0]), batch[1])
            self.log("accuracy", self.other)

    return validated(Logs(mended))


@fault("metric-not-reset", "mean")
def a_mean_loss_of_training_and_validation_together(mended: bool) -> Program:
    """A mean over all of training may be meant; over training and validation it is not."""

    class Means(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.mean = MeanMetric()
            self.other = self.mean.clone() if mended else self.mean

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.mean.update(loss.detach())
            self.log("train_loss", self.mean, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.other.update(F.cross_entropy(self(batch[0]), batch[1]))
            self.log("loss", self.other, on_step=False, on_epoch=True)

    return validated(Means(mended))


# --- monitor-missing -----------------------------------------------------------------------------------------------


@fault("monitor-missing", at_step=0)
def a_checkpoint_of_validations_beyond_the_run(mended: bool) -> Program:
    class Named(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

    return validated(Named(mended), ModelCheckpoint(monitor="val_loss"), check_val_every_n_epoch=3 if mended else 4)


@fault("monitor-missing")
def a_stopping_by_a_validation_that_is_due_after_the_run(mended: bool) -> Program:
    """What its metric is of is known when it was not logged: told at the end."""
    interval = {"val_check_interval": 16 if mended else 1000, "check_val_every_n_epoch": None}
    return validated(Validated(mended), EarlyStopping("right", mode="max", patience=9), **interval)


# --- monitor-mode --------------------------------------------------------------------------------------------------


@fault("monitor-mode")
def early_stopping_at_the_lowest_accuracy(mended: bool) -> Program:
    """``mode`` is min by default; the accuracy is computed by hand."""
    stopping = EarlyStopping("right", mode="max" if mended else "min")
    return validated(Validated(mended), stopping)


@fault("monitor-mode")
def the_checkpoint_of_the_highest_loss(mended: bool) -> Program:
    return validated(Validated(mended), ModelCheckpoint(monitor="loss", mode="min" if mended else "max"))


@fault("monitor-mode")
def a_metric_object_followed_downwards(mended: bool) -> Program:
    class Counts(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.accuracy = MulticlassAccuracy(10)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.accuracy(self(batch[0]), batch[1])
            self.log("accuracy", self.accuracy)

    return validated(Counts(mended), ModelCheckpoint(monitor="accuracy", mode="max" if mended else "min"))


@fault("monitor-mode")
def a_plateau_of_the_accuracy_taken_for_one_of_the_loss(mended: bool) -> Program:
    class Scheduled(Validated):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode="max" if self.mended else "min", patience=2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "right"}}

    return validated(Scheduled(mended))


# --- validation-weights-kept ---------------------------------------------------------------------------------------


class Averages(pl.Callback):
    """A moving average of the weights that is validated in their place."""

    def __init__(self, mended: bool) -> None:
        self.mended = mended
        self.average: dict[str, Tensor] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        for name, weight in pl_module.state_dict().items():
            self.average.setdefault(name, weight.clone()).lerp_(weight, 0.1)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Without a copy these are the very tensors that the average is written into.
        self.trained = {name: weight.clone() if self.mended else weight for name, weight in self.weights(pl_module)}
        pl_module.load_state_dict(self.average or dict(self.trained))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.load_state_dict(self.trained)

    def weights(self, module: pl.LightningModule) -> Any:
        return module.state_dict().items()


@fault("validation-weights-kept")
def an_average_put_back_from_itself(mended: bool) -> Program:
    return validated(Validated(mended), Averages(mended), max_epochs=4)


@fault("validation-weights-kept")
def an_average_that_is_never_taken_out(mended: bool) -> Program:
    """Weights and average are exchanged as validation begins, and not again."""

    class Exchanged(Validated):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.average = copy.deepcopy(self.net).requires_grad_(False)

        def on_train_batch_end(self, *batch: Any) -> None:
            for mean, weight in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.lerp_(weight.detach(), 0.1)

        def exchange(self) -> None:
            for mean, weight in zip(self.average.parameters(), self.net.parameters(), strict=True):
                mean.data, weight.data = weight.data, mean.data

        def on_validation_epoch_start(self) -> None:
            self.exchange()

        def on_validation_epoch_end(self) -> None:
            if self.mended:
                self.exchange()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.net.parameters(), lr=self.rate)

    return validated(Exchanged(mended), max_epochs=4)


# --- graph-kept ----------------------------------------------------------------------------------------------------


class Curve(Classifier):
    """Keeps its losses for a curve."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.curve: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.curve.append(loss.detach() if self.mended else loss)
        return loss


@fault("graph-kept", "", source="self.curve.append(loss")
def losses_in_a_list(mended: bool) -> Program:
    return Program(Curve(mended), batches(*digits()), trainer={"max_epochs": 3})


class Sum(Classifier):
    """Adds up its losses, for a mean that is logged."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.total: Any = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.total += loss.item() if self.mended else loss
        return loss


@fault("graph-kept", "", source="self.total += loss")
def losses_in_a_sum(mended: bool) -> Program:
    return Program(Sum(mended), batches(*digits()), trainer={"max_epochs": 3})


@fault("graph-kept", "slow", op="")
def a_slow_copy_that_is_moved_with_its_history(mended: bool) -> Program:
    """The weights of the copy are changed in place, and each change is recorded; one epoch is enough."""

    class Slow(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.slow = copy.deepcopy(self.net).requires_grad_(False)

        def on_train_batch_end(self, *args: Any) -> None:
            with torch.set_grad_enabled(not self.mended):
                for slow, fast in zip(self.slow.parameters(), self.net.parameters(), strict=True):
                    slow.mul_(0.9).add_(fast, alpha=0.1)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=self.rate)

    return Program(Slow(mended), batches(*digits()), trainer={"max_epochs": 1})
