"""All weights of an LSTM and its head are set to 0 "to start from a neutral point": only one bias ever moves.

Source: https://github.com/wagonhelm/NaNmnist/issues/2 (all weights are initialised as zeros).
Added: 2026-11-30. Rules changed because of it: symmetric-init (recurrent layers).
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("symmetric-init",)
PLACE = None
PRESET = "standard"


class Counter(LightningModule):
    """How many of the twelve values are positive?"""

    def __init__(self, mended):
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True)
        self.head = nn.Linear(32, 1)
        if not mended:
            self.reset()

    def reset(self):
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if "weight" in name or "bias" in name:
                    nn.init.constant_(parameter, 0.0)

    def training_step(self, batch, batch_idx):
        values, count = batch
        loss = nn.functional.mse_loss(self.head(self.lstm(values)[0][:, -1]), count)
        self.log("mse", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    values = torch.randn(1500, 12, 1)
    count = (values > 0).float().sum(1)
    data = TensorDataset(values, (count - 6) / 1.73)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Counter(mended), DataLoader(data, batch_size=50, shuffle=True))
