#!/usr/bin/env bash
# Lightning 2.6.6 (torch 2.13.0, Python 3.11): ModelPruning goes back to the first weights whenever it prunes (the lottery
# ticket hypothesis, its default), and takes for these what the model holds in `setup`, which is before a checkpoint is
# read (callbacks/pruning.py, setup: `_original_layers`; no state is kept of them). A resumed run therefore goes back to
# weights that the first one never had: those of the new process, whose mask is of the old ones.
# Seen: after a resume, the weights that are left behind the next pruning are the initial ones of the second process.
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
from lightning.pytorch.callbacks import ModelCheckpoint, ModelPruning
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
        self.first = self.layer.weight.detach().clone()

    def training_step(self, batch, batch_idx):
        return (self.layer(batch[0]) - 1).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(seed, ckpt_path=None):
    torch.manual_seed(seed)
    module = Module()
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[
            # The checkpoint of epoch 0 is of before the only pruning, at the end of epoch 2.
            ModelPruning("l1_unstructured", amount=0.25, apply_pruning=lambda epoch: epoch == 2),
            ModelCheckpoint("saved", filename="{epoch}", save_top_k=-1),
        ],
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(8, 8)), batch_size=2), ckpt_path=ckpt_path)
    return module


def left(module, first):
    """The share of the weights that pruning left which are those of `first`."""
    kept = module.layer.weight != 0
    return float((module.layer.weight[kept] == first[kept]).float().mean())


one = fit(seed=0)
other = fit(seed=1, ckpt_path="saved/epoch=0.ckpt")
print(f"in one go: {left(one, one.first):.0%} of what is left are the run's first weights")
print(f"resumed: {left(other, one.first):.0%}; {left(other, other.first):.0%} are those of the process that resumed")
assert left(one, one.first) == 1.0
assert left(other, one.first) < 0.1 and left(other, other.first) == 1.0, "a resume keeps the first weights: mended"
PROGRAM
cd "$folder" && venv/bin/python program.py
