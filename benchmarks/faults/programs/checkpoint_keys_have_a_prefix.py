"""Fine-tuning from a pretrained file is no better than from scratch.

Source: https://github.com/pytorch/examples/issues/1029 (``strict=False`` with names under ``model.``).
Added: 2026-11-28. Rules changed because of it: none.
Missed: the weights are loaded in `__init__`, before there is a Trainer, and with it the kit.
"""

import torch
import torch.nn.functional as F
from lightning import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("weights-not-loaded",)
PLACE = "model."
PRESET = "standard"


def backbone():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))


class Pretrain(LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.decoder = backbone(), nn.Linear(32, 64)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.decoder(self.model(batch[0])), batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Finetune(LightningModule):
    def __init__(self, path, mended):
        super().__init__()
        self.net, self.head = backbone(), nn.Linear(32, 10)
        weights = torch.load(path)["state_dict"]
        if mended:
            weights = {name.removeprefix("model."): value for name, value in weights.items()}
        self.net.load_state_dict(weights, strict=False)  # there is no decoder any more

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.head(self.net(batch[0])), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.data, dtype=torch.float32) / 16, torch.tensor(digits.target))
    options = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    first = Trainer(**options)
    first.fit(Pretrain(), DataLoader(data, batch_size=64, shuffle=True))
    first.save_checkpoint("pretrained.ckpt")
    Trainer(**options).fit(Finetune("pretrained.ckpt", mended), DataLoader(data, batch_size=64, shuffle=True))
