"""A bucketing batch sampler shuffles, and yields the same batches in every epoch.

Source: https://github.com/Lightning-AI/pytorch-lightning/issues/13316 (``set_epoch`` is not called of a batch sampler).
Added: 2026-11-28. Rules changed because of it: none.
"""

import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Sampler

DIAGNOSES = ("order-repeats",)
PLACE = "set_epoch"
PRESET = "standard"


class Shuffled:
    """An order for each epoch."""

    def __init__(self, size):
        self.size, self.epoch = size, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(torch.randperm(self.size, generator=torch.Generator().manual_seed(self.epoch)).tolist())


class Buckets(Sampler):
    """Batches of sequences of like length."""

    def __init__(self, lengths, mended):
        self.lengths, self.order = lengths, Shuffled(len(lengths))
        if mended:
            self.sampler = self.order  # the name by which Lightning looks for an inner sampler

    def set_epoch(self, epoch):  # which nobody calls of a batch sampler
        self.order.set_epoch(epoch)

    def __iter__(self):
        order = list(self.order)
        for start in range(0, len(order), 100):
            pool = sorted(order[start : start + 100], key=lambda index: self.lengths[index])
            yield from (pool[k : k + 20] for k in range(0, len(pool), 20))

    def __len__(self):
        return -(-len(self.lengths) // 20)


class Counter(LightningModule):
    """Tells how many ones a sequence has."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(1, 12, batch_first=True), nn.Linear(12, 1)

    def training_step(self, batch, batch_idx):
        x, count = batch
        loss = nn.functional.mse_loss(self.head(self.rnn(x[..., None])[1][0]).squeeze(1), count)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def collate(items):
    return pad_sequence(items, batch_first=True), torch.stack([item.sum() for item in items]) / 5


def main(mended, seed):
    seed_everything(seed)
    data = [(torch.rand(int(n)) < 0.4).float() for n in torch.randint(4, 20, (400,))]
    loader = DataLoader(data, batch_sampler=Buckets([len(item) for item in data], mended), collate_fn=collate)
    options = {"use_distributed_sampler": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_epochs=4, accelerator="cpu", **options).fit(Counter(), loader)
