"""With ``precision="16-true"`` the loss is NaN from the second step on; gradients of the first were fine.

Source: https://github.com/afiaka87/glide-finetune/issues/5 (eps of Adam is 0 in float16).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("optimizer-nonfinite",)
PLACE = "eps"
PRESET = "standard"


class HalfDigits(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def training_step(self, batch, batch_idx):
        logits = self.net(batch[0].to(self.net[0].weight.dtype))
        loss = F.cross_entropy(logits.float(), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, eps=1e-4 if self.mended else 1e-8)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", precision="16-true", enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(HalfDigits(mended), DataLoader(data, batch_size=64, shuffle=True))
