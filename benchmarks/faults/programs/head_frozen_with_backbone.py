"""Fine-tuning stays near chance: the loop that froze the backbone froze the new head, too; only norms train.

Source: https://discuss.pytorch.org/t/84911 (everything but batch norm is frozen, the new ``_fc`` as well; TrainCheck).
Added: 2026-11-28. Rules changed because of it: none.
Missed: all that is frozen is left out of the optimizer on purpose, and training the norms alone is a published
method; it learns better than a constant answer.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("no-gradient", "parameter-not-updated", "parameter-not-in-optimizer", "no-better-than-trivial")
PLACE = "_fc"
PRESET = "thorough"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self._fc = nn.Linear(16 * 16, 10)

    def forward(self, x):
        return self._fc(F.max_pool2d(F.relu(self.norm(self.conv(x))), 2).flatten(1))


class Finetune(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.net = Net()
        for name, part in self.net.named_modules():
            if isinstance(part, nn.BatchNorm2d) or (mended and name == "_fc"):
                continue
            for parameter in part.parameters(recurse=False):
                parameter.requires_grad = False

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target))
    train, val = random_split(data, [1400, 397])
    trainer = Trainer(max_epochs=4, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(Finetune(mended), DataLoader(train, batch_size=50, shuffle=True), DataLoader(val, batch_size=100))
