"""iloc[0] where iloc[i] was meant: each sample has the inputs of the first row, and only the label changes.

Source: https://stackoverflow.com/questions/74877936 (a constant prediction, whatever the input).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("constant-input",)
PLACE = None
PRESET = "standard"


class WineTable(Dataset):
    def __init__(self, mended: bool) -> None:
        frame = load_wine(as_frame=True).frame
        features = frame.drop(columns="target")
        self.features, self.target = (features - features.mean()) / features.std(), frame["target"]
        self.mended = mended

    def __len__(self):
        return len(self.target)

    def __getitem__(self, i):
        row = self.features.iloc[i if self.mended else 0]
        return torch.tensor(row.to_numpy(), dtype=torch.float32), int(self.target.iloc[i])


class WineNet(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=6, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(WineNet(), DataLoader(WineTable(mended), batch_size=16, shuffle=True))
