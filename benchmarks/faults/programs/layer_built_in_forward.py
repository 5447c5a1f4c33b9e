"""The output layer is created where it is used: the loss trembles around ln 3 and no checkpoint can be reloaded.

Source: https://github.com/wangyida/softpool/issues/11 (layers created in forward).
Added: 2026-11-28. Rules changed because of it: unregistered-parameter (its place).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("stochastic-eval", "unregistered-parameter")
PLACE = "layer_built_in_forward.py:28"
PRESET = "standard"


class PointNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(3, 32, 1), nn.ReLU(), nn.Conv1d(32, 48, 1))
        self.out = nn.Linear(48, 3) if mended else None

    def forward(self, points):
        x = self.local(points).max(dim=2).values
        if self.out is not None:
            return self.out(x)
        head = nn.Linear(x.size(-1), 3).to(x.device)
        return head(x)

    def training_step(self, batch, batch_idx):
        points, shape = batch
        loss = F.cross_entropy(self(points), shape)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    shape = torch.randint(3, (1500,))
    points = F.normalize(torch.randn(1500, 3, 40), dim=1)
    points[:, 2] *= torch.tensor([1.0, 0.3, 0.0])[shape][:, None]
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(PointNet(mended), DataLoader(TensorDataset(points, shape), batch_size=25, shuffle=True))
