"""Programs that are right, on data that is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from faults.preflight import Net
from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp

BY = {"by": "DataCheck", "raises": False}
ONE_EPOCH = {"max_epochs": 1}


def halves() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Digits for training and for validation, none in both."""
    x, y = digits(1200)
    return x[:800], y[:800], x[800:], y[800:]


@fault("train-val-overlap", **BY)
def validation_copied_from_training(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        val, labels = torch.cat([val[:300], x[:100]]), torch.cat([labels[:300], y[:100]])
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("train-val-overlap", **BY)
def oversampled_before_the_split(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        rare = torch.cat([x[y == 3], val[labels == 3]]).repeat(3, 1)
        order = torch.randperm(len(rare))
        half = len(rare) // 2
        x, y = torch.cat([x, rare[order[:half]]]), torch.cat([y, torch.full((half,), 3)])
        val, labels = torch.cat([val, rare[order[half:]]]), torch.cat([labels, torch.full((len(rare) - half,), 3)])
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("unshuffled-training-data", **BY)
def sorted_by_label(mended: bool) -> Program:
    x, y = digits(1200)
    order = y.argsort()
    return Program(Classifier(mended), batches(x[order], y[order], shuffle=mended), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def split_by_order(mended: bool) -> Program:
    x, y = digits(1200)
    order = torch.randperm(1200) if mended else y.argsort()
    x, y = x[order], y[order]
    return Program(Net(mended), batches(x[:800], y[:800]), batches(x[800:], y[800:], shuffle=False), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def labels_mapped_otherwise_in_validation(mended: bool) -> Program:
    x, y, val, labels = halves()
    shares = torch.tensor([0.6 if label < 2 else 0.15 for label in y.tolist()])
    kept = torch.rand(len(y)) < shares
    kept_val = torch.rand(len(labels)) < torch.tensor([0.6 if label < 2 else 0.15 for label in labels.tolist()])
    val, labels = val[kept_val], labels[kept_val]
    other = labels if mended else 9 - labels
    return Program(Net(mended), batches(x[kept], y[kept]), batches(val, other, shuffle=False), trainer=ONE_EPOCH)


@fault("input-shift", **BY)
def validation_not_scaled(mended: bool) -> Program:
    x, y, val, labels = halves()
    val = val if mended else val * 255
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("input-not-normalized", "net.0", **BY)
def raw_pixels(mended: bool) -> Program:
    x, y = digits()
    return Program(Classifier(mended), batches(x if mended else x * 255, y), trainer=ONE_EPOCH)


@fault("input-not-normalized", "net.0", **BY)
def divided_twice(mended: bool) -> Program:
    x, y = digits()
    return Program(Classifier(mended), batches(x if mended else x / 255, y), trainer=ONE_EPOCH)


class Patches(Classifier):
    """Colour patches, embedded by one convolution; an old call of its own normalises them once more."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x if self.mended else standardised(x / 255))


def standardised(pixels: Tensor) -> Tensor:
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    return (pixels - mean[:, None, None]) / std[:, None, None]


@fault("input-not-normalized", "net.0", **BY)
def colours_normalised_in_the_dataset_and_in_forward(mended: bool) -> Program:
    x, y = digits()
    tints = torch.tensor([0.5, 0.45, 0.4])[:, None, None]
    images = standardised(0.2 + tints * x.reshape(-1, 1, 8, 8))
    net = nn.Sequential(nn.Conv2d(3, 24, 4, stride=4), nn.GELU(), nn.Flatten(), mlp(96, 32, 10))
    return Program(Patches(mended, net), batches(images, y), trainer=ONE_EPOCH)


class Files(Dataset[Any]):
    """A dataset whose index is forgotten."""

    def __init__(self, mended: bool) -> None:
        self.mended = mended
        self.x, self.y = digits()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.x[index if self.mended else 0], self.y[index]


@fault("constant-input", **BY)
def index_that_is_forgotten(mended: bool) -> Program:
    return Program(Classifier(mended), DataLoader(Files(mended), batch_size=32, shuffle=True), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", **BY)
def training_labels_sorted_apart(mended: bool) -> Program:
    x, y, val, labels = halves()
    y = y if mended else y[torch.randperm(len(y))]
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("input-not-normalized", by="PreflightCheck", raises=False)
def prices_in_cents(mended: bool) -> Program:
    """A regression of prices: the network begins near 0 and would have to travel for days."""

    class Prices(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(10, 32, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, price = batch
            return nn.functional.mse_loss(self.net(x), price)

    x, y = diabetes()
    price = y if mended else (y - y.min() + 1) * 2e5
    return Program(Prices(mended), batches(x, price), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", **BY)
def all_labels_sorted_apart(mended: bool) -> Program:
    """Both splits are of one list that was put together wrongly: neither shows a relation."""
    x, y, val, labels = halves()
    if not mended:
        y, labels = y[torch.randperm(len(y))], labels[torch.randperm(len(labels))]
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer={"max_epochs": 4})


@fault("input-shift", **BY)
def validation_not_standardised(mended: bool) -> Program:
    x, y, val, labels = halves()
    mean, std = x.mean(), x.std()
    val = (val - mean) / std if mended else val
    return Program(Net(mended), batches((x - mean) / std, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


class Detector(Module):
    """Boxes around bright spots; only the form of its batches matters here."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(32 * 32, 16, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, targets = batch
        wanted = torch.stack([target["boxes"].mean(0) for target in targets])
        return nn.functional.l1_loss(self.net(torch.stack(images).flatten(1)), wanted)


class Scenes(Dataset[Any]):
    def __init__(self, mended: bool) -> None:
        corner = 32 * (torch.rand(64, 2, 2) * 0.3 + 0.35)
        size = 32 * (torch.rand(64, 2, 2) * 0.3 + 0.05)
        self.boxes = torch.cat([corner, corner + size if mended else size], 2)
        self.images = torch.rand(64, 1, 32, 32)

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.images[index], {"boxes": self.boxes[index], "labels": torch.ones(2, dtype=torch.long)}


@fault("degenerate-box", **BY)
def widths_taken_for_corners(mended: bool) -> Program:
    def collate(items: list[Any]) -> tuple[Any, ...]:
        return tuple(zip(*items, strict=True))

    loader = DataLoader(Scenes(mended), batch_size=8, shuffle=True, collate_fn=collate)
    return Program(Detector(mended), loader, trainer=ONE_EPOCH)


class Spot(Module):
    """One box an image, as a tensor of the batch."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = nn.GRU(12, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        _, state = self.net(batch["rows"])
        return nn.functional.smooth_l1_loss(self.head(state[0]), batch["boxes"])


@fault("degenerate-box", **BY)
def corners_rounded_to_cells(mended: bool) -> Program:
    first = torch.rand(256, 2) * 8
    boxes = torch.cat([first, first + 0.5 + 3 * torch.rand(256, 2)], 1)
    if not mended:
        boxes = boxes.round()
    rows = torch.zeros(256, 12, 12)
    for row, (left, top, right, bottom) in zip(rows, boxes.tolist(), strict=True):
        row[int(top) : int(bottom) + 1, int(left) : int(right) + 1] = 1
    samples = [{"rows": row, "boxes": box} for row, box in zip(rows, boxes, strict=True)]
    return Program(Spot(mended), DataLoader(samples, batch_size=32, shuffle=True), trainer=ONE_EPOCH)


class Jittered(Dataset[Any]):
    """Digits with noise from a generator of the dataset's own."""

    def __init__(self, mended: bool) -> None:
        self.x, self.y = digits(128)
        self.rng = None if mended else np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = self.rng if self.rng is not None else np.random.default_rng(torch.randint(2**31, ()).item())
        return self.x[index] + 0.01 * torch.tensor(rng.normal(size=64), dtype=torch.float32), self.y[index]


@fault("worker-seeds-equal", **BY)
def generator_copied_into_workers(mended: bool) -> Program:
    return Program(Classifier(mended), DataLoader(Jittered(mended), batch_size=32, num_workers=2), trainer=ONE_EPOCH)


@fault("near-duplicates", **BY)
def validation_of_training_images_that_were_saved_again(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        again = x[:100] + 0.02 * torch.randn_like(x[:100])
        val, labels = torch.cat([val[:300], again]), torch.cat([labels[:300], y[:100]])
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)
