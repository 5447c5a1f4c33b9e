"""A little GPT: the loss is nearly 0 after two epochs, and what it writes is gibberish.

Source: https://github.com/alex-matton/causal-transformer-decoder/issues/1 (no causal mask in training).
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
TEXT = (
    "it was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    * 40
)


class Characters(Dataset):
    def __init__(self, block: int = 24) -> None:
        alphabet = sorted(set(TEXT))
        self.vocabulary = len(alphabet)
        self.data = torch.tensor([alphabet.index(c) for c in TEXT])
        self.block = block

    def __len__(self):
        return len(self.data) - self.block - 1

    def __getitem__(self, i):
        piece = self.data[i : i + self.block + 1]
        return piece[:-1], piece[1:]


class TinyGPT(LightningModule):
    def __init__(self, vocabulary: int, block: int, mended: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, 32)
        self.position = nn.Parameter(torch.randn(block, 32) * 0.02)
        layer = nn.TransformerEncoderLayer(32, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, vocabulary)
        self.mask = nn.Transformer.generate_square_subsequent_mask(block) if mended else None

    def forward(self, idx):
        return self.head(self.blocks(self.token(idx) + self.position, mask=self.mask))

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        return F.cross_entropy(logits.view(-1, logits.size(-1)), y.reshape(-1))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    data = Characters()
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(TinyGPT(data.vocabulary, data.block, mended), DataLoader(data, batch_size=48, shuffle=True))
