"""The towers of a multi-task model stay at their first weights: they are kept in a Python dict.

Source: https://github.com/pytorch/pytorch/issues/72580 (modules in a list or dict are not registered).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("unregistered-parameter",)
PLACE = "towers"
PRESET = "standard"


class MultiTask(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(12, 32), nn.ReLU())
        towers = {task: nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)) for task in ("click", "buy")}
        self.towers = nn.ModuleDict(towers) if mended else towers

    def training_step(self, batch, batch_idx):
        x, click, buy = batch
        hidden = self.shared(x)
        losses = {
            task: nn.functional.binary_cross_entropy_with_logits(self.towers[task](hidden).squeeze(1), truth)
            for task, truth in (("click", click), ("buy", buy))
        }
        self.log_dict(losses)
        return sum(losses.values())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(900, 12)
    click = ((x[:, 0] + x[:, 1] * x[:, 2]) > 0).float()
    buy = click * ((x[:, 3] - x[:, 4]) > 0).float()
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(MultiTask(mended), DataLoader(TensorDataset(x, click, buy), batch_size=45, shuffle=True))
