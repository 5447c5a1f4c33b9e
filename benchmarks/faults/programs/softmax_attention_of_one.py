"""A question encoder with attention does no better than the same encoder with a plain sum over time.

Source: https://github.com/DEEP-PolyU/KEQA_WSDM19/issues/2 (softmax over a dimension of size 1: all ones).
Added: 2026-11-28. Rules changed because of it: zero-gradient (its words).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("softmax-over-one", "zero-gradient")
PLACE = "softmax_attention_of_one.py:30"
PRESET = "standard"


class QuestionEncoder(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(120, 24)
        self.lstm = nn.LSTM(24, 24, bidirectional=True, batch_first=True)
        self.attn = nn.Sequential(nn.Linear(72, 24), nn.Tanh(), nn.Linear(24, 1))
        self.predicate = nn.Linear(48, 6)

    def forward(self, question):
        x = self.embed(question)
        h, _ = self.lstm(x)
        attention = F.softmax(self.attn(torch.cat((x, h), -1)), dim=1 if self.mended else -1)
        return self.predicate((attention * h).sum(1))

    def training_step(self, batch, batch_idx):
        question, predicate = batch
        return F.cross_entropy(self(question), predicate)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    predicate = torch.randint(6, (1600,))
    question = torch.randint(60, 120, (1600, 10))
    where = torch.randint(10, (1600,))
    question[torch.arange(1600), where] = predicate * 10 + torch.randint(10, (1600,))
    loader = DataLoader(TensorDataset(question, predicate), batch_size=40, shuffle=True)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(QuestionEncoder(mended), loader)
