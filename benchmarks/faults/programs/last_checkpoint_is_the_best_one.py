"""The machine was shut down in epoch 9; ``last.ckpt`` is of epoch 2.

Source: https://github.com/openclimatefix/pvnet/pull/544 (``save_last`` only writes together with a file that ranks).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("checkpoint-stale",)
PLACE = "last"
PRESET = "standard"


class PowerCut(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 9:
            raise RuntimeError("the node was taken away")


class Small(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 1))

    def training_step(self, batch, batch_idx):
        loss = nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1])
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]).squeeze(1), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main(mended, seed):
    seed_everything(seed)
    x = torch.randn(160, 20)
    y = x[:, 0] + 1.5 * torch.randn(160)  # so much noise that it overfits early
    train, val = TensorDataset(x[:60], y[:60]), TensorDataset(x[60:], y[60:])
    best = ModelCheckpoint(dirpath="kept", monitor="val_loss", save_top_k=1, save_last=not mended)
    latest = [ModelCheckpoint(dirpath="kept", filename="latest", every_n_epochs=1)] if mended else []
    trainer = Trainer(
        max_epochs=12,
        accelerator="cpu",
        callbacks=[best, *latest, *([] if mended else [PowerCut()])],
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Small(), DataLoader(train, batch_size=12, shuffle=True), DataLoader(val, batch_size=50))
