"""A classifier stays at the share of the largest class; loss and accuracy are flat from the first epoch on.

Source: https://stackoverflow.com/questions/47866803 (features and labels do not belong together).
Added: 2026-11-28. Rules changed because of it: none.
"""

import pandas as pd
import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

DIAGNOSES = ("no-better-than-trivial", "labels-unrelated-to-inputs")
PLACE = None
PRESET = "thorough"


class Scans(Dataset):
    def __init__(self, mended, seed):
        digits = load_digits()
        pixels = pd.DataFrame(digits.data / 16, columns=[f"p{k}" for k in range(64)])
        pixels["scan"] = range(len(pixels))
        labels = pd.DataFrame({"scan": range(len(pixels)), "even": (digits.target % 3 == 0).astype(int)})
        labels = labels.sample(frac=1, random_state=seed)  # the file is in no order
        if mended:
            table = pixels.merge(labels, on="scan")
        else:
            table = pixels.assign(even=labels["even"].to_numpy())  # by position, not by scan
        self.x = torch.tensor(table.filter(regex="^p").to_numpy(), dtype=torch.float32)
        self.y = torch.tensor(table["even"].to_numpy())

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], self.y[index]


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        self.log_dict(
            {"val_loss": F.cross_entropy(logits, batch[1]), "acc": (logits.argmax(1) == batch[1]).float().mean()}
        )

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.1)


def main(mended, seed):
    seed_everything(seed)
    train, val = random_split(Scans(mended, seed), [1300, 497])
    trainer = Trainer(max_epochs=6, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Net(), DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=100))
