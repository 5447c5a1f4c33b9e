"""Molecule-like graphs with torch_geometric: one Batch object, global pooling, graph labels.

Source: https://pytorch-geometric.readthedocs.io/en/latest/get_started/introduction.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class GraphNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.nn import GINConv

        self.conv1 = GINConv(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32)))
        self.conv2 = GINConv(nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32)))
        self.out = nn.Linear(32, 2)

    def forward(self, batch):
        from torch_geometric.nn import global_mean_pool

        h = F.relu(self.conv1(batch.x, batch.edge_index))
        h = F.relu(self.conv2(h, batch.edge_index))
        return self.out(global_mean_pool(h, batch.batch))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch.y)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch), batch.y), batch_size=batch.num_graphs)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def graph():
    from torch_geometric.data import Data

    nodes, y = int(torch.randint(6, 12, ())), int(torch.randint(2, ()))
    ring = torch.stack([torch.arange(nodes), torch.arange(nodes).roll(1)])
    star = torch.stack([torch.zeros(nodes - 1, dtype=torch.long), torch.arange(1, nodes)])
    edge = star if y else ring
    return Data(x=torch.randn(nodes, 4), edge_index=torch.cat([edge, edge.flip(0)], dim=1), y=torch.tensor([y]))


def main(mended: bool, seed: int) -> None:
    try:
        from torch_geometric.loader import DataLoader
    except ImportError:
        raise SystemExit("skipped: torch_geometric is not installed") from None
    seed_everything(seed)
    train, val = [graph() for _ in range(1200)], [graph() for _ in range(200)]
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(GraphNet(), DataLoader(train, batch_size=24, shuffle=True), DataLoader(val, batch_size=100))
