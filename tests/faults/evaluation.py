"""Evaluation that goes wrong while training is fine: losses, statistics and weights that only validation meets."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp

# --- nonfinite-validation ------------------------------------------------------------------------------------------


class Regression(Module):
    """Regress the progress of a disease."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch[:2]
        return nn.functional.mse_loss(self.net(x), y)


def validated(module: Module, *columns: Tensor, **trainer: Any) -> Program:
    """Two epochs on the patients, validated on these columns in order."""
    x, y = diabetes()
    val = batches(*columns, size=8, shuffle=False)
    return Program(module, batches(x[:320], y[:320]), val, trainer={"max_epochs": 2, **trainer})


@fault("nonfinite-validation", source="mask.sum(1)", op="div", samples=[3], batch_idx=2, raises=False)
def a_validation_sample_without_a_mask(mended: bool) -> Program:
    """The mean over what a mask leaves: of one sample it leaves nothing."""

    class Net(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y, mask = batch
            error = (self.net(x) - y).square() * mask
            loss = (error.sum(1) / mask.sum(1)).mean()
            self.log("val_loss", loss)
            return loss

    x, y = diabetes()
    mask = torch.ones(48, 4)
    mask[19] = 1.0 if mended else 0.0
    return validated(Net(mended), x[-48:], y[-48:], mask, num_sanity_val_steps=0)


@fault("nonfinite-validation", source="/ size", op="div", raises=False)
def a_percentage_of_nothing_in_each_validation(mended: bool) -> Program:
    """The error is logged as a share of the target, and one target is 0: no loss, and infinite in every epoch."""

    class Net(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            size = y.abs().clamp_min(0.1) if self.mended else y.abs()
            self.log("val_mape", ((self.net(x) - y).abs() / size).mean())

    x, y = diabetes()
    y[-10] = 0
    return validated(Net(mended), x[-48:], y[-48:])


@fault("nonfinite-validation", source="torch.log", op="log", raises=False)
def a_logged_metric_of_the_sanity_check(mended: bool) -> Program:
    """Nothing is returned, the loss is only logged; the first two batches tell before training starts."""

    class Net(Regression):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.log_dict(
                {"val/loss": torch.log((self.net(x) - y).square().clamp_min(1e-8) - (0 if mended else 0.1)).mean()}
            )

    x, y = diabetes()
    return validated(Net(mended), x[-48:], y[-48:])


@fault("nonfinite-validation", raises=False)
def a_metric_of_the_whole_validation(mended: bool) -> Program:
    """What is gathered over the batches is divided by a count that nobody raises."""

    class Net(Regression):
        def on_validation_epoch_start(self) -> None:
            self.total, self.count = torch.zeros(()), torch.zeros(())

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            if self.mended:
                self.total, self.count = self.total + (self.net(x) - y).abs().sum(), self.count + len(x)

        def on_validation_epoch_end(self) -> None:
            self.log("val_error", self.total / self.count)

    x, y = diabetes()
    return validated(Net(mended), x[-48:], y[-48:])


# --- nonfinite-buffer ----------------------------------------------------------------------------------------------


class Normed(Regression):
    """The same with batch norm behind the inputs."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = nn.Sequential(nn.BatchNorm1d(10), mlp(10, 16, 1))


def with_outlier(value: float) -> Program:
    x, y = diabetes()
    x = x.clone()
    x[100, 3] = value
    return Program(Normed(False), batches(x, y, shuffle=False), trainer={"max_epochs": 2})


@fault("nonfinite-buffer", "net.0", samples=[4], raises=False)
def one_entry_overflows_a_running_variance(mended: bool) -> Program:
    """1e30 squared is infinite: the batch is normalised to zeros, the running variance stays infinite."""
    return with_outlier(3.0 if mended else 1e30)


@fault("nonfinite-buffer", "bad", raises=False)
def a_branch_whose_nan_the_loss_leaves_out(mended: bool) -> Program:
    """An auxiliary head sees missing values; where they are, its loss is masked."""

    class Net(Regression):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.bad = nn.BatchNorm1d(1, affine=False)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            aside = self.bad(batch[0][:, :1] * (1.0 if mended or self.trainer.global_step < 15 else torch.nan))
            return super().training_step(batch, batch_idx) + 0.1 * aside[~aside.isnan()].sum()

    return Program(Net(mended), batches(*diabetes()), trainer={"max_epochs": 2})


class OwnNorm(nn.Module):
    """A norm by hand: its running variance is that of one sample, once a batch has no more."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.variance.lerp_(x.var(0), 0.1)
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


class CodeBook(nn.Module):
    """Code words that follow the mean of what is nearest to them; of 64, most are nearest to nothing in a batch."""

    def __init__(self, mended: bool, replaces: bool = False) -> None:
        super().__init__()
        self.mended, self.replaces = mended, replaces
        self.register_buffer("words", torch.randn(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(x, self.words).argmin(1)
        if self.training:
            chosen = nn.functional.one_hot(nearest, 64).float()
            count = chosen.sum(0)[:, None]
            means = chosen.T @ x / (count.clamp(min=1) if self.mended else count)
            moved = self.words.lerp(torch.where(count > 0, means, self.words) if self.mended else means, 0.1)
            if self.replaces:
                self.words = moved
            else:
                self.words.copy_(moved)
        return self.words[nearest]


class Coded(Regression):
    def __init__(self, mended: bool, replaces: bool = False) -> None:
        super().__init__(mended)
        self.book = CodeBook(mended, replaces)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            words = self.book(batch[0])
        return super().training_step((batch[0] + 0.01 * words, batch[1]), batch_idx)


AT_THE_MEANS = {"source": "means = chosen.T @ x", "op": "div", "raises": None}


@fault("nonfinite-buffer", "book", **AT_THE_MEANS)
def code_words_that_nothing_is_nearest_to(mended: bool) -> Program:
    return Program(Coded(mended), batches(*diabetes(), drop_last=True), trainer={"max_epochs": 2})


@fault("nonfinite-buffer", "book", **AT_THE_MEANS)
def code_words_that_are_replaced_at_each_step(mended: bool) -> Program:
    return Program(Coded(mended, replaces=True), batches(*diabetes(), drop_last=True), trainer={"max_epochs": 2})


@fault("nonfinite-buffer", "own", source="self.variance.lerp_(x.var(0), 0.1)", op="var", raises=False)
def a_last_batch_of_one_in_a_norm_by_hand(mended: bool) -> Program:
    class Net(Regression):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.own = OwnNorm(10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step((self.own(batch[0]), batch[1]), batch_idx)

    x, y = diabetes()
    return Program(Net(mended), batches(x[:129], y[:129], drop_last=mended), trainer={"max_epochs": 2})


# --- untrained-weights-validated -----------------------------------------------------------------------------------


class Validates(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


def averaged(module: pl.LightningModule, *callbacks: pl.Callback) -> Program:
    x, y = digits(576)
    train, val = batches(x[64:], y[64:]), batches(x[:64], y[:64])
    return Program(module, train, val, trainer={"max_epochs": 2}, callbacks=callbacks)


def an_average_that_has_not_begun(mended: bool) -> Program:
    """It is to begin at a step that the run does not have, and is validated and left behind all the same."""
    return averaged(Validates(mended), averaging(update_starting_at_step=2 if mended else 10_000))


if (averaging := getattr(pl.callbacks, "EMAWeightAveraging", None)) is not None:  # lightning 2.6
    fault("untrained-weights-validated")(an_average_that_has_not_begun)


class Shadow(pl.Callback):
    """An average of the user's own, swapped in for validation; ``updates`` is the line that may be missing."""

    def __init__(self, updates: bool) -> None:
        self.updates = updates

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.shadow = [p.detach().clone() for p in module.parameters()]

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any) -> None:
        for kept, p in zip(self.shadow, module.parameters(), strict=True):
            if self.updates:
                kept.lerp_(p.detach(), 0.1)

    def swap(self, module: pl.LightningModule) -> None:
        for kept, p in zip(self.shadow, module.parameters(), strict=True):
            now = p.detach().clone()
            p.data.copy_(kept)
            kept.copy_(now)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.swap(module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.swap(module)


@fault("untrained-weights-validated")
def a_shadow_that_is_never_updated(mended: bool) -> Program:
    return averaged(Validates(mended), Shadow(updates=mended))


class Copied(Validates):
    """An average of its own beside the network, which validation calls; ``updates`` is the line that may be missing."""

    def __init__(self, mended: bool, both: bool = False) -> None:
        super().__init__(mended)
        self.both = both
        self.ema = torch.optim.swa_utils.AveragedModel(self.net)

    def on_train_batch_end(self, *args: Any) -> None:
        if self.mended:
            self.ema.update_parameters(self.net)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.ema(x), y))
        if self.both:
            self.log("val_loss_trained", nn.functional.cross_entropy(self.net(x), y))


@fault("untrained-weights-validated", "ema.module")
def an_average_that_nobody_updates(mended: bool) -> Program:
    """It is among the parameters that the optimizer is given."""
    return averaged(Copied(mended))


@fault("untrained-weights-validated", "ema")
def a_frozen_copy_that_nobody_updates(mended: bool) -> Program:
    """A copy by hand; ``mended`` validates what trains beside it."""
    module = Copied(mended, both=mended)
    module.ema = copy.deepcopy(module.net).requires_grad_(False)
    module.on_train_batch_end = lambda *args: None
    return averaged(module)
