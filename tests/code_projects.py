"""A project of a user, in two versions, and programs that train and load it in processes of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import git
import warm_process

KIT = Path(__file__).resolve().parents[1]

MODEL = '''
"""A regressor."""
from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

import shapes.settings
from shapes.layers import *
from .settings import Settings


class Net(pl.LightningModule):
    def __init__(self, settings: Settings, width: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.body = Block(4, width)
        self.head = torch.nn.Linear(width, 1)

    def forward(self, x):
        from shapes.late import squash

        return squash(self.head(self.body(x))) * self.hparams.settings.scale + shapes.settings.offset()

    def training_step(self, batch, batch_idx):
        loss = (self(batch[0]) - batch[1]).square().mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", (self(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def train_dataloader(self):
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 16)

    val_dataloader = train_dataloader
'''
LAYERS = """
import torch

__all__ = ["Block"]


class Block(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.linear = torch.nn.Linear(inputs, outputs)

    def forward(self, x):
        return torch.relu(self.linear(x))
"""
SETTINGS = """
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Settings:
    scale: float = 2.0


def offset():
    return float(Path(__file__).with_name("offset.txt").read_text())
"""
TRAIN = """
import sys
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_debugkit import CodeSnapshot
from shapes.model import Net
from shapes.settings import Settings

if __name__ == "__main__":
    pl.seed_everything(1)
    saver = ModelCheckpoint(sys.argv[1], filename="best", monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=2, logger=False, default_root_dir=sys.argv[1], accelerator="cpu", enable_progress_bar=False,
        callbacks=[saver, CodeSnapshot(note=" ".join(sys.argv[2:]))],
    )
    trainer.fit(Net(Settings()))
"""
OUTPUTS = """
import torch

def outputs(model):
    model.eval()
    with torch.no_grad():
        return model(torch.linspace(-1, 1, 20).reshape(5, 4))
"""
V1 = {
    "shapes/__init__.py": "",
    "shapes/model.py": MODEL,
    "shapes/layers.py": LAYERS,
    "shapes/settings.py": SETTINGS,
    "shapes/late.py": "import torch\n\n\ndef squash(x):\n    return torch.tanh(x)\n",
    "shapes/offset.txt": "0.25",
    "train.py": TRAIN,
    "README.md": "# Shapes\n",
}
# A layer is renamed, a default changed, a module moved to another file, and what is imported late squashes otherwise.
V2 = {
    **{name: text for name, text in V1.items() if name != "shapes/layers.py"},
    "shapes/blocks.py": LAYERS.replace("torch.relu", "torch.sigmoid"),
    "shapes/model.py": MODEL.replace("shapes.layers", "shapes.blocks").replace("self.head", "self.top"),
    "shapes/settings.py": SETTINGS.replace("scale: float = 2.0", "scale: float = 3.0"),
    "shapes/late.py": "import torch\n\n\ndef squash(x):\n    return torch.sigmoid(x)\n",
    "shapes/offset.txt": "0.75",
}


def write(root: Path, files: dict[str, str]) -> None:
    """Make the project's files exactly these."""
    for path in [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]:
        path.unlink()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def commit(root: Path, message: str) -> str:
    """Commit everything; the first time, make the repository."""
    repository = git.Repo(root) if (root / ".git").exists() else git.Repo.init(root, initial_branch="main")
    with repository:
        with repository.config_writer() as config:
            config.set_value("user", "name", "A User").set_value("user", "email", "user@example.org")
        repository.git.add("-A")
        repository.git.commit("-q", "-m", message)
        return str(repository.head.commit.hexsha)


def python(*arguments: Any, cwd: Path, path: Path | None = None, status: int = 0) -> str:
    """Run Python in a process of its own, and return what it prints."""
    roots = os.pathsep.join(map(str, filter(None, (path, KIT))))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {
        "PYTHONPATH": roots,
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(cwd.parent),
    }
    done = subprocess.run(
        [warm_process.python(), "-W", "ignore", *map(str, arguments)], cwd=cwd, env=environment, capture_output=True,
        text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def kit(*arguments: Any, cwd: Path, status: int = 0) -> str:
    """Run the kit's command line."""
    return python("-m", "lightning_debugkit", *arguments, cwd=cwd, status=status)
