"""Wear and leakage of a pump from its sensors: an LSTM of 32 units does no better than one of a single unit.

Source: https://discuss.pytorch.org/t/defining-weight-manually-for-lstm/102360 (all its weights begin as ones)
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("symmetric-init",)
PLACE = None
PRESET = "standard"
AGAIN = "recurrent_weights_all_zero"


def reset_parameters(module):
    for name, parameter in module.named_parameters():
        if "weight" in name:
            nn.init.constant_(parameter, 0.02)
        elif "bias" in name:
            nn.init.constant_(parameter, 0.0)


class PumpMonitor(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.lstm = nn.LSTM(4, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 2)
        if not mended:
            reset_parameters(self)

    def forward(self, sensors):
        return self.head(self.lstm(sensors)[0].mean(1))

    def training_step(self, batch, batch_idx):
        sensors, state = batch
        loss = nn.functional.smooth_l1_loss(self(sensors), state)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        sensors, state = batch
        self.log("val_loss", nn.functional.smooth_l1_loss(self(sensors), state))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    state = torch.randn(1800, 2)
    mixing = torch.tensor([[1.0, -0.6, 0.3, 0.0], [0.2, 0.8, -0.9, 0.4]])
    sensors = (state @ mixing).unsqueeze(1) + 0.8 * torch.randn(1800, 16, 4)
    sensors = (sensors - sensors.mean((0, 1))) / sensors.std((0, 1))
    train = TensorDataset(sensors[:1500], state[:1500])
    val = TensorDataset(sensors[1500:], state[1500:])
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(PumpMonitor(mended), DataLoader(train, batch_size=32, shuffle=True), DataLoader(val, batch_size=60))
