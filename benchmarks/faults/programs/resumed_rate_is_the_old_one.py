"""Loss is stuck, so the run is resumed with a rate ten times smaller; nothing changes.

Source: https://github.com/pytorch/examples/issues/816 (a resume overrides the rate that is asked for).
Added: 2026-11-28. Rules changed because of it: learning-rate-restored (a rate that is set again).
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("learning-rate-restored",)
PLACE = "0.002"
PRESET = "standard"


class Surface(LightningModule):
    def __init__(self, rate, mended):
        super().__init__()
        self.rate, self.mended = rate, mended
        self.net = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.rate)

    def on_train_start(self):
        if self.mended:
            for group in self.optimizers().param_groups:
                group["lr"] = self.rate


def main(mended, seed):
    seed_everything(seed)
    x = torch.rand(800, 2) * 4 - 2
    data = TensorDataset(x, torch.sin(2 * x[:, 0]) * x[:, 1])
    options = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    first = Trainer(max_epochs=3, **options)
    first.fit(Surface(0.02, mended), DataLoader(data, batch_size=40, shuffle=True))
    first.save_checkpoint("first.ckpt")
    second = Trainer(max_epochs=6, **options)
    second.fit(Surface(0.002, mended), DataLoader(data, batch_size=40, shuffle=True), ckpt_path="first.ckpt")
