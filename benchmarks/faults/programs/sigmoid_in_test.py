"""The loss that goes into the report is 0.6 for every model, however good: it comes from test_step alone.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/18272 (sigmoid, then binary_cross_entropy_with_logits).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale
from torch import nn
from torch.utils.data import DataLoader, random_split

DIAGNOSES = ("double-sigmoid",)
PLACE = "sigmoid_in_test.py:34"
PRESET = "standard"


class Tumour(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(30, 24), nn.GELU(), nn.Linear(24, 1), nn.Flatten(0))
        self.loss = nn.BCEWithLogitsLoss()

    def training_step(self, batch, batch_idx):
        return self.loss(self.net(batch["x"]), batch["y"])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(self.net(batch["x"]), batch["y"]))

    def test_step(self, batch, batch_idx):
        score = self.net(batch["x"])
        test_loss = self.loss(score if self.mended else score.sigmoid(), batch["y"])
        self.log_dict({"test_loss": test_loss, "test_acc": ((score > 0) == (batch["y"] > 0.5)).float().mean()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = load_breast_cancer(return_X_y=True)
    x, y = torch.tensor(scale(x), dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    rows = [{"x": a, "y": b} for a, b in zip(x, y, strict=True)]
    train, val, test = random_split(rows, [400, 85, 84])
    model = Tumour(mended)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, DataLoader(train, 25, shuffle=True), DataLoader(val, 85))
    trainer.test(model, DataLoader(test, 84), verbose=False)
