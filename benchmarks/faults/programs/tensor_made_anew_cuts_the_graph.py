"""The encoder of a graph network never changes: the messages are collected with ``torch.tensor(...)``.

Source: https://stackoverflow.com/questions/75161255 (parameters of a GNN are not updated: a cut graph).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("no-gradient",)
PLACE = "encode"
PRESET = "standard"


class Rings(LightningModule):
    """Six nodes in a ring, each hears its neighbours."""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.encode, self.update = nn.Linear(3, 16), nn.Linear(32, 16)
        self.readout = nn.Linear(16, 1)

    def forward(self, nodes):
        hidden = torch.relu(self.encode(nodes))
        heard = hidden.roll(1, 1) + hidden.roll(-1, 1)
        both = torch.cat([hidden, heard], -1)
        if not self.mended:
            both = torch.tensor(both.tolist())
        return self.readout(torch.relu(self.update(both)).sum(1)).squeeze(-1)

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    nodes = torch.randn(600, 6, 3)
    energy = (nodes * nodes.roll(1, 1)).sum((1, 2)) / 4
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Rings(mended), DataLoader(TensorDataset(nodes, energy), batch_size=30, shuffle=True))
