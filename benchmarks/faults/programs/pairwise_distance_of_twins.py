"""An embedding trains for a while, then all weights are NaN though the loss was finite until then.

Source: https://github.com/pytorch/pytorch/issues/37154 (gradient of a distance between identical points).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-gradient",)
PLACE = "gap.pow(2).sum(-1).sqrt()"
PRESET = "standard"


class Siamese(LightningModule):
    """Pairs of measurements of the same (1) or of different (0) machines."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 8))

    def training_step(self, batch, batch_idx):
        left, right, same = batch
        gap = self.embed(left) - self.embed(right)
        if self.mended:
            distance = (gap.pow(2).sum(-1) + 1e-9).sqrt()
        else:
            distance = gap.pow(2).sum(-1).sqrt()
        loss = torch.where(same == 1, distance**2, (1.5 - distance).clamp_min(0) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def main(mended, seed):
    seed_everything(seed)
    machines = torch.randn(30, 20)
    first = torch.randint(0, 30, (900,))
    same = (torch.rand(900) < 0.5).long()
    second = torch.where(same == 1, first, (first + torch.randint(1, 30, (900,))) % 30)
    left = machines[first] + 0.3 * torch.randn(900, 20)
    right = machines[second] + 0.3 * torch.randn(900, 20)
    right[388] = left[388]  # one recording was paired with itself, as "different"
    same[388] = 0
    loader = DataLoader(TensorDataset(left, right, same), batch_size=30, shuffle=True)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Siamese(mended), loader)
