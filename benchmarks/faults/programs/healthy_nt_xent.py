"""SimCLR on digits: two noisy views, NT-Xent over the batch, so that each output depends on the others by design.

Source: https://arxiv.org/abs/2002.05709
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def nt_xent(a: torch.Tensor, b: torch.Tensor, temperature: float = 0.2) -> torch.Tensor:
    z = F.normalize(torch.cat([a, b]), dim=1)
    similarity = (z @ z.T) / temperature
    similarity = similarity.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(a))
    return F.cross_entropy(similarity, partner)


class SimCLR(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(864, 64)
        )
        self.projector = nn.Sequential(nn.ReLU(), nn.Linear(64, 32))

    def view(self, image):
        noise = 0.15 * torch.randn_like(image)
        row, column = torch.randint(-1, 2, (2,)).tolist()
        return image.roll((row, column), dims=(2, 3)) + noise

    def training_step(self, image, batch_idx):
        loss = nt_xent(*(self.projector(self.encoder(self.view(image))) for _ in range(2)))
        self.log("nt_xent", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    image = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    loader = DataLoader(list(image), batch_size=64, shuffle=True, drop_last=True)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SimCLR(), loader)
