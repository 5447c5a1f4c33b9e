"""Sleep stages from short signals: the training accuracy stays at a third while the loss goes to 0.

Source: https://github.com/935963004/LaBraM/issues/15 (predictions of shape [64] are compared with targets [64, 1]).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("shape-broadcast",)
PLACE = "accuracy_of_every_pair.py:39"
PRESET = "standard"
AGAIN = "broadcast_in_metric"


class SleepStager(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.filters = nn.Conv1d(2, 16, 15, stride=3)
        self.rnn = nn.GRU(16, 24, batch_first=True)
        self.classify = nn.Linear(24, 3)
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, signal):
        features = torch.tanh(self.filters(signal)).transpose(1, 2)
        return self.classify(self.rnn(features)[1][-1])

    def training_step(self, batch, batch_idx):
        signal, targets = batch
        output = self(signal)
        loss = self.criterion(output, targets.squeeze(1))
        self.log("train_loss", loss, prog_bar=True)
        if self.mended:
            class_acc = (output.max(-1)[-1] == targets.squeeze(1)).float().mean()
        else:
            class_acc = (output.max(-1)[-1] == targets).float().mean()
        self.log("train_class_acc", class_acc, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    stage = torch.randint(3, (1200, 1))
    time = torch.arange(90) / 10
    wave = torch.sin(time * (1 + 2 * stage) + torch.rand(1200, 1) * 6.28)
    signal = torch.stack([wave, 0.5 * wave.roll(5, 1)], 1) + 0.4 * torch.randn(1200, 2, 90)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(SleepStager(mended), DataLoader(TensorDataset(signal, stage), batch_size=40, shuffle=True))
