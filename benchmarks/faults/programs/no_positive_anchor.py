"""A detector's box loss is NaN as soon as a batch holds no object.

Source: https://github.com/WongKinYiu/yolov9/pull/662 (mean over an empty selection of targets).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-loss",)
PLACE = "[hit]"
PRESET = "standard"


class TinyDetector(LightningModule):
    """Finds one bright square in a 16 x 16 image, where there is one."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.SiLU()
        )
        self.objectness, self.box = nn.Linear(256, 1), nn.Linear(256, 2)

    def training_step(self, batch, batch_idx):
        image, present, centre = batch
        code = self.body(image).flatten(1)
        hit = present > 0
        found = F.binary_cross_entropy_with_logits(self.objectness(code).squeeze(1), present)
        error = F.smooth_l1_loss(self.box(code)[hit], centre[hit], reduction="sum" if self.mended else "mean")
        loss = found + (error / hit.sum().clamp_min(1) / 2 if self.mended else error)
        self.log_dict({"found": found, "loss": loss})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    image = 0.1 * torch.randn(600, 1, 16, 16)
    present = (torch.rand(600) < 0.3).float()
    place = torch.randint(0, 13, (600, 2))
    for picture, there, (row, column) in zip(image, present, place.tolist(), strict=True):
        if there:
            picture[0, row : row + 3, column : column + 3] += 1
    data = TensorDataset(image, present, place / 6.0 - 1)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(TinyDetector(mended), DataLoader(data, batch_size=6, shuffle=True))
