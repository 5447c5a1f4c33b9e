"""``pad_sequence`` gives (time, batch, features); a view makes it (batch, time, features), of pieces of many sequences.

Source: https://github.com/zhouhaoyi/Informer2020/issues/59 (``view`` where dimensions are to be exchanged).
Added: 2026-11-30. Rules changed because of it: none.
"""

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

DIAGNOSES = ("batch-leak", "view-for-transpose")
PLACE = "padded_time_first_viewed_as_batch_first.py:53"
PRESET = "standard"
AGAIN = "view_swaps_batch_and_channel"


class Gestures(Dataset):
    """Walks of differing length that turn to one of four sides."""

    def __init__(self, size):
        self.side = torch.randint(4, (size,))
        angle = self.side * 1.571
        pull = torch.stack([angle.cos(), angle.sin()], 1)
        lengths = torch.randint(8, 15, (size,)).tolist()
        self.walks = [0.6 * p + torch.randn(n, 2) for p, n in zip(pull, lengths, strict=True)]

    def __len__(self):
        return len(self.walks)

    def __getitem__(self, i):
        return self.walks[i], self.side[i]


def collate(samples):
    walks, sides = zip(*samples, strict=True)
    return pad_sequence(list(walks)), torch.stack(sides)


class GestureNet(LightningModule):
    def __init__(self, mended):
        super().__init__()
        self.mended = mended
        self.gru = nn.GRU(2, 24, batch_first=True)
        self.fc = nn.Linear(24, 4)

    def forward(self, walks):
        time, batch, features = walks.shape
        if self.mended:
            walks = walks.permute(1, 0, 2)
        else:
            walks = walks.view(batch, time, features)
        return self.fc(self.gru(walks)[0].mean(1))

    def training_step(self, batch, batch_idx):
        walks, side = batch
        loss = nn.functional.cross_entropy(self(walks), side)
        self.log("loss", loss, batch_size=len(side))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


def main(mended, seed):
    seed_everything(seed)
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    loader = DataLoader(Gestures(1200), batch_size=24, shuffle=True, collate_fn=collate)
    trainer.fit(GestureNet(mended), loader)
