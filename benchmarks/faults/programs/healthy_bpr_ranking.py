"""Recommendations by Bayesian personalised ranking: pairs of items, softplus of the difference.

Source: https://arxiv.org/abs/1205.2618
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Clicks(Dataset):
    def __init__(self, users: int = 150, items: int = 400) -> None:
        self.items = items
        taste = torch.randint(8, (users,))
        self.user = torch.randint(users, (4000,))
        self.item = (torch.randint(items // 8, (4000,)) * 8 + taste[self.user]) % items

    def __len__(self):
        return len(self.user)

    def __getitem__(self, i):
        return {"user": self.user[i], "liked": self.item[i], "other": torch.randint(self.items, ())}


class BPR(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.user, self.item, self.bias = nn.Embedding(150, 16), nn.Embedding(400, 16), nn.Embedding(400, 1)
        for table in (self.user, self.item):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def score(self, user, item):
        return (self.user(user) * self.item(item)).sum(1) + self.bias(item).squeeze(1)

    def training_step(self, batch, batch_idx):
        better = self.score(batch["user"], batch["liked"]) - self.score(batch["user"], batch["other"])
        return F.softplus(-better).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(BPR(), DataLoader(Clicks(), 64, shuffle=True))
