"""A small decoder-only transformer reaches a loss of 0 and writes the last letter for ever.

Source: https://github.com/huggingface/transformers/pull/404 (the loss was computed without shifting the logits).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("future-leak",)
PLACE = "decoder_copies_its_input.py:42"
PRESET = "standard"
AGAIN = "lm_labels_not_shifted"

WORDS = ["loss ", "falls ", "and ", "rises ", "with ", "the ", "rate ", "again "]
LETTERS = sorted(set("".join(WORDS)))


class CharTransformer(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.token, self.position = nn.Embedding(len(LETTERS), 32), nn.Embedding(24, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(24))
        self.unembed = nn.Linear(32, len(LETTERS))
        self.criterion = nn.CrossEntropyLoss()

    def forward(self, text):
        h = self.token(text) + self.position.weight
        return self.unembed(self.blocks(h, mask=self.mask, is_causal=True))

    def training_step(self, batch, batch_idx):
        (text,) = batch
        logits = self(text).transpose(1, 2)  # classes second
        if self.mended:
            loss = self.criterion(logits[..., :-1], text[:, 1:])
        else:
            loss = self.criterion(logits, text)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    words = torch.randint(len(WORDS), (5000,)).tolist()
    text = torch.tensor([LETTERS.index(letter) for word in words for letter in WORDS[word]])
    text = text[: 24 * (len(text) // 24)].reshape(-1, 24)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(CharTransformer(mended), DataLoader(TensorDataset(text), batch_size=32, shuffle=True))
