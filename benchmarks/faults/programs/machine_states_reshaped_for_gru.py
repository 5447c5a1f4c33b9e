"""The state of a machine at every step: the recurrent layer runs through the steps of several machines.

Source: https://github.com/sherjilozair/ctc/issues/1 (a reshape where the batch and time are to be swapped).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

DIAGNOSES = ("batch-leak",)
PLACE = "machine_states_reshaped_for_gru.py:32"
PRESET = "standard"
AGAIN = "frames_attend_across_videos"


class StateTagger(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.project = nn.Sequential(nn.Linear(5, 24), nn.LayerNorm(24), nn.ReLU())
        self.recurrent = nn.GRU(24, 32)
        self.tag = nn.Linear(32, 3)

    def forward(self, readings):
        machines, steps, _ = readings.shape
        features = self.project(readings)
        if self.mended:
            states = self.recurrent(features.transpose(0, 1))[0].transpose(0, 1)
        else:
            states = self.recurrent(features.reshape(steps, machines, -1))[0].reshape(machines, steps, -1)
        return self.tag(states)

    def shared_step(self, batch):
        readings, states = batch
        scores = self(readings)
        loss = nn.functional.cross_entropy(scores.flatten(0, 1), states.flatten())
        return loss, (scores.argmax(-1) == states).float().mean()

    def training_step(self, batch, batch_idx):
        loss, accuracy = self.shared_step(batch)
        self.log_dict({"train/loss": loss, "train/accuracy": accuracy})
        return loss

    def validation_step(self, batch, batch_idx):
        loss, accuracy = self.shared_step(batch)
        self.log_dict({"val/loss": loss, "val/accuracy": accuracy})

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=5e-3)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


def machines(count, steps=20):
    """Readings (count, steps, 5) in which now and then a switch shows, and the state that it leaves the machine in."""
    switched = torch.rand(count, steps) < 0.25
    switched[:, 0] = True
    to = torch.randint(3, (count, steps))
    last = torch.where(switched, torch.arange(steps), 0).cummax(1).values
    readings = 0.3 * torch.randn(count, steps, 5)
    readings[..., :3] += (nn.functional.one_hot(to, 3) * switched[..., None]) * 2.5
    return TensorDataset(readings, to.gather(1, last))


def main(mended, seed):
    seed_everything(seed)
    train = DataLoader(machines(1280), batch_size=32, shuffle=True)
    val = DataLoader(machines(256), batch_size=32)
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(StateTagger(mended), train, val)
