"""Topic classification of short token sequences: accuracy is fine in the end, but training takes ten times as long.

Source: https://github.com/lansinuote/Huggingface_Toturials/issues/6 (out.softmax before CrossEntropyLoss).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("double-softmax",)
PLACE = "softmax_text_dict.py:47"
PRESET = "standard"


class Topics(Dataset):
    """Sentences of 12 tokens: each topic prefers words of its own."""

    def __init__(self, size: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.topic = torch.randint(4, (size,), generator=generator)
        own = torch.randint(20, (size, 12), generator=generator) + 20 * self.topic[:, None]
        other = torch.randint(80, (size, 12), generator=generator)
        self.tokens = torch.where(torch.rand(size, 12, generator=generator) < 0.4, own, other)

    def __len__(self):
        return len(self.topic)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.topic[i]}


class TopicModel(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embedding = nn.Embedding(80, 32)
        self.gru = nn.GRU(32, 48, batch_first=True)
        self.fc = nn.Linear(48, 4)
        self.criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def forward(self, input_ids):
        _, hidden = self.gru(self.embedding(input_ids))
        out = self.fc(hidden[-1])
        if not self.mended:
            out = out.softmax(dim=1)
        return out

    def training_step(self, batch, batch_idx):
        loss = self.criterion(self(batch["input_ids"]), batch["labels"])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    loader = DataLoader(Topics(2000, seed), batch_size=32, shuffle=True)
    Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
        TopicModel(mended), loader
    )
