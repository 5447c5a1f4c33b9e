#!/usr/bin/env bash
# Lightning 2.6.6 (torch 2.13.0, Python 3.11): in an epoch that a run resumes within, `on_train_epoch_start` is not called
# again (loops/fit_loop.py, on_advance_start: `if not self.restarted_mid_epoch ...`). Two callbacks of Lightning set an epoch
# up there and keep no state of it, so that until the epoch ends
# - GradientAccumulationScheduler accumulates over one batch, whatever its plan says: more steps, of a smaller batch;
# - StochasticWeightAveraging has no schedule in place, and the rate of its annealing is a step behind ever after.
# Seen: with {0: 4}, resumed behind 4 of 8 batches, 1 + 4 steps in the epoch; 2 in one go. Rates of the epochs after it under
# StochasticWeightAveraging differ from those of the run in one go. A loader with a state, which Lightning supports there,
# changes nothing of it: the data are alike here.
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
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.rates, self.steps = {}, {}

    def training_step(self, batch, batch_idx):
        self.rates[self.current_epoch] = round(self.optimizers().param_groups[0]["lr"], 6)
        return self.layer(batch[0]).square().mean()

    def on_train_epoch_end(self):
        self.steps[self.current_epoch] = self.global_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveWithinEpoch(L.Callback):
    def __init__(self, path, epoch):
        self.path, self.epoch = path, epoch

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 3:  # of eight batches
            trainer.save_checkpoint(self.path)


def fit(callback, save=None, ckpt_path=None):
    module = Module()
    trainer = L.Trainer(
        max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback, *([save] if save else [])],
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(16, 4)), batch_size=2), ckpt_path=ckpt_path)
    return module


whole = fit(GradientAccumulationScheduler({0: 4}), SaveWithinEpoch("a.ckpt", 0))
resumed = fit(GradientAccumulationScheduler({0: 4}), ckpt_path="a.ckpt")
print("steps behind epoch 0:", whole.steps[0], "in one go,", resumed.steps[0], "resumed")
assert whole.steps[0] == 2
assert resumed.steps[0] == 5, "the plan of accumulation holds in a resumed epoch: mended"


def averaging():
    return StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2, annealing_epochs=3)


whole = fit(averaging(), SaveWithinEpoch("b.ckpt", 1))
resumed = fit(averaging(), ckpt_path="b.ckpt")
print("rates in one go:", whole.rates)
print("rates resumed:  ", resumed.rates)
assert [resumed.rates[e] for e in (2, 3, 4)] != [whole.rates[e] for e in (2, 3, 4)], "the schedule goes on: mended"
PROGRAM
cd "$folder" && venv/bin/python program.py
