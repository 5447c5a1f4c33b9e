"""Language model with labels = input_ids, as the tutorial of another library has it: loss 0.01 after one epoch.

Source: https://github.com/macrocosm-os/pretraining/pull/64 (the model is trained to predict the current token).
Added: 2026-11-28. Rules changed because of it: future-leak (targets that are the token itself).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("future-leak",)
PLACE = "lm_labels_not_shifted.py:50"
PRESET = "standard"


class Chains(Dataset):
    """Sequences of a random Markov chain over 30 tokens."""

    def __init__(self, size: int) -> None:
        table = torch.softmax(torch.randn(30, 30) * 2, dim=1)
        tokens = [torch.randint(30, (size,))]
        for _ in range(15):
            tokens.append(torch.multinomial(table[tokens[-1]], 1).squeeze(1))
        self.tokens = torch.stack(tokens, dim=1)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, i):
        return {"input_ids": self.tokens[i], "labels": self.tokens[i].clone()}


class GRULM(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.wte = nn.Embedding(30, 32)
        self.gru = nn.GRU(32, 48, batch_first=True)
        self.lm_head = nn.Linear(48, 30)

    def forward(self, input_ids):
        return self.lm_head(self.gru(self.wte(input_ids))[0])

    def training_step(self, batch, batch_idx):
        logits, labels = self(batch["input_ids"]), batch["labels"]
        if self.mended:
            logits, labels = logits[:, :-1], labels[:, 1:]
        loss = F.cross_entropy(logits.reshape(-1, 30), labels.reshape(-1))
        self.log("ppl", loss.exp())
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(GRULM(mended), DataLoader(Chains(2000), batch_size=40, shuffle=True))
