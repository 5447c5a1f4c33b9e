"""``val_ppl`` is inf for the whole run: the perplexity is taken of a sum over the sentence.

Source: https://github.com/karpathy/nanoGPT/issues/323 (how the loss of tokens is averaged).
Added: 2026-11-28, after nonfinite-validation was changed and without sight of it. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader

DIAGNOSES = ("nonfinite-validation",)
PLACE = "val_ppl"
PRESET = "standard"


class Characters(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.embed, self.rnn = nn.Embedding(30, 24), nn.GRU(24, 48, batch_first=True)
        self.head = nn.Linear(48, 30)

    def losses(self, text):
        logits = self.head(self.rnn(self.embed(text[:, :-1]))[0])
        return F.cross_entropy(logits.transpose(1, 2), text[:, 1:], reduction="none")

    def training_step(self, batch, batch_idx):
        loss = self.losses(batch).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        each = self.losses(batch)
        whole = each.mean(1) if self.mended else each.sum(1)
        self.log_dict({"val_loss": each.mean(), "val_ppl": whole.mean().exp()}, prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    text = (torch.randint(0, 30, (500, 1)) + torch.arange(60) * torch.randint(1, 4, (500, 1))) % 30
    noise = torch.rand(500, 60) < 0.5
    text = torch.where(noise, torch.randint(0, 30, (500, 60)), text)
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(
        Characters(mended), DataLoader(text[:400], batch_size=20, shuffle=True), DataLoader(text[400:], batch_size=50)
    )
