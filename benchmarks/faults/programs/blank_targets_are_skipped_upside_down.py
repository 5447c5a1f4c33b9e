"""Images without a target should be skipped; the test is the wrong way round and nearly all are.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/3536 (None for blank targets).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-loss",)
PLACE = "None"
PRESET = "standard"


class Lesions(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))

    def training_step(self, batch, batch_idx):
        scan, lesion = batch
        blank = lesion.flatten(1).sum(1) == 0
        if blank.all() if self.mended else not blank.all():
            return None
        loss = F.binary_cross_entropy_with_logits(self.net(scan), lesion)
        self.log("bce", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    lesion = torch.zeros(300, 1, 12, 12)
    ill = torch.rand(300) < 0.6
    lesion[ill, :, 4:8, 3:7] = 1
    scan = torch.randn(300, 1, 12, 12) * 0.4 + lesion
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Lesions(mended), DataLoader(TensorDataset(scan, lesion), batch_size=3, shuffle=True))
