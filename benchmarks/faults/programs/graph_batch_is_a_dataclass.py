"""A batch of graphs is a dataclass of one's own; one molecule has a NaN coordinate. Which?

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/20708 (which sample made the NaN?).
Added: 2026-11-28. Rules changed because of it: none.
"""

from dataclasses import dataclass

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("nonfinite-input",)
PLACE = "357"
PRESET = "standard"


@dataclass
class Graphs:
    positions: torch.Tensor
    kinds: torch.Tensor
    owner: torch.Tensor
    energy: torch.Tensor


class Molecules(Dataset):
    def __init__(self, mended):
        self.sizes = torch.randint(3, 9, (400,))
        self.items = [(torch.randn(n, 3), torch.randint(0, 4, (n,))) for n in self.sizes.tolist()]
        if not mended:
            self.items[357][0][1, 2] = float("nan")

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        positions, kinds = self.items[index]
        return positions, kinds, (kinds.float() - 1.5).sum() + positions.nan_to_num().square().mean()


def collate(items):
    positions, kinds, energy = zip(*items, strict=True)
    owner = torch.repeat_interleave(torch.arange(len(items)), torch.tensor([len(k) for k in kinds]))
    return Graphs(torch.cat(positions), torch.cat(kinds), owner, torch.stack(energy))


class DeepSet(LightningModule):
    def __init__(self):
        super().__init__()
        self.kind = nn.Embedding(4, 16)
        self.atom = nn.Sequential(nn.Linear(19, 32), nn.SiLU(), nn.Linear(32, 1))

    def training_step(self, batch, batch_idx):
        atoms = self.atom(torch.cat([batch.positions, self.kind(batch.kinds)], 1)).squeeze(1)
        energy = torch.zeros_like(batch.energy).index_add(0, batch.owner, atoms)
        loss = nn.functional.l1_loss(energy, batch.energy)
        self.log("mae", loss, batch_size=len(batch.energy))
        return loss

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return Graphs(**{name: value.to(device) for name, value in vars(batch).items()})

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def main(mended, seed):
    seed_everything(seed)
    loader = DataLoader(Molecules(mended), batch_size=20, shuffle=True, collate_fn=collate)
    trainer = Trainer(max_epochs=3, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(DeepSet(), loader)
