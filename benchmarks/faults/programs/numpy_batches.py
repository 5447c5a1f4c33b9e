"""The collate function gives NumPy arrays, the model makes tensors of them; one row of a sensor is infinite.

Source: https://stackoverflow.com/questions/51835124 (a value that is not finite in the data).
Added: 2026-11-28. Rules changed because of it: none.
"""

import numpy as np
import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "288"
PRESET = "standard"


class Sensors(Dataset):
    def __init__(self, mended, seed):
        random = np.random.default_rng(seed)
        self.x = random.normal(size=(500, 7))
        self.y = self.x[:, 0] * 2 - np.abs(self.x[:, 3])
        if not mended:
            self.x[288, 5] = np.inf

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return {"x": self.x[index], "y": self.y[index], "name": f"sensor-{index:03d}"}


def collate(items):
    return {name: np.stack([item[name] for item in items]) for name in ("x", "y")} | {
        "name": [item["name"] for item in items]
    }


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 1))

    def training_step(self, batch, batch_idx):
        x, y = torch.from_numpy(batch["x"]).float(), torch.from_numpy(batch["y"]).float()
        loss = nn.functional.mse_loss(self.net(x).squeeze(1), y)
        self.log("loss", loss, batch_size=len(y))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    loader = DataLoader(Sensors(mended, seed), batch_size=25, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Net(), loader)
