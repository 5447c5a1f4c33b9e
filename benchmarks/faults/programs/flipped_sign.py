"""The log-likelihood is maximised by an optimiser that minimises: the loss goes to minus infinity, accuracy to 0.

Source: the fault "flipped_sign" of TheDeepChecker (https://arxiv.org/abs/2204.00694); a question of the same kind:
https://github.com/asgsaeid/ComboLoss/issues/3.
Added: 2026-11-28. Rules changed because of it: negative-loss (log-probabilities by hand).
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("negative-loss",)
PLACE = None
PRESET = "standard"


class Classifier(LightningModule):
    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.sign = -1 if mended else 1
        self.net = nn.Sequential(nn.Linear(20, 64), nn.Mish(), nn.Linear(64, 4))

    def training_step(self, batch, batch_idx):
        x, y = batch
        log_likelihood = F.log_softmax(self.net(x), dim=1).gather(1, y[:, None]).mean()
        loss = self.sign * log_likelihood
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def main(mended: bool, seed: int) -> None:
    seed_everything(seed)
    x, y = make_classification(2000, 20, n_informative=10, n_classes=4, random_state=seed)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Classifier(mended), DataLoader(data, batch_size=40, shuffle=True))
