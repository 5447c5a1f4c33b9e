"""A cross entropy with smoothed labels, written by hand, gets a model's probabilities: the loss hangs above 1.5.

Source: https://github.com/nishnik/Deep-Semantic-Similarity-Model-PyTorch/issues/2 (softmax before a loss that has one).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("double-softmax",)
PLACE = "label_smoothing_of_probabilities.py:43"
PRESET = "standard"
AGAIN = "softmax_then_log_softmax"


class SmoothedCrossEntropy(nn.Module):
    def __init__(self, smoothing=0.05):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, x, target):
        log_p = torch.log_softmax(x, dim=-1)
        nll = -log_p.gather(-1, target.unsqueeze(-1)).squeeze(-1)
        return ((1 - self.smoothing) * nll - self.smoothing * log_p.mean(-1)).mean()


class Mixer(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.across, self.along = nn.Linear(8, 16), nn.Linear(8, 8)
        self.norm, self.out = nn.LayerNorm([8, 16]), nn.Linear(128, 10)
        self.criterion = SmoothedCrossEntropy()

    def forward(self, image):
        h = self.along(self.across(image).transpose(1, 2)).transpose(1, 2)
        logits = self.out(torch.relu(self.norm(h)).flatten(1))
        if self.mended:
            return logits
        return logits.softmax(-1)

    def training_step(self, batch, batch_idx):
        image, digit = batch
        loss = self.criterion(self(image), digit)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    data = TensorDataset(image, torch.tensor(digits.target))
    trainer.fit(Mixer(mended), DataLoader(data, batch_size=45, shuffle=True))
