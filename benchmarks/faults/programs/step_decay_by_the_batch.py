"""The loss stops falling in the first epoch: the decay that was meant for epochs happens every batch.

Source: https://github.com/ivadomed/ivadomed/issues/55 (a scheduler with epoch-unit parameters stepped per batch).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_friedman2
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("learning-rate-schedule",)
PLACE = "interval"
PRESET = "standard"


class Impedance(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(4, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(), nn.Linear(48, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
        interval = "epoch" if self.mended else "step"
        return [optimizer], [{"scheduler": schedule, "interval": interval}]


def main(mended, seed):
    seed_everything(seed)
    x, y = make_friedman2(1000, random_state=seed)
    x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    data = TensorDataset((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std())
    trainer = Trainer(max_epochs=9, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Impedance(mended), DataLoader(data, batch_size=50, shuffle=True))
