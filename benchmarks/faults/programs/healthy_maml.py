"""First-order meta-learning of sine waves: the inner steps run in the training step, manual optimisation.

Source: https://arxiv.org/abs/1703.03400
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class SineTasks(Dataset):
    def __init__(self, size: int) -> None:
        self.amplitude, self.phase = torch.rand(size) * 2 + 0.5, torch.rand(size) * 3
        self.x = torch.rand(size, 20, 1) * 4 - 2
        self.y = self.amplitude[:, None, None] * (self.x + self.phase[:, None, None]).sin()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"support": (self.x[i, :10], self.y[i, :10]), "query": (self.x[i, 10:], self.y[i, 10:])}


class MAML(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = 0
        for i in range(len(batch["query"][0])):
            weights = dict(self.net.named_parameters())
            x, y = (v[i] for v in batch["support"])
            inner = F.mse_loss(functional_call(self.net, weights, x), y)
            slopes = torch.autograd.grad(inner, list(weights.values()), create_graph=True)
            weights = {n: w - 0.05 * g for (n, w), g in zip(weights.items(), slopes, strict=True)}
            x, y = (v[i] for v in batch["query"])
            loss = loss + F.mse_loss(functional_call(self.net, weights, x), y)
        loss = loss / len(batch["query"][0])
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("query_loss", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MAML(), DataLoader(SineTasks(240), batch_size=4, shuffle=True))
