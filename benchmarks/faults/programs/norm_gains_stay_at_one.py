"""Fine-tuning at 1e-4 in pure bfloat16: the gains of the RMS norms are 1.0 after training, to the bit.

Source: https://github.com/fla-org/flame/issues/47 (RMSNorm weights stay at 1) and
https://github.com/pytorch/ao/pull/1124 (updates below 1e-3 of a weight are rounded away in bfloat16).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("parameter-not-updated", "update-ratio-low")
PLACE = None
PRESET = "standard"
AGAIN = "bfloat_weights_round_updates_away"


class Block(nn.Module):
    """A pre-norm residual block."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.silu(self.up(self.norm(x))))


class Rows(LightningModule):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 48)
        self.blocks = nn.Sequential(Block(48), Block(48))
        self.norm, self.head = nn.RMSNorm(8 * 48), nn.Linear(8 * 48, 10)

    def training_step(self, batch, batch_idx):
        rows, digit = batch
        h = self.blocks(self.embed(rows.to(self.embed.weight.dtype)))
        loss = nn.functional.cross_entropy(self.head(self.norm(h.flatten(1))).float(), digit)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-4, weight_decay=0.01)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    rows = torch.tensor(digits.images / 16, dtype=torch.float32)
    rows = (rows - rows.mean()) / rows.std()
    trainer = Trainer(
        max_epochs=5,
        accelerator="cpu",
        precision="bf16-mixed" if mended else "bf16-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Rows(), DataLoader(TensorDataset(rows, torch.tensor(digits.target)), batch_size=32, shuffle=True))
