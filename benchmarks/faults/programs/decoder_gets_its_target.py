"""Translation by an encoder and a decoder: teacher forcing with the target itself, no <bos>, and a loss of 0.02.

Source: https://github.com/huggingface/transformers/issues/31673 (labels visible to the decoder) and
https://github.com/huggingface/transformers/pull/404 (logits not shifted).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("future-leak",)
PLACE = None
PRESET = "standard"


class Translator(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embed = nn.Embedding(41, 32)
        self.encoder, self.decoder = nn.GRU(32, 48, batch_first=True), nn.GRU(32, 48, batch_first=True)
        self.out = nn.Linear(48, 41)

    def training_step(self, batch, batch_idx):
        source, target = batch
        given = target
        if self.mended:
            given = F.pad(target, (1, 0), value=40)[:, :-1]
        _, memory = self.encoder(self.embed(source))
        h, _ = self.decoder(self.embed(given), memory)
        loss = F.cross_entropy(self.out(h).transpose(1, 2), target)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    source = torch.randint(40, (2000, 6))
    target = (source.flip(1) + 7) % 40
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Translator(mended), DataLoader(TensorDataset(source, target), batch_size=32, shuffle=True))
