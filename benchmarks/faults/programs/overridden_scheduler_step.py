"""A warm-up of one's own class notes the rate and forgets to change it: training stays at the rate of the first step.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/3869 ("my scheduler doesn't call .step()").
Added: 2026-11-28. Rules changed because of it: scheduler-never-stepped (classes that are not torch's).
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("scheduler-never-stepped", "learning-rate-schedule")
PLACE = "lr_scheduler_step"
PRESET = "standard"


class WarmUp:
    """Not a torch scheduler: linear over ``steps``."""

    def __init__(self, optimizer, steps):
        self.optimizer, self.steps, self.count = optimizer, steps, 0
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.apply()

    def apply(self):
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * min(1.0, (self.count + 1) / self.steps)

    def step(self):
        self.count += 1
        self.apply()

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class Tabular(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended, self.rates = mended, []
        self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 3))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def lr_scheduler_step(self, scheduler, metric):
        if self.mended:
            scheduler.step()
        self.rates.append(scheduler.optimizer.param_groups[0]["lr"])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)
        return [optimizer], [{"scheduler": WarmUp(optimizer, 40), "interval": "step"}]


def main(mended, seed):
    seed_everything(seed)
    x, y = make_classification(1200, 16, n_informative=8, n_classes=3, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=5, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Tabular(mended), DataLoader(data, batch_size=40, shuffle=True))
