"""A careful author asserts that the loss is finite; the assertion fails after some steps and says no more.

Source: https://github.com/JJBOY/BMN-Boundary-Matching-Network/issues/22 (a ratio in the loss without any positive).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss",)
PLACE = "positives"
PRESET = "standard"


class Boundary(LightningModule):
    """Marks the frames at which an action begins; the loss weighs frames by how rare they are."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Conv1d(6, 24, 5, padding=2), nn.ReLU(), nn.Conv1d(24, 1, 5, padding=2))

    def training_step(self, batch, batch_idx):
        frames, begins = batch
        logits = self.net(frames).squeeze(1)
        positives = begins.sum()
        if self.mended:
            positives = positives.clamp_min(1)
        ratio = begins.numel() / positives
        weight = torch.where(begins > 0, 0.5 * ratio, 0.5 * ratio / (ratio - 1))
        loss = (weight * F.binary_cross_entropy_with_logits(logits, begins, reduction="none")).mean()
        assert torch.isfinite(loss), f"loss is {loss} in batch {batch_idx}"
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    begins = torch.zeros(200, 30)
    busy = torch.rand(200) < 0.6
    begins[busy, torch.randint(0, 30, (200,))[busy]] = 1
    frames = torch.randn(200, 6, 30) * 0.5
    frames[:, 2] += begins.cumsum(1) * 1.5
    loader = DataLoader(TensorDataset(frames, begins), batch_size=4, shuffle=True)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Boundary(mended), loader)
