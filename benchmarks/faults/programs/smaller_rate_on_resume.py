"""The second half of training should run at a quarter of the rate; the checkpoint brings the first rate back.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/12118 (resumed with a different learning rate).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("learning-rate-restored",)
PLACE = "0.0125"
PRESET = "standard"
AGAIN = "resumed_rate_is_the_old_one"


class Digits(LightningModule):
    def __init__(self, learning_rate, mended):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12 * 36, 10))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def on_load_checkpoint(self, checkpoint):
        if self.hparams.mended:
            for group in checkpoint["optimizer_states"][0]["param_groups"]:
                group["lr"] = self.hparams.learning_rate

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.learning_rate, momentum=0.9, nesterov=True)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    image = torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None]
    loader = DataLoader(TensorDataset(image, torch.tensor(digits.target)), batch_size=40, shuffle=True)
    options = {"logger": False, "enable_progress_bar": False}
    saver = ModelCheckpoint("checkpoints", save_last=True)
    Trainer(max_epochs=2, callbacks=[saver], **options).fit(Digits(0.05, mended), loader)
    second = Trainer(max_epochs=4, enable_checkpointing=False, **options)
    second.fit(Digits(0.0125, mended), loader, ckpt_path="checkpoints/last.ckpt")
