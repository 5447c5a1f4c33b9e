"""Modes and schedules: what is frozen or in eval mode, how the rate moves, and weights that are overwritten."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from faults.registry import Classifier, Module, Program, batches, digits, fault, trained
from faults.wiring import TwoParts, program


class Normed(TwoParts):
    """A backbone with batch norm and dropout."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1))


# --- frozen-module-changed -----------------------------------------------------------------------------------------


@fault("frozen-module-changed", "backbone")
def frozen_backbone_in_train_mode(mended: bool) -> Program:
    """The statistics of its batch norm drift, though no parameter of it is trained."""

    class Net(Normed):
        def on_train_epoch_start(self) -> None:
            if mended:
                self.backbone.eval()

    module = Net(mended)
    module.backbone.requires_grad_(False)
    return program(module)


@fault("frozen-module-changed", "backbone")
def frozen_and_moved_by_the_optimizer(mended: bool) -> Program:
    """Frozen in mid-run while its gradients are zeros, not None: momentum and weight decay go on."""

    class Net(TwoParts):
        def on_train_epoch_start(self) -> None:
            if self.current_epoch == 2:
                self.backbone.requires_grad_(False)

        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            optimizer.zero_grad(set_to_none=mended)

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.1)

    return program(Net(mended))


# --- learning-rate-schedule ----------------------------------------------------------------------------------------


class Scheduled(Classifier):
    """Adam under a schedule that the subclass names, and how often it is stepped."""

    def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        scheduler, interval = self.schedule(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}


@fault("learning-rate-schedule")
def step_decay_in_epochs_stepped_per_batch(mended: bool) -> Program:
    """A tenth every three epochs becomes a tenth every three batches."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            return lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.1), "epoch" if mended else "step"

    return program(Net(mended), max_epochs=6)


@fault("learning-rate-schedule")
def cosine_in_epochs_stepped_per_batch(mended: bool) -> Program:
    """Half a period in six batches: the rate swings up and down all through the run."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            epochs = self.trainer.max_epochs
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs), "epoch" if mended else "step"

    return program(Net(mended), max_epochs=6)


@fault("learning-rate-schedule")
def one_cycle_in_batches_stepped_per_epoch(mended: bool) -> Program:
    """Lightning's default interval is the epoch: the rate stays at the foot of its warm-up."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            steps = int(self.trainer.estimated_stepping_batches)
            scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
            return scheduler, "step" if mended else "epoch"

    return program(Net(mended), max_epochs=6)


@fault("learning-rate-schedule")
def decay_factor_of_zero(mended: bool) -> Program:
    """gamma is what is kept, not what is taken away."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            return lr_scheduler.ExponentialLR(optimizer, gamma=0.95 if mended else 0.0), "epoch"

    return program(Net(mended), max_epochs=6)


@fault("learning-rate-schedule")
def exponential_decay_stepped_per_batch(mended: bool) -> Program:
    """0.8 for each epoch becomes 0.8 for each batch."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            return lr_scheduler.ExponentialLR(optimizer, gamma=0.8), "epoch" if mended else "step"

    return program(Net(mended), max_epochs=6)


@fault("learning-rate-schedule")
def warm_up_longer_than_the_run(mended: bool) -> Program:
    """The warm-up of a long pre-training, copied into a short fine-tuning."""

    class Net(Scheduled):
        def schedule(self, optimizer: torch.optim.Optimizer) -> tuple[Any, str]:
            warm_up = 20 if mended else 10_000
            return lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up)), "step"

    return program(Net(mended), max_epochs=6)


# --- weights-overwritten -------------------------------------------------------------------------------------------


def initialise(layer: nn.Module) -> None:
    """The initialisation that the user prefers."""
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def resumed(module: Module) -> Program:
    """Go on from the checkpoint of a first epoch."""

    def write(folder: Path) -> Path:
        return trained(TwoParts(mended=True), batches(*digits()), folder)

    run = program(module)
    run.ckpt_path = write
    return run


@fault("weights-overwritten")
def initialised_when_the_fit_starts(mended: bool) -> Program:
    """An initialisation in ``on_fit_start``, which runs after the checkpoint was loaded."""

    class Net(TwoParts):
        def on_fit_start(self) -> None:
            if not mended:
                self.apply(initialise)

    return resumed(Net(mended))


@fault("weights-overwritten")
def initialised_when_training_starts(mended: bool) -> Program:
    """The same in ``on_train_start``."""

    class Net(TwoParts):
        def on_train_start(self) -> None:
            if not mended:
                self.apply(initialise)

    return resumed(Net(mended))


@fault("weights-overwritten", "backbone")
def pretrained_backbone_loaded_on_resume(mended: bool) -> Program:
    """The pretrained backbone is loaded in a hook, on resume too: what was fine-tuned is gone."""
    pretrained = TwoParts(mended).backbone.state_dict()

    class Net(TwoParts):
        def on_train_start(self) -> None:
            if self.trainer.global_step == 0 or not mended:
                self.backbone.load_state_dict(pretrained)

    return resumed(Net(mended))


@fault("weights-overwritten", "backbone")
def initialised_after_a_part_was_loaded(mended: bool) -> Program:
    """A pretrained backbone, and then an initialisation that was meant for the head."""
    pretrained = TwoParts(mended).backbone.state_dict()

    class Net(TwoParts):
        def setup(self, stage: str) -> None:
            self.backbone.load_state_dict(pretrained)

        def on_fit_start(self) -> None:
            (self.head if mended else self).apply(initialise)

    return program(Net(mended))


# --- eval-mode-in-training -----------------------------------------------------------------------------------------


@fault("eval-mode-in-training", "backbone", "")
def left_in_eval_after_a_preview(mended: bool) -> Program:
    """A preview every ten batches switches to eval mode, and not back."""

    class Net(Normed):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx % 10 == 9:
                self.eval()
                with torch.no_grad():
                    self.preview = self.head(self.features(batch[0][:4])).argmax(1)
                if mended:
                    self.train()

    return program(Net(mended))


@fault("eval-mode-in-training", "backbone", "")
def left_in_eval_after_an_epoch(mended: bool) -> Program:
    """The training accuracy is taken in eval mode at the end of the epoch."""

    class Net(Normed):
        def on_train_epoch_end(self) -> None:
            x, y = digits(128)
            self.eval()
            with torch.no_grad():
                self.accuracy = (self.head(self.features(x)).argmax(1) == y).float().mean()
            self.train(mode=mended)

    return program(Net(mended))


@fault("eval-mode-in-training", "backbone", "")
def left_in_eval_beside_a_copy_that_is_meant_to_be(mended: bool) -> Program:
    """A frozen copy in eval mode, a baseline from the start, does not hide that the model is left in it later."""

    class Net(Normed):
        def __init__(self) -> None:
            super().__init__(mended)
            self.baseline = copy.deepcopy(self.backbone).eval()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            with torch.inference_mode():
                self.baseline(batch[0])
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.backbone.train(mode=mended)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam([*self.backbone.parameters(), *self.head.parameters()], 1e-3)

    return program(Net())


@fault("eval-mode-in-training", "backbone", "")
def given_in_eval_mode(mended: bool) -> Program:
    """A pretrained model comes in eval mode, and Lightning leaves it there."""
    module = Normed(mended)
    module.backbone.train(mode=mended)
    return program(module)


@fault("eval-mode-in-training", "backbone")
def teacher_in_eval_mode_is_the_student(mended: bool) -> Program:
    """Pseudo-labels are predicted in eval mode by the net that is then trained."""

    class Net(Normed):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            self.backbone.eval()
            with torch.no_grad():
                pseudo = self.head(self.backbone(x)).argmax(1)
            if mended:
                self.backbone.train()
            logits = self.head(self.backbone(x + 0.1 * torch.randn_like(x)))
            return F.cross_entropy(logits, y) + 0.1 * F.cross_entropy(logits, pseudo)

    return program(Net(mended))
