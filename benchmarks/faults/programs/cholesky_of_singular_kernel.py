"""A deep kernel model ends with "the input is not positive-definite" after some batches.

Source: https://github.com/cornellius-gp/gpytorch/pull/2336 (kernels that are not positive definite).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("step-raised",)
PLACE = "torch.linalg.cholesky"
PRESET = "standard"


class DeepKernel(LightningModule):
    """Each sample is a small regression task of its own: 6 points and their values."""

    def __init__(self, mended):
        super().__init__()
        self.jitter = 1e-3 if mended else 0.0
        self.features = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 4))

    def training_step(self, batch, batch_idx):
        points, values = batch
        code = self.features(points)
        gap = (code[:, :, None] - code[:, None]).square().sum(-1)
        kernel = torch.exp(-5 * gap) + self.jitter * torch.eye(6)
        factor = torch.linalg.cholesky(kernel)
        white = torch.linalg.solve_triangular(factor, values[..., None], upper=False).squeeze(-1)
        loss = (0.5 * white.square().sum(1) + factor.diagonal(dim1=1, dim2=2).log().sum(1)).mean()
        self.log("nll", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-4)


def main(mended, seed):
    seed_everything(seed)
    grid = torch.tensor([[a, b] for a in (-3.0, 0.0, 3.0) for b in (-2.0, 2.0)])
    points = grid + 0.3 * torch.randn(240, 6, 2)
    points[59, 4] = points[59, 1]  # the same place measured twice
    values = torch.sin(points[..., 0]) + 0.1 * torch.randn(240, 6)
    loader = DataLoader(TensorDataset(points, values), batch_size=12, shuffle=True)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(DeepKernel(mended), loader)
