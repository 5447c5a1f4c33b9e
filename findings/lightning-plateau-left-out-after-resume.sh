#!/usr/bin/env bash
# Lightning 2.6.6 (torch 2.13.0, Python 3.11): a run that goes on from a checkpoint of within an epoch leaves out the step
# of ReduceLROnPlateau at the end of that epoch; every other scheduler of torch takes its step. The rate then falls an epoch
# late, and a run that is stopped and resumed within each epoch, as on machines that are taken away, never lowers it.
# In loops/fit_loop.py, on_advance_end: `update_lr_schedulers("epoch", update_plateau_schedulers=not self.restarting)`, and
# `restarting` holds until the resumed epoch is over.
# Seen: rates by epoch 0.1, 0.1, 0.05 in one go (the first loss is the best yet), and 0.1, 0.1, 0.1 when resumed in the
# first epoch; StepLR gives 0.1, 0.05, 0.025 both times.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 lightning==2.6.6
cat > "$folder/program.py" <<'PROGRAM'
import logging
import warnings

import lightning.pytorch as L
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self, scheduler):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.scheduler = scheduler
        self.rates = {}

    def training_step(self, batch, batch_idx):
        self.rates[self.current_epoch] = self.optimizers().param_groups[0]["lr"]
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", 1.0)  # never better

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = {"scheduler": self.scheduler(optimizer), "interval": "epoch", "monitor": "val_loss"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class SaveWithinEpoch(L.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 2:  # of four steps of an epoch
            trainer.save_checkpoint(self.path)


def rates(scheduler, callbacks=(), ckpt_path=None):
    module = Module(scheduler)
    data = DataLoader(TensorDataset(torch.ones(8, 4)), batch_size=2)
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks),
    )
    trainer.fit(module, data, data, ckpt_path=ckpt_path)
    return [module.rates[epoch] for epoch in range(3)]


for name, scheduler in {
    "ReduceLROnPlateau": lambda optimizer: ReduceLROnPlateau(optimizer, factor=0.5, patience=0),
    "StepLR": lambda optimizer: StepLR(optimizer, 1, 0.5),
}.items():
    whole = rates(scheduler, [SaveWithinEpoch(f"{name}.ckpt")])
    resumed = rates(scheduler, ckpt_path=f"{name}.ckpt")
    print(name, whole, resumed)
    if name == "StepLR":
        assert resumed == whole, "another scheduler is left out, too"
    else:
        assert (whole, resumed) == ([0.1, 0.1, 0.05], [0.1, 0.1, 0.1]), "the step of ReduceLROnPlateau is taken: mended"
PROGRAM
cd "$folder" && venv/bin/python program.py
