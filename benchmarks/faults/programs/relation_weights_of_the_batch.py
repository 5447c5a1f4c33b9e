"""Flows between four basins: the weights of the kinds of pipe come out of a softmax over the samples.

Source: https://github.com/ethanfetaya/NRI/issues/25 (my_softmax normalises along the batch instead of the classes).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "relation_weights_of_the_batch.py:39"
PRESET = "standard"
AGAIN = "softmax_over_batch"

BASINS = 4
PAIRS = [(i, j) for i in range(BASINS) for j in range(BASINS) if i != j]


class RelationalNet(LightningModule):
    def __init__(self, mended, kinds=3):
        super().__init__()
        self.mended = mended
        self.register_buffer("send", torch.tensor([i for i, _ in PAIRS]))
        self.register_buffer("receive", torch.tensor([j for _, j in PAIRS]))
        self.encode = nn.Sequential(nn.Linear(8, 32), nn.ELU(), nn.Linear(32, kinds))
        self.messages = nn.ModuleList(nn.Sequential(nn.Linear(8, 24), nn.SiLU()) for _ in range(kinds))
        self.update = nn.Sequential(nn.Linear(4 + 24, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, basins):
        pairs = torch.cat([basins[:, self.send], basins[:, self.receive]], dim=-1)
        logits = self.encode(pairs)
        if self.mended:
            weights = logits.softmax(-1)
        else:
            # one distribution for each pair of basins
            weights = logits.softmax(0)
        messages = sum(weights[..., k, None] * net(pairs) for k, net in enumerate(self.messages))
        gathered = torch.zeros(*basins.shape[:2], 24, device=basins.device).index_add(1, self.receive, messages)
        return self.update(torch.cat([basins, gathered], dim=-1)).squeeze(-1)

    def training_step(self, batch, batch_idx):
        basins, change = batch
        loss = F.mse_loss(self(basins), change)
        self.log("train_mse", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        basins, change = batch
        self.log("val_mse", F.mse_loss(self(basins), change), batch_size=len(basins))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def flows(count):
    basins = torch.randn(count, BASINS, 4)
    level, gate = basins[..., 0], basins[..., 1]
    difference = level[:, None, :] - level[:, :, None]
    is_open = (gate[:, None, :] * gate[:, :, None] > 0).float()
    change = (is_open * difference).sum(-1) / 2 + 0.3 * basins[..., 2]
    return TensorDataset(basins, change + 0.05 * torch.randn_like(change))


def main(mended, seed):
    seed_everything(seed)
    train = DataLoader(flows(2400), batch_size=48, shuffle=True)
    val = DataLoader(flows(300), batch_size=10)
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(RelationalNet(mended), train, val)
