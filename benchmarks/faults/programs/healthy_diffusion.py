"""A denoising diffusion model on two moons: time and noise are drawn in the step, in validation, too.

Source: https://arxiv.org/abs/2006.11239
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class DDPM(LightningModule):
    def __init__(self, steps: int = 100) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("alpha_bar", torch.cumprod(1 - torch.linspace(1e-4, 0.05, steps), 0))
        self.time = nn.Embedding(steps, 32)
        self.inputs, self.out = (
            nn.Linear(2, 96),
            nn.Sequential(nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2)),
        )
        self.mix = nn.Linear(32, 96)

    def step(self, x):
        t = torch.randint(self.steps, (len(x),), device=x.device)
        noise = torch.randn_like(x)
        a = self.alpha_bar[t][:, None]
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        return F.mse_loss(self.out(self.inputs(noisy) + self.mix(self.time(t))), noise)

    def training_step(self, x, batch_idx):
        return self.step(x)

    def validation_step(self, x, batch_idx):
        self.log("val_loss", self.step(x))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x = torch.tensor(make_moons(4500, noise=0.05, random_state=seed)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(DDPM(), DataLoader(x[:4000], 64, shuffle=True), DataLoader(x[4000:], 250))
