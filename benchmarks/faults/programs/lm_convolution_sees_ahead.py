"""A convolutional language model (ByteNet-like) with padding on both sides: train loss falls, test loss rises.

Source: https://github.com/paarthneekhara/byteNet-tensorflow/issues/10 (masking of future tokens in the convolution).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("future-leak",)
PLACE = None
PRESET = "standard"


class Bytes(Dataset):
    def __init__(self) -> None:
        text = "".join(f"{a}+{b}={a + b};" for a in range(40) for b in range(40))
        self.data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long() - 40

    def __len__(self):
        return 2000

    def __getitem__(self, i):
        start = (i * 7) % (len(self.data) - 33)
        return {"source": self.data[start : start + 32], "target": self.data[start + 1 : start + 33]}


class ByteNet(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.causal = mended
        self.embed = nn.Embedding(24, 24)
        self.convs = nn.ModuleList(nn.Conv1d(24, 24, 3, dilation=d) for d in (1, 2, 4))
        self.out = nn.Conv1d(24, 24, 1)

    def forward(self, source):
        x = self.embed(source).transpose(1, 2)
        for conv in self.convs:
            width = conv.dilation[0] * 2
            padding = (width, 0) if self.causal else (width // 2, width // 2)
            x = x + F.relu(conv(F.pad(x, padding)))
        return self.out(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["source"]), batch["target"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(ByteNet(mended), DataLoader(Bytes(), batch_size=32, shuffle=True))
