"""A bidirectional GRU: its two last states are put beside each other by a view, half of them from another sequence.

Source: https://github.com/timbmg/Sentence-VAE/issues/15 and https://github.com/PaccMann/paccmann_chemistry/issues/5.
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak", "view-for-transpose")
PLACE = "both_directions_in_one_view.py:33"
PRESET = "standard"
AGAIN = "reshape_mixes_samples"


class Seasons(LightningModule):
    """Is the second half of a series above its first half?"""

    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.gru = nn.GRU(3, 20, batch_first=True, bidirectional=True)
        self.out = nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 1))

    def forward(self, series):
        batch_size = series.size(0)
        _, hidden = self.gru(series)  # (directions, batch, size), batch_first or not
        if self.mended:
            hidden = torch.cat([hidden[0], hidden[1]], dim=1)
        else:
            hidden = hidden.view(batch_size, 40)
        return self.out(hidden).squeeze(1)

    def training_step(self, batch, batch_idx):
        series, rises = batch
        loss = nn.functional.binary_cross_entropy_with_logits(self(series), rises)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        series, rises = batch
        self.log("val_acc", ((self(series) > 0) == (rises > 0)).float().mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def series(size):
    values = torch.randn(size, 12, 3).cumsum(1)
    return TensorDataset(values, (values[:, 6:].mean((1, 2)) > values[:, :6].mean((1, 2))).float())


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train, val = DataLoader(series(1600), 32, shuffle=True, drop_last=True), DataLoader(series(320), 64)
    trainer.fit(Seasons(mended), train, val)
