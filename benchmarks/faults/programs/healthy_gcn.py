"""A graph convolution over one whole graph, a mask tells which nodes train: the neighbours matter by design.

Source: https://arxiv.org/abs/1609.02907
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def cora_like(seed: int, nodes: int = 300):
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (nodes,), generator=generator)
    x = torch.randn(nodes, 16, generator=generator) + F.one_hot(label, 16)
    p = torch.where(label[:, None] == label[None], 0.06, 0.005)
    a = (torch.rand(nodes, nodes, generator=generator) < p).float().triu(1)
    a = a + a.T + torch.eye(nodes)
    degree = a.sum(1).rsqrt()
    train = torch.rand(nodes, generator=generator) < 0.3
    return {"x": x, "adjacency": degree[:, None] * a * degree, "label": label, "train_mask": train}


class GCN(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, g):
        h = F.relu(g["adjacency"] @ self.w1(g["x"]))
        return g["adjacency"] @ self.w2(F.dropout(h, 0.3, self.training))

    def training_step(self, g, batch_idx):
        return F.cross_entropy(self(g)[g["train_mask"]], g["label"][g["train_mask"]])

    def validation_step(self, g, batch_idx):
        right = self(g).argmax(1) == g["label"]
        self.log("val_acc", right[~g["train_mask"]].float().mean(), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    graph = cora_like(seed)
    trainer = Trainer(
        max_epochs=60, log_every_n_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(GCN(), DataLoader([graph], batch_size=None), DataLoader([graph], batch_size=None))
