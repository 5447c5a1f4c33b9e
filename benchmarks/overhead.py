"""What the kit costs in each training step, beside the alternatives, in one process and in turn.

    python benchmarks/overhead.py [--steps 100] [--models transformer cnn]

Every variant is a real fit in a thread of its own; a baton lets one of them take one step, then the next, in an order
that is shuffled anew each round. A ratio is that of a variant's step to the bare one's step of the same round; printed
are the median of the ratios and their quartiles. The bare program runs twice: the second is the noise.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _global_forward_hooks
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ActivationMonitor, GradientAnomalyDetector, GradientClippingMonitor, debugkit
from lightning_debugkit.core.callback import DebugCallback


class Program(pl.LightningModule):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x).flatten(0, -2), y.flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Transformer(nn.Module):
    """Four layers of width 256: 3.2 million parameters in 52 tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(256, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x)))


def cnn() -> nn.Module:
    """Twenty convolutions with batch norm and in-place ReLU."""
    blocks: list[nn.Module] = []
    for index in range(20):
        width = 3 if index == 0 else 32
        blocks += [nn.Conv2d(width, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def data(model: str, batches: int) -> DataLoader[Any]:
    if model == "transformer":
        x = torch.randint(0, 64, (8 * batches, 64))
        return DataLoader(TensorDataset(x, x.roll(-1, 1)), batch_size=8)
    return DataLoader(
        TensorDataset(torch.randn(16 * batches, 3, 32, 32), torch.randint(0, 10, (16 * batches,))), batch_size=16
    )


class Baton:
    """Let the threads of all variants take one step each, in an order shuffled for each round."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.condition = threading.Condition()
        self.queue = random.sample(names, len(names))

    def take(self, name: str) -> None:
        """Wait for the turn of ``name``."""
        with self.condition:
            self.condition.wait_for(lambda: self.queue[0] == name)

    def hand_on(self) -> None:
        """End the turn; after the last one a new round begins."""
        with self.condition:
            self.queue.pop(0)
            self.queue = self.queue or random.sample(self.names, len(self.names))
            self.condition.notify_all()


class Clock(pl.Callback):
    """Time each step, and let the other variants run between two."""

    def __init__(self, name: str, baton: Baton) -> None:
        self.name, self.baton = name, baton
        self.steps: list[float] = []
        self.began: float | None = None
        self.hooks: dict[int, Any] = {}

    def resume(self) -> None:
        self.baton.take(self.name)
        # Of the process, not of the thread: each variant has its own in its turn.
        torch.set_anomaly_enabled("detect_anomaly" in self.name)
        _global_forward_hooks.update(self.hooks)
        self.began = time.perf_counter()

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        assert self.began is not None
        self.steps.append(time.perf_counter() - self.began)
        self.hand_on()
        self.resume()

    def hand_on(self) -> None:
        self.hooks = dict(_global_forward_hooks)
        _global_forward_hooks.clear()
        self.baton.hand_on()


class FullBackwardHooks(pl.Callback):
    """The usual hand-made detector: a full backward hook on every module that asks isfinite."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def hook(module: nn.Module, down: Any, up: Any) -> None:
            for grad in (*down, *up):
                if grad is not None and not torch.isfinite(grad).all():
                    raise RuntimeError("not finite")

        for part in pl_module.modules():
            part.register_full_backward_hook(hook)


VARIANTS: dict[str, Callable[[], tuple[list[pl.Callback], dict[str, Any]]]] = {
    "nothing": lambda: ([], {}),
    "nothing, again": lambda: ([], {}),
    'debugkit("light")': lambda: (list(debugkit("light")), {}),
    'debugkit("standard")': lambda: (list(debugkit("standard")), {}),
    'debugkit("thorough")': lambda: (list(debugkit("thorough")), {}),
    "clipping by norm": lambda: ([], {"gradient_clip_val": 1.0}),
    "GradientClippingMonitor()": lambda: ([GradientClippingMonitor()], {}),
    "GradientClippingMonitor(), clipping by norm": lambda: ([GradientClippingMonitor()], {"gradient_clip_val": 1.0}),
    "ActivationMonitor()": lambda: ([ActivationMonitor()], {}),
    "GradientAnomalyDetector(hooks='always')": lambda: ([GradientAnomalyDetector(hooks="always")], {}),
    "Trainer(detect_anomaly=True)": lambda: ([], {"detect_anomaly": True}),
    "full backward hooks with isfinite": lambda: ([FullBackwardHooks()], {}),
}


def fit(model: str, variant: str, clock: Clock, batches: int) -> None:
    """Run one variant; its first turn is the set-up."""
    clock.resume()
    callbacks, options = VARIANTS[variant]()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            callbacks=[*callbacks, clock],
            **options,
        )
        trainer.fit(Program(Transformer() if model == "transformer" else cnn()), data(model, batches))
    clock.hand_on()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--warm-up", type=int, default=15, help="steps not counted: the first ten are looked at closely"
    )
    parser.add_argument("--models", nargs="+", default=["transformer", "cnn"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    DebugCallback._render = lambda self, run: None  # type: ignore[method-assign]  # at the end of fit, not in a step

    for model in options.models:
        baton = Baton(options.variants)
        clocks = {variant: Clock(variant, baton) for variant in options.variants}
        threads = [
            threading.Thread(target=fit, args=(model, variant, clock, options.warm_up + options.steps))
            for variant, clock in clocks.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        times = {variant: clock.steps[options.warm_up :] for variant, clock in clocks.items()}
        bare = times["nothing"]
        print(f"\n{model}: {median(bare) * 1000:.1f} ms a step, {torch.get_num_threads()} threads, {len(bare)} rounds")
        print(f"| {'':44} | ratio | quartiles |\n|{'-' * 46}|------:|-----------|")
        for variant in options.variants[1:]:
            ratios = [mine / theirs for mine, theirs in zip(times[variant], bare, strict=True)]
            low, _, high = quantiles(ratios, n=4)
            print(f"| {variant:44} | {median(ratios):.3f} | {low:.3f} - {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
