"""With ``detect_anomaly=True`` the run ends with "PowBackward0 returned nan values", which names no sample.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/20708 (which module and sample made the NaN?).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-gradient",)
PLACE = "** 0.5"
PRESET = "standard"


class Distance(LightningModule):
    """Fits progression by the distance to learned prototypes."""

    def __init__(self, mended):
        super().__init__()
        self.slack = 1e-8 if mended else 0.0
        self.prototypes = nn.Parameter(torch.zeros(5, 10))
        with torch.no_grad():
            self.prototypes[1:] = torch.randn(4, 10) * 0.05
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        squared = ((x[:, None] - self.prototypes) ** 2).sum(-1)
        return self.head((squared + self.slack) ** 0.5).squeeze(-1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    x, y = (torch.tensor(part, dtype=torch.float32) for part in load_diabetes(return_X_y=True))
    x[19] = 0  # a patient of whom nothing is known
    loader = DataLoader(TensorDataset(x, (y - y.mean()) / y.std()), batch_size=64)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", detect_anomaly=True, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(Distance(mended), loader)
