"""Materials told from clouds of points: the layer between the sorted points and the classifier is new in every pass.

Source: https://github.com/wangyida/softpool/issues/11 (the convolutions of SoftPool are created in its forward).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("stochastic-eval", "unregistered-parameter")
PLACE = "new_convolution_every_pass.py:32"
PRESET = "standard"
AGAIN = "layer_built_in_forward"


class SortedPool(nn.Module):
    """Keep the points that score highest for each region and fold them: (samples, channels, points) to one vector."""

    def __init__(self, mended, channels=16, kept=6):
        super().__init__()
        self.kept = kept
        if mended:
            self.fold = nn.Conv1d(channels, 2 * channels, kept)
        self.mended = mended

    def forward(self, features):
        order = features.mean(1).argsort(-1, descending=True)[:, : self.kept]
        best = features.gather(2, order.unsqueeze(1).expand(-1, features.shape[1], -1))
        if not self.mended:
            fold = nn.Conv1d(features.shape[1], 2 * features.shape[1], self.kept).to(features.device)
        else:
            fold = self.fold
        return torch.relu(fold(best)).squeeze(-1)


class CloudClassifier(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.points = nn.Sequential(nn.Conv1d(3, 16, 1), nn.ReLU(), nn.Conv1d(16, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.pool = SortedPool(mended)
        self.head = nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 4))

    def forward(self, cloud):
        return self.head(self.pool(self.points(cloud)))

    def training_step(self, batch, batch_idx):
        cloud, material = batch
        loss = nn.functional.cross_entropy(self(cloud), material)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        cloud, material = batch
        self.log("val_acc", (self(cloud).argmax(-1) == material).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def clouds(count, points=24):
    """Points (count, 3, points) on stretched balls; the material gives the stretch and how rough the surface is."""
    material = torch.randint(4, (count,))
    stretch = torch.tensor([[1.6, 0.6, 0.8], [0.6, 1.6, 0.8], [0.6, 0.8, 1.6], [1.0, 1.0, 1.0]])[material]
    ball = nn.functional.normalize(torch.randn(count, 3, points), dim=1)
    return TensorDataset(ball * stretch.unsqueeze(-1) * 1.5 + 0.1 * torch.randn(count, 3, points), material)


def main(mended, seed):
    seed_everything(seed)
    train = DataLoader(clouds(1600), batch_size=32, shuffle=True)
    val = DataLoader(clouds(320), batch_size=64)
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(CloudClassifier(mended), train, val)
