"""What the kit costs in each training step, beside the alternatives, in one process and in turn.

    python benchmarks/overhead.py [--rounds 15] [--steps 12] [--models transformer cnn]

Each round fits every variant for some steps, in an order that is shuffled anew; the time of a step is the median of its
steps after a warm-up. A ratio is that of a variant to the bare run of the same round; printed are the median of the
ratios and their quartiles. Two runs of the bare program, too, are compared: that is the noise.
"""

from __future__ import annotations

import argparse
import logging
import random
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import GradientAnomalyDetector, debugkit
from lightning_debugkit.callbacks.base import DebugCallback


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


class Clock(pl.Callback):
    """Time between the ends of batches, as the user feels it."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def step(self) -> float:
        ends = self.ends[self.warm_up :]
        return median(after - before for before, after in pairwise(ends))


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
    "GradientAnomalyDetector(hooks='always')": lambda: ([GradientAnomalyDetector(hooks="always")], {}),
    "Trainer(detect_anomaly=True)": lambda: ([], {"detect_anomaly": True}),
    "full backward hooks with isfinite": lambda: ([FullBackwardHooks()], {}),
}


def seconds(model: str, variant: str, steps: int, warm_up: int) -> float:
    """Return the median time of a step in the steady state."""
    torch.manual_seed(0)
    callbacks, options = VARIANTS[variant]()
    clock = Clock(warm_up)
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
        trainer.fit(Program(Transformer() if model == "transformer" else cnn()), data(model, warm_up + steps + 1))
    return clock.step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--warm-up", type=int, default=13, help="steps not counted: the first ten are looked at closely"
    )
    parser.add_argument("--models", nargs="+", default=["transformer", "cnn"])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    DebugCallback._render = lambda self, run: None  # type: ignore[method-assign]  # at the end of fit, not in a step

    for model in options.models:
        times: dict[str, list[float]] = {variant: [] for variant in options.variants}
        for _ in range(options.rounds):
            for variant in random.sample(options.variants, len(options.variants)):
                times[variant].append(seconds(model, variant, options.steps, options.warm_up))
        bare = times["nothing"]
        print(f"\n{model}: {median(bare) * 1000:.1f} ms a step, {torch.get_num_threads()} threads")
        print(f"| {'':40} | ratio | quartiles |\n|{'-' * 42}|------:|-----------|")
        for variant in options.variants[1:]:
            ratios = [mine / theirs for mine, theirs in zip(times[variant], bare, strict=True)]
            low, _, high = quantiles(ratios, n=4)
            print(f"| {variant:40} | {median(ratios):.3f} | {low:.3f} - {high:.3f} |", flush=True)


if __name__ == "__main__":
    main()
