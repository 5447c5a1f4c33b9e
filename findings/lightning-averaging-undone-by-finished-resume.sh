#!/usr/bin/env bash
# Lightning 2.6.6 (torch 2.13.0, Python 3.11): a program that is started again with the last checkpoint of a run that was
# over, as on machines that restart jobs, trains no step, and leaves a model under WeightAveraging with the weights of
# training instead of their average: those are put in place in `on_train_end`, which a fit without a step does not call
# (loops/fit_loop.py, run: `if self.skip`; callbacks/weight_averaging.py, on_load_checkpoint loads `current_model_state`).
# What is tested or exported next is another model than before, without a word.
# Seen: the first fit ends with the average, as its checkpoint's state_dict has it; the second one with other weights.
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
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        return (self.layer(batch[0]) - 1).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(ckpt_path=None):
    torch.manual_seed(0)
    module = Module()
    trainer = L.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[EMAWeightAveraging(decay=0.9), ModelCheckpoint("saved", filename="{epoch}", save_top_k=-1)],
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=2), ckpt_path=ckpt_path)
    return module.layer.weight.detach().clone()


first = fit()
again = fit("saved/epoch=2.ckpt")
saved = torch.load("saved/epoch=2.ckpt", weights_only=False)
average, current = (saved[key]["layer.weight"] for key in ("state_dict", "current_model_state"))
print("first fit ends with the average:", torch.equal(first, average))
print("started again, it ends with the average:", torch.equal(again, average), "; with those of training:", torch.equal(again, current))
assert torch.equal(first, average) and not torch.equal(average, current)
assert torch.equal(again, current), "a fit that has nothing left to do keeps the average: mended"
PROGRAM
cd "$folder" && venv/bin/python program.py
