"""A backbone, pretrained on other digits, is frozen and in eval mode; only a new head learns.

Source: https://lightning.ai/docs/pytorch/stable/advanced/finetuning.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def pretrain(x: torch.Tensor, y: torch.Tensor) -> nn.Sequential:
    """A bare loop, as in another script: learn the digits 0 to 4."""
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten())
    head = nn.Linear(144, 5)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(40):
        picked = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        F.cross_entropy(head(net(x[picked])), y[picked]).backward()
        optimizer.step()
    return net


class FineTuned(LightningModule):
    def __init__(self, backbone: nn.Sequential) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.head = nn.Linear(144, 5)

    def on_train_epoch_start(self):
        self.backbone.eval()

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.head(self.backbone(batch[0])), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    digits = load_digits()
    x = (torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16 - 0.3) / 0.37
    y = torch.tensor(digits.target)
    low = y < 5
    backbone = pretrain(x[low], y[low])
    x, y = x[~low], y[~low] - 5
    order = torch.randperm(len(x))
    train, val = (TensorDataset(x[part], y[part]) for part in (order[:700], order[700:]))
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(FineTuned(backbone), DataLoader(train, 28, shuffle=True), DataLoader(val, 100))
