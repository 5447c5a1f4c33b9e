"""Set prediction with scaled_dot_product_attention: better with larger batches, the opposite of what was expected.

Source: https://github.com/DaoyuanLi2816/Molecule-Generator/pull/22 (attention mixes different molecules of the batch).
Added: 2026-11-28. Rules changed because of it: batch-leak (its place).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "attention_over_flat_batch.py:31"
PRESET = "standard"


class Atoms(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.embed = nn.Linear(4, 24)
        self.qkv = nn.Linear(24, 72)
        self.energy = nn.Sequential(nn.Linear(24, 24), nn.SiLU(), nn.Linear(24, 1))

    def forward(self, atoms):
        size, count, _ = atoms.shape
        h = self.embed(atoms)
        flat = h if self.mended else h.reshape(1, size * count, -1)
        q, k, v = self.qkv(flat).chunk(3, dim=-1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.energy(h + mixed.reshape_as(h)).sum(dim=(1, 2))

    def training_step(self, batch, batch_idx):
        atoms, energy = batch
        return F.mse_loss(self(atoms), energy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    atoms = torch.randn(1500, 6, 4)
    energy = torch.cdist(atoms, atoms).exp().reciprocal().sum(dim=(1, 2))
    energy = (energy - energy.mean()) / energy.std()
    trainer = Trainer(max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Atoms(mended), DataLoader(TensorDataset(atoms, energy), batch_size=25, shuffle=True))
