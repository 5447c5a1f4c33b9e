"""Is a message a complaint? One output unit with a softmax: each message is, with a probability of 1.

Source: https://github.com/marian-nmt/marian-dev/issues/21 (a softmax over a single value is always 1).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("softmax-over-one",)
PLACE = "lstm_verdict_of_one_unit.py:48"
PRESET = "standard"
AGAIN = "softmax_of_one_output"


class Messages(Dataset):
    """Token sequences; those with a token of the first ten are complaints."""

    def __init__(self, size):
        self.tokens = torch.randint(10, 90, (size, 14))
        complaint = torch.rand(size) < 0.4
        self.tokens[complaint, torch.randint(14, (int(complaint.sum()),))] = torch.randint(10, (int(complaint.sum()),))
        self.complaint = complaint.float()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return self.tokens[i], self.complaint[i]


class ComplaintLSTM(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embedding = nn.Embedding(90, 24)
        self.lstm = nn.LSTM(24, 32, batch_first=True)
        self.fc = nn.Linear(32, 1)

    def forward(self, tokens):
        states, _ = self.lstm(self.embedding(tokens))
        verdict = self.fc(states.amax(1))
        if self.mended:
            return torch.sigmoid(verdict)
        return F.softmax(verdict, dim=-1)

    def training_step(self, batch, batch_idx):
        tokens, complaint = batch
        probability = self(tokens).view(-1)
        loss = F.binary_cross_entropy(probability, complaint)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=4, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ComplaintLSTM(mended), DataLoader(Messages(1200), batch_size=30, shuffle=True))
