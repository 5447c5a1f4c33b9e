"""A text classifier reports losses between -1 and 0, as its author noticed: "the loss is always negative".

Source: https://github.com/AnubhavGupta3377/Text-Classification-Models-Pytorch/issues/9 (NLLLoss after softmax).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("missing-log-softmax",)
PLACE = "nll_of_probabilities.py:32"
PRESET = "standard"


class FastText(LightningModule):
    """Bag of n-grams, after the repository's first model."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.embeddings = nn.EmbeddingBag(500, 24, mode="mean")
        self.fc = nn.Linear(24, 5)
        self.softmax = nn.LogSoftmax(dim=1) if mended else nn.Softmax(dim=1)
        self.loss_op = nn.NLLLoss()

    def forward(self, text):
        return self.softmax(self.fc(self.embeddings(text)))

    def training_step(self, batch, batch_idx):
        text, label = batch
        return self.loss_op(self(text), label)

    def validation_step(self, batch, batch_idx):
        text, label = batch
        output = self(text)
        self.log_dict({"val_loss": self.loss_op(output, label), "val_acc": (output.argmax(1) == label).float().mean()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def documents(size: int) -> TensorDataset:
    label = torch.randint(5, (size,))
    own = torch.randint(100, (size, 30)) + 100 * label[:, None]
    text = torch.where(torch.rand(size, 30) < 0.3, own, torch.randint(500, (size, 30)))
    return TensorDataset(text, label)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    train = DataLoader(documents(2400), batch_size=32, shuffle=True)
    trainer.fit(FastText(mended), train, DataLoader(documents(300), batch_size=100))
