"""Wine: the test loss that goes into the paper is 0.6, the validation loss of the same model is 0.05.

Source: https://github.com/bowang-lab/Transformer-GCN-QA/pull/32 (an extra softmax before CrossEntropyLoss).
Added: 2026-11-28. Rules changed because of it: double-softmax (test steps are listened to).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_in_test.py:58"
PRESET = "standard"


class WineData(LightningDataModule):
    def setup(self, stage: str) -> None:
        x, y = load_wine(return_X_y=True)
        x = StandardScaler().fit_transform(x)
        everything = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
        split = torch.Generator().manual_seed(3)
        self.train, self.val, self.test = random_split(everything, [110, 34, 34], generator=split)

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=34)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=34)


class WineModel(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(13, 32), nn.SiLU(), nn.Linear(32, 3))

    def forward(self, x):
        return self.net(x)

    def predict(self, x):
        return self(x).softmax(-1)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch, batch_idx):
        output = self(batch[0]) if self.mended else self.predict(batch[0])
        self.log("test_loss", F.cross_entropy(output, batch[1]))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    model, data = WineModel(mended), WineData()
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
