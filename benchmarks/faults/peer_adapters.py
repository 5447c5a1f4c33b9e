"""Each peer with its documented use, by a thin adapter; what it says of severity warning or above is printed.

Those that watch a run watch it beside each other. A peer that fails says nothing from there on.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

TOLD = "peer says: "
FAILED = "peer failed: "


def tell(peer: str, what: Any) -> None:
    """Print what a peer says."""
    print(f"{TOLD}{peer}: {' '.join(str(what).split())[:200]}", flush=True)


def loss_of(outputs: Any) -> float | None:
    """Return the loss that a training step gave, if it gave one."""
    loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
    return float(loss) if isinstance(loss, torch.Tensor) and loss.numel() == 1 else None


class Watching(Callback):
    """Calls one peer; ``fails`` keeps it from ending the run."""

    name = ""

    def __init__(self) -> None:
        self.steps, self.has_failed, self.is_over = 0, False, False

    def __init_subclass__(cls) -> None:
        for hook in ("on_train_start", "on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end"):
            if hook in vars(cls):
                setattr(cls, hook, cls.guarded(vars(cls)[hook]))

    @staticmethod
    def guarded(hook: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(hook)
        def call(self: Watching, *args: Any, **kwargs: Any) -> None:
            if self.has_failed:
                return
            try:
                hook(self, *args, **kwargs)
            except Exception as error:
                self.has_failed = True
                print(f"{FAILED}{self.name}: {error!r}", flush=True)

        return call

    def conclude(self) -> None:
        """Tell what the whole run shows."""

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if not self.is_over:
            self.is_over = True
            self.guarded(type(self).conclude)(self)

    def on_exception(self, trainer: Trainer, module: LightningModule, error: BaseException) -> None:
        self.on_train_end(trainer, module)


class Mortem(Watching):
    """``torchmortem.Autopsy(model, optimizer)``, ``step(loss=...)``, findings of its report."""

    name = "torchmortem"

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        from torchmortem import Autopsy

        self.autopsy = Autopsy(module, optimizer=trainer.optimizers[0])
        self.autopsy.attach()

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.autopsy.step(loss=loss_of(outputs))

    def conclude(self) -> None:
        self.autopsy.detach()
        for finding in self.autopsy.get_report().findings:
            if finding.severity >= 1:
                tell(self.name, finding.title)


class Snitch(Watching):
    """``gradsnitch.watch(model, optimizer)``, ``log`` between backward and step, ``report`` at the end."""

    name = "gradsnitch"

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        import gradsnitch

        self.monitor, self.loss = gradsnitch.watch(module, trainer.optimizers[0]), None

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Any) -> None:
        self.loss = loss.detach()

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        if self.loss is not None and self.loss.numel() == 1:
            self.steps += 1
            self.monitor.log(self.steps, float(self.loss), val_loss=validated(trainer))

    def conclude(self) -> None:
        for finding in self.monitor.report():
            tell(self.name, finding)


class Medic(Watching):
    """``runmedic diagnose`` of a table of loss, gradient norm and rate."""

    name = "runmedic"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.norm = float("nan")

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Any) -> None:
        norms = [p.grad.norm() for p in module.parameters() if p.grad is not None]
        self.norm = float(torch.stack(norms).norm()) if norms else float("nan")

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        row = {"step": self.steps, "train_loss": loss_of(outputs), "grad_norm": self.norm}
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else None
        self.rows.append({**row, "learning_rate": rate, "val_loss": validated(trainer)})

    def conclude(self) -> None:
        from runmedic.cli import main

        with Path("metrics.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(self.rows[0]))
            table.writeheader()
            table.writerows(self.rows)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main(["diagnose", "metrics.csv", "--json"])
        for run in json.loads(printed.getvalue()):
            for finding in run["findings"]:
                if finding["severity"] != "info":
                    tell(self.name, finding["title"])


class Scope(Watching):
    """``PytscopeCallback`` and ``pytscope analyze``: what it says of the course of training, not of speed or memory."""

    name = "pytscope"

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        from pytscope.integrations.lightning import PytscopeCallback

        self.callback = PytscopeCallback("pytscope-run")
        self.callback.on_train_start(trainer, module)

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.callback.on_train_batch_start(trainer, module, batch, batch_idx)

    def on_before_backward(self, trainer: Trainer, module: LightningModule, loss: Any) -> None:
        self.callback.on_before_backward(trainer, module, loss)

    def on_after_backward(self, trainer: Trainer, module: LightningModule) -> None:
        self.callback.on_after_backward(trainer, module)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.callback.on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def conclude(self) -> None:
        from pytscope.cli import main

        self.callback.profiler.finish()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            main(["analyze", "pytscope-run"])
        for finding in re.findall(r"\[(?:HIGH|MED)\].*\((?:CONVERGENCE|CROSS)\.\w+\)", printed.getvalue()):
            tell(self.name, finding)


class Vigil(Watching):
    """``BendexMonitor(model).observe(step)`` before each forward pass, without its interventions."""

    name = "arc-vigil"

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        from arc_vigil import BendexConfig, BendexMonitor

        self.monitor = BendexMonitor(module, config=BendexConfig())

    def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        if event := self.monitor.observe(self.steps):
            tell(self.name, event)
        self.steps += 1


class Finite(EarlyStopping):
    """``EarlyStopping(check_finite=True)`` on the training loss, which is logged for it: its best chance."""

    def __init__(self) -> None:
        super().__init__("peer_loss", check_finite=True, patience=10**9, strict=False, check_on_train_epoch_end=True)

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (loss := loss_of(outputs)) is not None:
            module.log("peer_loss", loss, on_step=False, on_epoch=True)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.stopping_reason_message and "not finite" in self.stopping_reason_message:
            tell("EarlyStopping(check_finite=True)", self.stopping_reason_message)


def validated(trainer: Trainer) -> float | None:
    """Return the validation loss that the program logged last, if it logs one."""
    names = [name for name in trainer.callback_metrics if "val" in name and "loss" in name]
    return float(trainer.callback_metrics[names[0]]) if names else None


def check_before(module: LightningModule, loader: Any) -> None:
    """Ask those that look at one batch before training, on copies of the module."""
    with torch.random.fork_rng():
        batch = next(iter(loader))
        inputs, targets = batch if isinstance(batch, list | tuple) and len(batch) == 2 else (batch, None)
        for name, ask in (("torchtest2", torchtest), ("guardtower", guardtower)):
            try:
                ask(name, copy.deepcopy(module), batch, inputs, targets)
            except Exception as error:
                print(f"{FAILED}{name}: {error!r}", flush=True)


def torchtest(name: str, module: LightningModule, batch: Any, inputs: Any, targets: Any) -> None:
    """``torchtest2.check_model(module, x, y, plugin="lightning")``: what failed."""
    from torchtest2 import check_model
    from torchtest2.plugins.lightning import LightningPlugin

    plugin = LightningPlugin(None if targets is not None else lambda x, y: x)
    for failure in check_model(module, inputs, targets, plugin=plugin).failures:
        if "missing the required" not in str(failure):  # evaluation calls a forward that not every module has
            tell(name, failure)


def guardtower(name: str, module: Any, batch: Any, inputs: Any, targets: Any) -> None:
    """``guardtower.audit(model, step, optimizer=..., inputs=...)``: errors and warnings."""
    from guardtower import audit
    from torchtest2.plugins import _first_optimizer

    given = inputs if isinstance(inputs, torch.Tensor) else None
    optimizer = _first_optimizer(module.configure_optimizers())
    report = audit(module, lambda: module.training_step(batch, 0), optimizer=optimizer, inputs=given)
    for finding in (*report.errors, *report.warnings):
        tell(name, finding.message)


def watch(given: dict[str, Any]) -> None:
    """Add all that watch a run to the arguments of a ``Trainer``."""
    own = given.get("callbacks") or []
    watching = [Mortem(), Snitch(), Medic(), Scope(), Vigil(), Finite()]
    given["callbacks"] = [*(own if isinstance(own, list) else [own]), *watching]


def install(group: str) -> None:
    """Add the peers of a group to every ``Trainer`` that this process builds."""
    bare, fit = Trainer.__init__, Trainer.fit

    @functools.wraps(bare)
    def init(self: Any, *args: Any, **given: Any) -> None:
        if group == "anomaly":
            given.setdefault("detect_anomaly", True)
        else:
            watch(given)
        bare(self, *args, **given)

    @functools.wraps(fit)
    def fit_checked(self: Any, model: Any, train_dataloaders: Any = None, *args: Any, **given: Any) -> Any:
        if group != "anomaly" and train_dataloaders is not None:
            check_before(model, train_dataloaders)
        return fit(self, model, train_dataloaders, *args, **given)

    Trainer.__init__, Trainer.fit = init, fit_checked
