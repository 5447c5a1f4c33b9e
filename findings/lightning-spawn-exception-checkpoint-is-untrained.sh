#!/usr/bin/env bash
# lightning 2.6.6 (torch 2.13.0, Python 3.11): under ddp_spawn, ddp_fork and ddp_notebook no callback of the process that
# trains hears of an exception. Workers run `Trainer._fit_impl` bare; `_call_and_handle_interrupt` (trainer/call.py) calls
# `on_exception` in the process that started them, whose module, loops and callbacks have seen nothing of the fit. So
# `OnExceptionCheckpoint`, there to save what a broken run has learned, saves the weights from before the training, without
# a word. (`ModelCheckpoint(save_on_exception=True)` is called in the same place.)
# Seen: a training that breaks after 10 steps leaves a checkpoint of step 0 under ddp_spawn; expected step 10, as on one device.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 lightning==2.6.6
cat > "$folder/program.py" <<'PROGRAM'
import warnings

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import OnExceptionCheckpoint
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        if batch_idx == 10:
            raise ValueError("a sample without a label")
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def saved(strategy):
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[OnExceptionCheckpoint(".", filename=strategy)],
    )
    try:
        trainer.fit(Net(), DataLoader(TensorDataset(torch.ones(40, 2))))
    except Exception as error:
        print(f"{strategy}: {type(error).__name__}")
    checkpoint = torch.load(f"{strategy}.ckpt", weights_only=True)
    untrained = all(torch.equal(held, checkpoint["state_dict"][name]) for name, held in Net().state_dict().items())
    return checkpoint["global_step"], untrained


if __name__ == "__main__":
    alone, spawned = saved("auto"), saved("ddp_spawn")
    print("step of the checkpoint, and whether its weights are untrained: on one device", alone, "under ddp_spawn", spawned)
    assert alone == (10, False), "the callback saves something else on one device"
    assert spawned == (0, True), "under ddp_spawn it saves something else"
PROGRAM
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" program.py 2>/dev/null
