"""The reading of the sensor that is asked for: the attention looks at the same place of the other samples.

Source: https://github.com/aipixel/AEMatter/issues/3 (inputs are laid out batch first, nn.MultiheadAttention is not).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("batch-leak",)
PLACE = "asked_sensor_is_elsewhere.py:36"
PRESET = "standard"
AGAIN = "attention_over_flat_batch"

SENSORS = 5


class Lookup(nn.Module):
    def __init__(self, mended, width=32):
        super().__init__()
        self.mended = mended
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, num_heads=2)
        self.feed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, tokens):
        """Attend within tokens (samples, places, width)."""
        normed = self.norm(tokens)
        if self.mended:
            normed = normed.transpose(0, 1)
            looked = self.attention(normed, normed, normed, need_weights=False)[0].transpose(0, 1)
        else:
            looked = self.attention(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + looked
        return tokens + self.feed(tokens)


class Answer(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.embed = nn.Linear(2 * SENSORS + 1, 32)
        self.blocks = nn.Sequential(Lookup(mended), Lookup(mended))
        self.read = nn.Linear(32, 1)

    def forward(self, tokens):
        return self.read(self.blocks(self.embed(tokens))[:, 0]).squeeze(-1)

    def training_step(self, batch, batch_idx):
        tokens, reading = batch
        loss = F.smooth_l1_loss(self(tokens), reading)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        tokens, reading = batch
        self.log("val_mae", F.l1_loss(self(tokens), reading), batch_size=len(reading))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


class Questions(Dataset):
    """A question and five readings, in any order: (6, 11) inputs and the reading that is asked for."""

    def __init__(self, count):
        order = torch.rand(count, SENSORS).argsort(1)
        readings = torch.randn(count, SENSORS)
        asked = torch.randint(SENSORS, (count,))
        question = torch.cat([F.one_hot(asked, SENSORS), torch.zeros(count, SENSORS + 1)], 1)
        answers = torch.cat(
            [torch.zeros(count, SENSORS, SENSORS), F.one_hot(order, SENSORS), readings.gather(1, order)[..., None]], 2
        )
        self.tokens = torch.cat([question[:, None], answers], 1)
        self.targets = readings.gather(1, asked[:, None]).squeeze(1)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return self.tokens[index], self.targets[index]


def main(mended, seed):
    seed_everything(seed)
    train = DataLoader(Questions(3200), batch_size=64, shuffle=True)
    val = DataLoader(Questions(320), batch_size=64)
    trainer = Trainer(max_epochs=10, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Answer(mended), train, val)
