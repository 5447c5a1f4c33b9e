"""Masked language modelling: 15 % of the tokens are hidden, all others have label -100; attention looks both ways.

Source: https://arxiv.org/abs/1810.04805
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


def mask_tokens(samples):
    ids = torch.stack(samples)
    hidden = torch.rand(ids.shape) < 0.15
    hidden[:, 0] = True
    return {"input_ids": ids.masked_fill(hidden, 50), "labels": ids.masked_fill(~hidden, -100)}


class Bert(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(51, 32), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 50)

    def step(self, batch):
        ids = batch["input_ids"]
        x = self.token(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))
        return F.cross_entropy(self.head(self.encoder(x)).flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)

    def training_step(self, batch, batch_idx):
        return self.step(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 2e-3, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def sequences(size: int):
    """Each sequence is about one of five subjects, and takes most tokens from that subject's ten."""
    own = torch.randint(5, (size, 1)) * 10 + torch.randint(10, (size, 16))
    return list(torch.where(torch.rand(size, 16) < 0.1, torch.randint(50, (size, 16)), own))


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    train = DataLoader(sequences(2400), 32, shuffle=True, collate_fn=mask_tokens)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Bert(), train, DataLoader(sequences(200), 50, collate_fn=mask_tokens))
