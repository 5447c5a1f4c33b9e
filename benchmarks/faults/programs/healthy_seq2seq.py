"""Reversing digit strings with nn.Transformer: padding, teacher forcing, a causal mask in the decoder.

Source: https://docs.pytorch.org/tutorials/beginner/translation_transformer.html
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

DIAGNOSES = ()
PLACE = None
PRESET = "thorough"


PAD, BOS, EOS = 0, 1, 2


def pairs(size: int):
    words = [torch.randint(3, 13, (int(n),)) for n in torch.randint(4, 9, (size,))]
    ends = torch.tensor([BOS]), torch.tensor([EOS])
    return [(w, torch.cat([ends[0], w.flip(0), ends[1]])) for w in words]


def collate(samples):
    source, target = zip(*samples, strict=True)
    return {
        "source": pad_sequence(source, batch_first=True, padding_value=PAD),
        "target": pad_sequence(target, batch_first=True, padding_value=PAD),
    }


class Reverser(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(13, 32), nn.Embedding(12, 32)
        self.transformer = nn.Transformer(32, 4, 1, 1, 64, dropout=0.0, batch_first=True)
        self.out = nn.Linear(32, 13)

    def encode(self, ids):
        return self.embed(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))

    def training_step(self, batch, batch_idx):
        source, given, wanted = batch["source"], batch["target"][:, :-1], batch["target"][:, 1:]
        causal = torch.ones(given.shape[1], given.shape[1], dtype=torch.bool).triu(1)
        h = self.transformer(
            self.encode(source),
            self.encode(given),
            tgt_mask=causal,
            src_key_padding_mask=source == PAD,
            tgt_key_padding_mask=given == PAD,
            memory_key_padding_mask=source == PAD,
        )
        return F.cross_entropy(self.out(h).transpose(1, 2), wanted, ignore_index=PAD)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Reverser(), DataLoader(pairs(2000), 32, shuffle=True, collate_fn=collate))
