"""A GAN for points on a ring, manual optimisation with two optimisers.

Source: https://lightning.ai/docs/pytorch/stable/model/manual_optimization.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class GAN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(
            nn.Linear(4, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 2)
        )
        self.critic = nn.Sequential(
            nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1)
        )

    def training_step(self, real, batch_idx):
        g_opt, d_opt = self.optimizers()
        z = torch.randn(len(real), 4, device=self.device)
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)

        self.toggle_optimizer(d_opt)
        fake = self.generator(z).detach()
        d_loss = F.binary_cross_entropy_with_logits(self.critic(real), ones)
        d_loss = (d_loss + F.binary_cross_entropy_with_logits(self.critic(fake), zeros)) / 2
        d_opt.zero_grad()
        self.manual_backward(d_loss)
        d_opt.step()
        self.untoggle_optimizer(d_opt)

        self.toggle_optimizer(g_opt)
        g_loss = F.binary_cross_entropy_with_logits(self.critic(self.generator(z)), ones)
        g_opt.zero_grad()
        self.manual_backward(g_loss)
        g_opt.step()
        self.untoggle_optimizer(g_opt)
        self.log_dict({"g": g_loss, "d": d_loss})

    def configure_optimizers(self):
        return [torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.9)) for m in (self.generator, self.critic)]


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    angle = torch.rand(3000, 1) * 6.2832
    ring = torch.cat([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(3000, 2)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(GAN(), DataLoader(ring, 50, shuffle=True))
