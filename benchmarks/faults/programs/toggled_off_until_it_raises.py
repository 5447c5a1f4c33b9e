"""A GAN that toggles both optimizers stops in the second batch: "element 0 of tensors does not require grad".

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/7405 (``toggle_optimizer`` without its counterpart).
Added: 2026-11-28. Rules changed because of it: toggle-without-untoggle (where it raises).
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("toggle-without-untoggle",)
PLACE = "toggle"
PRESET = "standard"


class RingGAN(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.automatic_optimization = False
        self.mended = mended
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.LeakyReLU(0.2), nn.Linear(32, 2))
        self.critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        (real,) = batch
        generate, judge = self.optimizers()
        self.toggle_optimizer(generate)
        fake = self.generator(torch.randn(len(real), 4))
        wanted = F.softplus(-self.critic(fake)).mean()
        generate.zero_grad()
        self.manual_backward(wanted)
        generate.step()
        self.untoggle_optimizer(generate)

        self.toggle_optimizer(judge)
        loss = F.softplus(-self.critic(real)).mean() + F.softplus(self.critic(fake.detach())).mean()
        judge.zero_grad()
        self.manual_backward(loss)
        judge.step()
        if self.mended:
            self.untoggle_optimizer(judge)
        self.log_dict({"g": wanted, "d": loss})

    def configure_optimizers(self):
        rates = {"lr": 1e-3, "betas": (0.5, 0.9)}
        return [torch.optim.Adam(part.parameters(), **rates) for part in (self.generator, self.critic)], []


def main(mended, seed):
    seed_everything(seed)
    angle = torch.rand(1000) * 6.283
    real = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(1000, 2)
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(RingGAN(mended), DataLoader(TensorDataset(real), batch_size=50, shuffle=True))
