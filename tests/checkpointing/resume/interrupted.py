"""Programs that draw random numbers everywhere, and one way to interrupt and resume them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import ExactResume, Finding


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Every sample is changed at random, by the generators named."""

    def __init__(self, n: int = 24, draws: tuple[str, ...] = ("python", "numpy", "torch")) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(n, 4, generator=generator)
        self.draws = draws
        self.own = torch.Generator().manual_seed(5)
        self.rng = np.random.default_rng(6)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.zeros(4)
        if "python" in self.draws:
            noise = noise + random.gauss(0, 0.1)
        if "numpy" in self.draws:
            noise = noise + torch.from_numpy(np.random.normal(0, 0.1, 4)).float()
        if "torch" in self.draws:
            noise = noise + 0.1 * torch.randn(4)
        if "own" in self.draws:
            noise = noise + 0.1 * torch.randn(4, generator=self.own) + float(self.rng.normal(0, 0.1))
        return self.x[index] + noise, self.x[index].sum(0, keepdim=True)


class Net(pl.LightningModule):
    """Dropout, Adam, a schedule, and a validation that draws, too."""

    def __init__(self, dropout: float = 0.3, plateau: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 1))
        self.plateau = plateau

    def loss(self, batch: Any) -> Tensor:
        batch = batch() if callable(batch) else batch
        return (self.net(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch) + 0.1 * torch.randn(()))

    def configure_optimizers(self) -> Any:
        adam = torch.optim.AdamW(self.parameters(), lr=1e-2)
        if self.plateau:
            waits = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, patience=0, factor=0.5, threshold=1.0)
            return {"optimizer": adam, "lr_scheduler": {"scheduler": waits, "monitor": "val_loss"}}
        return [adam], [torch.optim.lr_scheduler.StepLR(adam, 1, gamma=0.9)]


class Two(Net):
    """Two optimizers, stepped by hand, with noise from a generator of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.own = torch.Generator().manual_seed(8)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch) * (1 + 0.1 * torch.randn((), generator=self.own)))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        first, last = self.net[0].parameters(), self.net[3].parameters()
        return [torch.optim.Adam(first, lr=1e-2), torch.optim.SGD(last, lr=1e-2, momentum=0.9)]


class Save(pl.callbacks.Checkpoint):
    """Save ``<point>.ckpt`` at each of these points: a hook, and the batches trained so far, as ``on_train_end-12``."""

    def __init__(self, folder: Path, *points: str) -> None:
        self.folder = folder
        for hook in {point.rpartition("-")[0] for point in points}:
            setattr(self, hook, self._saver(hook, points))

    def _saver(self, hook: str, points: tuple[str, ...]) -> Any:
        def save(trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
            point = f"{hook}-{trainer.fit_loop.total_batch_idx + 1}"
            if point in points and not trainer.sanity_checking:
                trainer.save_checkpoint(self.folder / f"{point}.ckpt")

        return save


def loader(workers: int = 0, shuffle: bool = True, n: int = 24, size: int = 4, **options: Any) -> DataLoader[Any]:
    draws = options.pop("draws", ("python", "numpy", "torch"))
    return DataLoader(Noisy(n, draws), batch_size=size, shuffle=shuffle, num_workers=workers, **options)


def train(
    folder: Path, module: Any, make: Any = loader, val: Any = None, seed: int = 1, callbacks: Any = (), **options: Any
) -> pl.LightningModule:
    """Fit three epochs of a new program, and return the module."""
    pl.seed_everything(seed, verbose=False)
    net = module()
    ckpt_path = options.pop("ckpt_path", None)
    saves = any(isinstance(callback, pl.callbacks.Checkpoint) for callback in callbacks)
    options = {**QUIET, "max_epochs": 3, "enable_checkpointing": saves, **options}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options)
    trainer.fit(net, make(), None if val is None else val(), ckpt_path=ckpt_path)
    return net


def whole(folder: Path, points: list[str], module: Any = Net, **program: Any) -> pl.LightningModule:
    """The run that is never interrupted; it leaves its checkpoints in ``folder``."""
    module = train(folder / "whole", module, callbacks=[ExactResume(), Save(folder, *points)], **program)
    assert sorted(file.stem for file in folder.glob("*.ckpt")) == sorted(points)
    assert told(folder / "whole") == []
    return module


def resumed(folder: Path, point: str, module: Any = Net, **program: Any) -> pl.LightningModule:
    """The run that goes on from there with another seed."""
    program = {"seed": 99, "callbacks": [ExactResume()], **program}
    return train(folder / point, module, ckpt_path=folder / f"{point}.ckpt", **program)


def told(folder: Path) -> list[Finding]:
    """What `ExactResume` said of a run in which the kit itself did not stumble."""
    return [finding for finding in journal(folder).findings if finding.rule == "resume-not-exact"]


def causes(folder: Path) -> list[str]:
    return [name for finding in told(folder) for name in finding.evidence["names"]]


def same(one: pl.LightningModule, other: pl.LightningModule) -> bool:
    """Whether all weights and buffers are the same to the bit."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
