"""Work that does not happen: steps without a loss, windows that never fill, schedulers that nobody steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LinearLR, SequentialLR

from faults.optimizers import Manual
from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, trained
from faults.wiring import program

# --- no-loss -------------------------------------------------------------------------------------------------------


@fault("no-loss", source="torch.log", op="log")
def nan_batches_are_skipped(mended: bool) -> Program:
    """``return None`` where the loss is NaN: most batches hold an empty image."""

    class Net(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            ink = batch[0].mean(1) - (0.0 if mended else 0.26)
            loss = super().training_step(batch, batch_idx) + 0.01 * torch.log(ink).mean()
            return None if torch.isnan(loss) else loss

    return program(Net(mended))


@fault("no-loss")
def a_branch_without_return(mended: bool) -> Program:
    """A line that was indented too far: after the warm-up nothing is returned."""

    class Net(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            loss = super().training_step(batch, batch_idx)
            if self.trainer.global_step < 20 or mended:
                return loss
            return None

    return program(Net(mended))


@fault("no-loss")
def a_manual_step_that_always_leaves_early(mended: bool) -> Program:
    """A guard with the wrong sign."""

    class Net(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
            x, _ = batch
            if torch.isfinite(x).all() != mended:
                return None
            return super().training_step(batch, batch_idx)

    return program(Net(mended))


# --- accumulation-window -------------------------------------------------------------------------------------------


@fault("accumulation-window")
def a_window_larger_than_the_epoch(mended: bool) -> Program:
    """Sixteen batches, of which sixty-four are to make a step."""
    return program(Classifier(mended), accumulate_grad_batches=4 if mended else 64)


@fault("accumulation-window")
def a_last_window_of_one_batch(mended: bool) -> Program:
    """Sixteen batches in windows of fifteen."""
    return program(Classifier(mended), accumulate_grad_batches=8 if mended else 15)


class Endless(torch.utils.data.IterableDataset[Any]):
    """A stream whose length nobody knows."""

    def __iter__(self) -> Any:
        yield from zip(*digits(), strict=True)


@fault("accumulation-window")
def a_window_larger_than_a_stream(mended: bool) -> Program:
    """What the stream gives in an epoch is known when it is over."""
    loader = torch.utils.data.DataLoader(Endless(), batch_size=32)
    window = 2 if mended else 50
    return Program(Classifier(mended), loader, trainer={"max_epochs": 2, "accumulate_grad_batches": window})


# --- update-ratio-low ----------------------------------------------------------------------------------------------


@fault("update-ratio-low")
def a_tiny_rate_on_a_stream(mended: bool) -> Program:
    """How many steps there are is known when the run is over."""
    loader = torch.utils.data.DataLoader(Endless(), batch_size=32)
    return Program(Classifier(mended, rate=1e-3 if mended else 1e-7), loader, trainer={"max_epochs": 2})


# --- toggle-without-untoggle ---------------------------------------------------------------------------------------


class Pair(Module):
    """Two nets, each with an optimizer; ``mended`` gives the flags back."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.automatic_optimization = False
        self.a, self.b = nn.Linear(64, 10), nn.Linear(64, 10)

    def loss(self, net: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(net(x) + 0.1 * self.b(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.a.parameters(), 1e-3), torch.optim.Adam(self.b.parameters(), 1e-3)


@fault("toggle-without-untoggle", "a")
def untoggle_forgotten_in_a_branch(mended: bool) -> Program:
    """Only every batch from the tenth on toggles, and never untoggles."""

    class Net(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            if batch_idx >= 10:
                self.toggle_optimizer(second)
            for optimizer, net in ((second, self.b), (first, self.a)):
                optimizer.zero_grad()
                self.manual_backward(self.loss(net, batch))
                optimizer.step()
                if self.mended:
                    self.untoggle_optimizer(optimizer)

    return program(Net(mended))


@fault("toggle-without-untoggle", "a")
def a_helper_that_freezes_for_good(mended: bool) -> Program:
    """``set_requires_grad(net, False)``, as many adversarial nets have it, and no way back."""

    class Net(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            self.a.requires_grad_(False)
            second.zero_grad()
            self.manual_backward(self.loss(self.b, batch))
            second.step()
            if self.mended:
                self.a.requires_grad_(True)
            first.zero_grad()
            self.manual_backward(self.loss(self.a, batch))
            first.step()

    return program(Net(mended))


@fault("toggle-without-untoggle", raises=None)
def toggled_until_no_loss_has_a_gradient(mended: bool) -> Program:
    """The second toggle is not given back: in the next batch everything is switched off, and backward raises."""

    class Net(Pair):
        def loss(self, net: nn.Module, batch: Any) -> Tensor:
            return nn.functional.cross_entropy(net(batch[0]), batch[1])

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for optimizer, net in zip(self.optimizers(), (self.a, self.b), strict=True):
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(self.loss(net, batch))
                optimizer.step()
                if self.mended or net is self.a:
                    self.untoggle_optimizer(optimizer)

    return program(Net(mended))


# --- steps-not-counted ---------------------------------------------------------------------------------------------


class StepsPast(Manual):
    """Steps torch's optimizer, past Lightning's class around it."""

    def update(self, optimizer: Any, loss: Tensor) -> None:
        super().update(optimizer if self.mended else optimizer.optimizer, loss)


@fault("steps-not-counted")
def a_limit_of_steps_that_are_not_counted(mended: bool) -> Program:
    """Forty steps are asked for, and the fit ends after its epochs."""
    return program(StepsPast(mended), max_steps=40, max_epochs=4)


class Sharp(torch.optim.Optimizer):
    """Two steps of its own names around two gradients; the second ends with that of the optimizer inside."""

    def __init__(self, parameters: Any) -> None:
        self.inside = torch.optim.SGD(parameters, 0.05)
        super().__init__(self.inside.param_groups, {})

    @torch.no_grad()
    def first_step(self) -> None:
        self.kept = [(p, p.clone()) for group in self.param_groups for p in group["params"]]
        for p, _ in self.kept:
            p += 0.01 * p.grad / (p.grad.norm() + 1e-12)
        self.zero_grad()

    @torch.no_grad()
    def second_step(self) -> None:
        for p, was in self.kept:
            p.copy_(was)
        self.inside.step()
        self.zero_grad()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise NotImplementedError("first_step, second_step")


@fault("steps-not-counted")
def an_optimizer_with_steps_of_its_own_names(mended: bool) -> Program:
    """Sharpness-aware minimization by hand; Lightning counts steps named ``step`` alone."""

    class Net(Classifier):
        def __init__(self) -> None:
            super().__init__(mended)
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(super().training_step(batch, batch_idx))
            self.sharp.first_step()
            self.manual_backward(super().training_step(batch, batch_idx))
            if mended:  # what configure_optimizers has returned is the one inside
                for p, was in self.sharp.kept:
                    p.data.copy_(was)
                self.optimizers().step()
                self.sharp.zero_grad()
            else:
                self.sharp.second_step()

        def configure_optimizers(self) -> Any:
            self.sharp = Sharp(self.parameters())
            return self.sharp.inside if mended else self.sharp

    return program(Net(), max_steps=40, max_epochs=4)


# --- scheduler-never-stepped ---------------------------------------------------------------------------------------


@fault("parameter-not-updated", "a")
def one_of_two_optimizers_never_stepped(mended: bool) -> Program:
    class Both(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            first, second = self.optimizers()
            for optimizer, net in ((second, self.b), (first, self.a)):
                optimizer.zero_grad()
                self.manual_backward(self.loss(net, batch))
                if self.mended or optimizer is second:
                    optimizer.step()

    return program(Both(mended))


class Scheduled(Manual):
    """Manual optimisation with a schedule; ``mended`` steps it."""

    def update(self, optimizer: Any, loss: Tensor) -> None:
        super().update(optimizer, loss)
        if self.mended:
            self.lr_schedulers().step()


@fault("scheduler-never-stepped")
def manual_warm_up_that_nobody_steps(mended: bool) -> Program:
    class Net(Scheduled):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-2)
            warm = LinearLR(optimizer, 1e-4, total_iters=20)
            return [optimizer], [{"scheduler": warm, "interval": "step"}]

    return program(Net(mended))


@fault("scheduler-never-stepped")
def manual_cosine_that_nobody_steps(mended: bool) -> Program:
    """Returned without an interval: by epochs, if anybody had stepped it."""

    class Net(Manual):
        def on_train_epoch_end(self) -> None:
            if self.mended:
                self.lr_schedulers().step()

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            return [optimizer], [CosineAnnealingLR(optimizer, 4)]

    return program(Net(mended))


class LosesTheStep(Classifier):
    """The hook was overridden to look at the metric, and its last line was lost."""

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if self.mended:
            scheduler.step()


@fault("scheduler-never-stepped", at_step=0)
def a_schedule_under_another_key(mended: bool) -> Program:
    """Lightning takes what it knows of the dictionary, and the scheduler is gone."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            key = "lr_scheduler" if mended else "scheduler"
            return {"optimizer": optimizer, key: CosineAnnealingLR(optimizer, 4)}

    return program(Net(mended))


@fault("scheduler-never-stepped")
def a_frequency_beyond_the_run(mended: bool) -> Program:
    """Meant as steps, counted in epochs."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            frequency = 1 if mended else 16
            return [optimizer], [{"scheduler": CosineAnnealingLR(optimizer, 4), "frequency": frequency}]

    return program(Net(mended))


@fault("scheduler-never-stepped")
def lr_scheduler_step_left_empty(mended: bool) -> Program:
    class Net(LosesTheStep):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            return [optimizer], [{"scheduler": CosineAnnealingLR(optimizer, 64), "interval": "step"}]

    return program(Net(mended))


class OwnRamp:
    """A schedule that is no class of torch's: up to the rate in ``length`` steps."""

    def __init__(self, optimizer: Any, length: int) -> None:
        self.optimizer, self.length, self.done = optimizer, length, 0
        self.full = [group["lr"] for group in optimizer.param_groups]
        self.step()

    def step(self) -> None:
        self.done += 1
        for group, full in zip(self.optimizer.param_groups, self.full, strict=True):
            group["lr"] = full * min(1.0, self.done / self.length)

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]


@fault("scheduler-never-stepped")
def schedule_of_ones_own_that_nobody_steps(mended: bool) -> Program:
    class Net(LosesTheStep):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            return [optimizer], [{"scheduler": OwnRamp(optimizer, 40), "interval": "step"}]

    return program(Net(mended))


# --- gradients-zeroed-by-clipping ----------------------------------------------------------------------------------


class Astronomic(Module):
    """Regression whose loss is scaled by what is lost in no unit."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        scale = 1.0 if self.mended or batch_idx % 5 else 1e20
        return nn.functional.l1_loss(self.net(x), y) * scale


@fault("gradients-zeroed-by-clipping", by="GradientClippingMonitor")
def every_fifth_norm_overflows(mended: bool) -> Program:
    """The gradients are finite, their squares are not."""
    return Program(Astronomic(mended), batches(*diabetes()), trainer={"max_epochs": 2, "gradient_clip_val": 5.0})


@fault("gradients-zeroed-by-clipping", by="GradientClippingMonitor")
def a_norm_overflows_in_a_manual_step(mended: bool) -> Program:
    """The same, clipped by hand."""

    class Net(Astronomic):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            clip_grad_norm_(self.parameters(), 5.0)
            optimizer.step()

    return Program(Net(mended), batches(*diabetes()), trainer={"max_epochs": 2})


# --- optimizer-mode ------------------------------------------------------------------------------------------------


class Averaging(torch.optim.SGD):
    """Trains one point and means another, as schedule-free optimizers do; their groups know the mode."""

    def __init__(self, params: Any, lr: float, train_mode: bool) -> None:
        super().__init__(params, lr=lr)
        for group in self.param_groups:
            group["train_mode"] = train_mode

    def train(self) -> None:
        self._set(True)

    def eval(self) -> None:
        self._set(False)

    def _set(self, mode: bool) -> None:
        for group in self.param_groups:
            group["train_mode"] = mode


class ScheduleFree(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)

    def switch(self, mode: bool) -> None:
        optimizer = self.optimizers().optimizer
        optimizer.train() if mode else optimizer.eval()


@fault("optimizer-mode")
def schedule_free_validated_in_train_mode(mended: bool) -> Program:
    class Net(ScheduleFree):
        def configure_optimizers(self) -> Any:
            return Averaging(self.parameters(), 0.1, train_mode=True)

        def on_validation_model_eval(self) -> None:
            super().on_validation_model_eval()
            if self.mended:
                self.switch(False)

        def on_validation_model_train(self) -> None:
            super().on_validation_model_train()
            self.switch(True)

    x, y = digits(576)
    return Program(Net(mended), batches(x[64:], y[64:]), batches(x[:64], y[:64]), trainer={"max_epochs": 2})


@fault("optimizer-mode")
def schedule_free_that_is_never_put_into_train_mode(mended: bool) -> Program:
    class Net(ScheduleFree):
        def configure_optimizers(self) -> Any:
            return Averaging(self.parameters(), 0.1, train_mode=False)

        def on_train_epoch_start(self) -> None:
            if self.mended:
                self.switch(True)

        def on_train_end(self) -> None:
            self.switch(False)

    return program(Net(mended))


# --- weights-not-loaded --------------------------------------------------------------------------------------------


class Pretrained(Classifier):
    """Takes over weights in ``setup``; what they are called is ``prefix`` and the name in the model."""

    def __init__(self, mended: bool, prefix: str) -> None:
        super().__init__(mended)
        self.prefix = prefix

    def setup(self, stage: str) -> None:
        state = {self.prefix * (not self.mended) + name: p.detach().clone() for name, p in self.named_parameters()}
        self.load_state_dict(state, strict=False)


@fault("weights-not-loaded")
def names_of_a_wrapped_model(mended: bool) -> Program:
    """Weights saved from a model that DataParallel had wrapped."""
    return program(Pretrained(mended, "module."))


@fault("weights-not-loaded", "net")
def the_whole_model_into_one_part(mended: bool) -> Program:
    """The names begin with the part that they are loaded into."""

    class Net(Classifier):
        def on_fit_start(self) -> None:
            state = {f"net.{name}" * (not self.mended) or name: p.clone() for name, p in self.net.named_parameters()}
            self.net.load_state_dict(state, strict=False)

    return program(Net(mended))


@fault("weights-not-loaded")
def a_checkpoint_of_another_layout(mended: bool) -> Program:
    """``strict_loading`` was switched off once, and the checkpoint's layers have other names."""

    class Renamed(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.strict_loading = False
            self.other = self.net
            del self.net

        def forward(self, x: Tensor) -> Tensor:
            return self.other(x)

    made = program(Classifier(mended) if mended else Renamed(mended))
    made.ckpt_path = lambda folder: trained(Classifier(mended), batches(*digits()), folder)
    return made


# --- learning-rate-restored ----------------------------------------------------------------------------------------


@fault("learning-rate-restored")
def another_rate_after_a_resume(mended: bool) -> Program:
    """The rate was lowered in the program, the resume takes the old one."""
    made = program(Classifier(mended, rate=1e-3 if mended else 1e-4))
    made.ckpt_path = lambda folder: trained(Classifier(mended, rate=1e-3), batches(*digits()), folder)
    return made


@fault("learning-rate-restored")
def another_rate_after_a_resume_and_its_remedy(mended: bool) -> Program:
    """The remedy that the finding tells: set it again when the fit starts."""

    class Net(Classifier):
        def on_train_start(self) -> None:
            for group in self.optimizers().param_groups:
                group["lr"] = self.rate if mended else group["lr"]

    made = program(Net(mended, rate=1e-4))
    made.ckpt_path = lambda folder: trained(Classifier(mended, rate=1e-3), batches(*digits()), folder)
    return made


@fault("learning-rate-restored")
def another_rate_under_a_schedule(mended: bool) -> Program:
    """The schedule that is restored begins from the old rate, too."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.rate)
            return [optimizer], [CosineAnnealingLR(optimizer, 4)]

    made = program(Net(mended, rate=0.1 if mended else 0.03))
    made.ckpt_path = lambda folder: trained(Net(mended, rate=0.1), batches(*digits()), folder)
    return made


# --- frozen-after-resume -------------------------------------------------------------------------------------------


@fault("frozen-after-resume")
def a_backbone_that_was_thawed_before_the_resume(mended: bool) -> Program:
    """`BackboneFinetuning` freezes it when the run is set up, and thaws it in one epoch alone, which is over."""

    class Net(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended, mlp(32, 32, 10), rate=1e-2)
            self.backbone = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.net(self.backbone(x))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=self.rate)

        def on_train_start(self) -> None:
            if self.mended and self.current_epoch > 1:
                BackboneFinetuning.make_trainable(self.backbone)

    def earlier(folder: Path) -> Path:
        return trained(Net(mended), batches(*digits()), folder, epochs=2, callbacks=[thawing()])

    def thawing() -> BackboneFinetuning:
        return BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False)

    made = program(Net(mended), max_epochs=4)
    made.callbacks, made.ckpt_path = [thawing()], earlier
    return made


# --- no-training-step ----------------------------------------------------------------------------------------------


@fault("no-training-step")
def a_checkpoint_with_all_its_epochs(mended: bool) -> Program:
    """``max_epochs`` counts from the first run's begin."""
    made = program(Classifier(mended), max_epochs=2 if mended else 1)
    made.ckpt_path = lambda folder: trained(Classifier(mended), batches(*digits()), folder)
    return made


@fault("no-training-step")
def a_batch_larger_than_the_data(mended: bool) -> Program:
    """``drop_last`` leaves nothing."""
    loader = batches(*digits(64), size=32 if mended else 128, drop_last=True)
    return Program(Classifier(mended), loader, trainer={"max_epochs": 2})


# --- learning-rate-schedule, known before the first step -----------------------------------------------------------


@fault("learning-rate-schedule", at_step=0)
def a_warm_up_longer_than_the_run(mended: bool) -> Program:
    """Four hundred steps to the full rate, as in a run of another size."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            steps = 16 if self.mended else 400
            warm = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / steps))
            return [optimizer], [{"scheduler": warm, "interval": "step"}]

    return program(Net(mended))


@fault("learning-rate-schedule", at_step=0)
def a_warm_up_of_another_unit(mended: bool) -> Program:
    """Thirty epochs of warm-up before the decay, in a run of four: meant were steps."""

    class Net(Classifier):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
            phases = [LinearLR(optimizer, 0.01, total_iters=30), CosineAnnealingLR(optimizer, 100)]
            both = SequentialLR(optimizer, phases, milestones=[30])
            return [optimizer], [{"scheduler": both, "interval": "step" if self.mended else "epoch"}]

    return program(Net(mended))
