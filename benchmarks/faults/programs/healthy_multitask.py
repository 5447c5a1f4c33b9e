"""Two tasks in alternation: even batches train the regression head, odd ones the classification head.

Source: https://arxiv.org/abs/1706.05098 (alternate training of tasks)
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class TwoTasks(Dataset):
    def __init__(self, size: int) -> None:
        self.x = torch.randn(size, 10)
        self.height = (self.x[:, 0] * self.x[:, 1]).tanh()
        self.kind = (self.x[:, 2] + self.x[:, 3].abs()).ge(0.6).long()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "height": self.height[i], "kind": self.kind[i]}


class MultiTask(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.height, self.kind = nn.Linear(32, 1), nn.Linear(32, 2)

    def training_step(self, batch, batch_idx):
        h = self.body(batch["x"])
        if batch_idx % 2 == 0:
            return F.mse_loss(self.height(h).squeeze(1), batch["height"])
        return F.cross_entropy(self.kind(h), batch["kind"])

    def validation_step(self, batch, batch_idx):
        h = self.body(batch["x"])
        self.log("val_mse", F.mse_loss(self.height(h).squeeze(1), batch["height"]))
        self.log("val_acc", (self.kind(h).argmax(1) == batch["kind"]).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MultiTask(), DataLoader(TwoTasks(2000), 32, shuffle=True), DataLoader(TwoTasks(300), 100))
