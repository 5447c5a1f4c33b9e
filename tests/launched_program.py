"""A user's script on two processes that Lightning starts itself: ``launched_program.py STRATEGY FOLDER FIT ...``.

Each FIT is one of `FITS`, in a folder of its own; what a rank saw of it is left there as ``rank-R.json``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ExactResume, NestedCheckpoint, debugkit
from lightning_debugkit.checkpoints import Best, Latest

TRAIN, VALIDATION, BATCH = 467, 41, 4  # 234 and 233 samples, and 21 and 20: the sampler repeats one of each
PATIENCE = timedelta(seconds=60)  # to join, a process imports everything: not in 20 s on a busy machine
FITS = ("bare", "healthy", "resumed", "softmax", "nan", "raises")


class Net(pl.LightningModule):
    """A classifier; ``fault`` names what is wrong with it."""

    def __init__(self, fault: str, folder: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fault, self.folder = fault, folder
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        x, y = batch
        on_one = self.global_rank == 1 and batch_idx == 20
        if self.fault == "raises" and on_one and self.current_epoch == 1:
            raise KeyError("a sample without a label")
        scores = self.net(x * torch.inf if self.fault == "nan" and on_one else x)
        scores = scores.softmax(1) if self.fault == "softmax" else scores
        return {"loss": torch.nn.functional.cross_entropy(scores, y), "logits": scores, "target": y}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        x, y = batch
        scores = self.net(x)
        loss = torch.nn.functional.cross_entropy(scores, y)
        self.log("val_loss", loss, sync_dist=True)
        return {"loss": loss, "logits": scores, "target": y}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def on_fit_end(self) -> None:
        """Tell of this rank, as the process that started the others knows nothing of them under ``ddp_spawn``."""
        weights = [value.tolist() for value in self.state_dict().values()]
        steps = self.trainer.global_step
        told = json.dumps({"steps": steps, "weights": weights})
        Path(self.folder, f"rank-{self.global_rank}.json").write_text(told)


class Given:
    """A function of the user's: what it was given, by the rank that was given it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, finding: Any) -> None:
        with Path(self.folder, f"given-{os.environ.get('LOCAL_RANK', '0')}.txt").open("a") as file:
            file.write(f"{finding.rule}\n")


def loader(count: int, seed: int) -> DataLoader[Any]:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(x, (3 * x[:, :3]).argmax(1)), BATCH, shuffle=seed == 0)


def fit(strategy: str, root: Path, name: str) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    keeps = NestedCheckpoint(root / "checkpoints" / name, rules=[Best("val_loss"), Latest(every_n_steps=30)])
    kit = [*debugkit("thorough", loggers="all", on_finding=Given(str(folder))), ExactResume(), keeps]
    if name in {"softmax", "nan"}:
        kit = debugkit("thorough", loggers="all", on_finding=Given(str(folder)), action="warn")
    starts = {"ddp": "popen", "ddp_spawn": "spawn"}[strategy]
    trainer = pl.Trainer(
        max_epochs=1 if name in {"healthy", "softmax", "nan"} else 2,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(start_method=starts, process_group_backend="gloo", timeout=PATIENCE),
        callbacks=[] if name == "bare" else kit,
        logger=CSVLogger(folder, name="", version=""),
        default_root_dir=folder,
        enable_checkpointing=name != "bare",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    kept = root / "checkpoints" / "healthy" / "last.ckpt"
    try:
        trainer.fit(
            Net(name, str(folder)),
            loader(TRAIN, 0),
            loader(VALIDATION, 1),
            ckpt_path=kept if name == "resumed" else None,
        )
    except BaseException as error:
        Path(folder, f"raised-{os.environ.get('LOCAL_RANK', '0')}.txt").write_text(type(error).__name__)
        raise


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    pl.seed_everything(7, verbose=False)
    for each in sys.argv[3:]:
        fit(sys.argv[1], Path(sys.argv[2]), each)
