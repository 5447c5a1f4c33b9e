"""pandas sorted the texts, the labels kept their order: the validation loss of a review classifier never falls.

Source: https://stackoverflow.com/questions/41864333 and https://github.com/keras-team/keras/issues/14416 (labels in
another order than their inputs).
Added: 2026-11-28. Rules changed because of it: none.
Missed: neighbours are sought by distances between numbers, which numbers of words do not have.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

DIAGNOSES = ("labels-unrelated-to-inputs",)
PLACE = None
PRESET = "thorough"


class Reviews(Dataset):
    def __init__(self, mended: bool) -> None:
        label = torch.randint(2, (2400,))
        words = torch.randint(100, (2400, 10))
        words[:, :6] = torch.randint(25, (2400, 6)) + 25 * label[:, None]
        table = pd.DataFrame({"text": [tuple(row) for row in words.tolist()], "label": label.tolist()})
        by_text = table.sort_values("text").reset_index(drop=True)
        if not mended:
            by_text["label"] = table["label"]
        self.table = by_text

    def __len__(self):
        return len(self.table)

    def __getitem__(self, i):
        row = self.table.iloc[i]
        return torch.tensor(row["text"]), int(row["label"])


class Sentiment(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.EmbeddingBag(100, 24), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        score = self.net(batch[0])
        self.log_dict(
            {"val_loss": F.cross_entropy(score, batch[1]), "val_acc": (score.argmax(1) == batch[1]).float().mean()}
        )

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train, val = random_split(Reviews(mended), [2000, 400])
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Sentiment(), DataLoader(train, 40, shuffle=True), DataLoader(val, 100))
