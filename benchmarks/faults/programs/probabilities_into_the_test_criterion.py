"""The test report wants probabilities, and the test's cross entropy is computed from them: 1.5 at 97 % accuracy.

Source: https://github.com/ariecattan/SciCo/issues/2 (a second softmax in validation and test only).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

DIAGNOSES = ("double-softmax",)
PLACE = "probabilities_into_the_test_criterion.py:46"
PRESET = "standard"
AGAIN = "softmax_in_test"


class DigitReader(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.lstm = nn.LSTM(8, 48, batch_first=True)
        self.linear = nn.Linear(48, 10)
        self.criterion = nn.CrossEntropyLoss()
        self.confidences = []

    def forward(self, image):
        return self.linear(self.lstm(image)[0][:, -1])

    def training_step(self, batch, batch_idx):
        image, digit = batch
        loss = self.criterion(self(image), digit)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch, batch_idx):
        image, digit = batch
        logits = self(image)
        probabilities = logits.softmax(dim=1)
        self.confidences.append(probabilities.amax(1))
        self.log("test_acc", (probabilities.argmax(1) == digit).float().mean())
        if self.mended:
            loss = self.criterion(logits, digit)
        else:
            loss = self.criterion(probabilities, digit)
        self.log("test_loss", loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(mended, seed):
    seed_everything(seed)
    digits = load_digits()
    data = TensorDataset(torch.tensor(digits.images / 8 - 1, dtype=torch.float32), torch.tensor(digits.target))
    train, test = random_split(data, [1500, 297])
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    model = DigitReader(mended)
    trainer.fit(model, DataLoader(train, batch_size=50, shuffle=True))
    trainer.test(model, DataLoader(test, batch_size=99), verbose=False)
