"""Scores of a sentence encoder depend on how long the longest sentence is: padding takes part in the mean.

Source: https://github.com/jingyaogong/minimind-v/issues/76 (the attention mask is not used: padding enters).
Added: 2026-11-28. Rules changed because of it: unused-input (padding masks of floats).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("unused-input",)
PLACE = "attention_mask"
PRESET = "standard"


def sentences(size: int):
    result = []
    for _ in range(size):
        label, length = int(torch.randint(3, ())), int(torch.randint(3, 12, ()))
        own = torch.randint(1 + 20 * label, 21 + 20 * label, (length,))
        result.append((torch.where(torch.rand(length) < 0.6, own, torch.randint(1, 61, (length,))), label))
    return result


def collate(samples):
    ids = torch.zeros(len(samples), 12, dtype=torch.long)
    mask = torch.zeros(len(samples), 12)
    for i, (tokens, _) in enumerate(samples):
        ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([label for _, label in samples])}


class MeanEncoder(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(61, 32)
        self.net = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, input_ids, attention_mask):
        x = self.embed(input_ids)
        if self.mended:
            mask = attention_mask[..., None]
            return self.net((x * mask).sum(1) / mask.sum(1))
        return self.net(x.mean(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch["input_ids"], batch["attention_mask"]), batch["labels"])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    loader = DataLoader(sentences(1600), batch_size=32, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(MeanEncoder(mended), loader)
