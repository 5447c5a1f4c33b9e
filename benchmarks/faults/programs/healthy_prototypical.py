"""Few-shot episodes: a batch is one task of 4 classes with 3 shots; queries are compared with the means of the support.

Source: https://arxiv.org/abs/1703.05175
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


class Episodes(IterableDataset):
    def __init__(self, classes: list[int], count: int) -> None:
        digits = load_digits()
        x = torch.tensor(digits.data / 8 - 1, dtype=torch.float32)
        self.of_class = [x[torch.tensor(digits.target) == c] for c in classes]
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        for _ in range(self.count):
            chosen = torch.randperm(len(self.of_class))[:4].tolist()
            picked = torch.stack([self.of_class[c][torch.randperm(len(self.of_class[c]))[:8]] for c in chosen])
            yield {
                "support": picked[:, :3],
                "query": picked[:, 3:].flatten(0, 1),
                "label": torch.arange(4).repeat_interleave(5),
            }


class ProtoNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def scores(self, batch):
        prototype = self.net(batch["support"]).mean(1)
        return -(torch.cdist(self.net(batch["query"]), prototype) ** 2)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.scores(batch), batch["label"])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self.scores(batch).argmax(1) == batch["label"]).float().mean(), batch_size=20)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train, val = Episodes([0, 1, 2, 3, 4, 5], 200), Episodes([6, 7, 8, 9], 20)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ProtoNet(), DataLoader(train, batch_size=None), DataLoader(val, batch_size=None))
