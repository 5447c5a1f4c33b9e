#!/usr/bin/env bash
# Lightning 2.6.6 (torch 2.13.0, Python 3.11): BackboneFinetuning freezes the backbone when a run is set up, and thaws it in
# the epoch of `unfreeze_backbone_at_epoch` alone. A run that is resumed in a later one goes on with a frozen backbone to its
# end, without a word: its state brings the optimizer's parameter groups back, not `requires_grad`
# (callbacks/finetuning.py, BaseFinetuning.on_fit_start; setup calls freeze_before_training).
# Seen: thawed at epoch 1, resumed from the end of epoch 1, the backbone's weights do not move in epochs 2 and 3; they do in
# the run that is not interrupted.
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
from lightning.pytorch.callbacks import BackboneFinetuning, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(4, 4)
        self.head = torch.nn.Linear(4, 1)
        self.seen = {}  # sum of the backbone's weights before each epoch

    def training_step(self, batch, batch_idx):
        return (self.head(self.backbone(batch[0])) - 1).square().mean()

    def on_train_epoch_end(self):
        self.seen[self.current_epoch] = (self.backbone.weight.requires_grad, self.backbone.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.01)


def fit(ckpt_path=None):
    torch.manual_seed(0)
    module = Module()
    trainer = L.Trainer(
        max_epochs=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[
            BackboneFinetuning(unfreeze_backbone_at_epoch=1, verbose=False),
            ModelCheckpoint("saved", filename="{epoch}", save_top_k=-1),
        ],
    )
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(8, 4)), batch_size=2), ckpt_path=ckpt_path)
    return module.seen


whole = fit()
resumed = fit("saved/epoch=1.ckpt")  # the end of the epoch in which the backbone was thawed
print("trained, in one go:", {epoch: one[0] for epoch, one in whole.items()})
print("trained, resumed:  ", {epoch: one[0] for epoch, one in resumed.items()})
assert [whole[epoch][0] for epoch in range(4)] == [False, True, True, True]
assert not torch.equal(whole[2][1], whole[3][1])
assert [resumed[epoch][0] for epoch in (2, 3)] == [False, False], "the backbone is thawed after a resume: mended"
assert torch.equal(resumed[2][1], whole[1][1]) and torch.equal(resumed[3][1], whole[1][1])
PROGRAM
cd "$folder" && venv/bin/python program.py
