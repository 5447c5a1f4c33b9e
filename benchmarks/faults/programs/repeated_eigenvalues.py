"""A layer that uses eigenvectors of a covariance gives NaN gradients for isotropic clouds.

Source: https://github.com/pytorch/pytorch/issues/47599 (eigenvectors of a degenerate matrix have no gradient).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("nonfinite-gradient",)
PLACE = "eigh"
PRESET = "standard"


class Axes(LightningModule):
    """Predicts the longest axis of a point cloud after a learned map of its points."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.weigh = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1), nn.Sigmoid())

    def training_step(self, batch, batch_idx):
        cloud, axis = batch
        moved = cloud * self.weigh(cloud)
        covariance = moved.mT @ moved / cloud.shape[1]
        if self.mended:
            covariance = covariance + torch.diag(torch.tensor([0.0, 1e-3, 2e-3]))
        vectors = torch.linalg.eigh(covariance).eigenvectors
        loss = (1 - (vectors[:, :, -1] * axis).sum(-1).square()).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    axis = nn.functional.normalize(torch.randn(300, 3), dim=1)
    cloud = 0.3 * torch.randn(300, 40, 3) + torch.randn(300, 40, 1) * axis[:, None]
    cloud[77] = 0  # a scan that failed
    loader = DataLoader(TensorDataset(cloud, axis), batch_size=20, shuffle=True)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Axes(mended), loader)
