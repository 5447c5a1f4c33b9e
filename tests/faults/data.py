"""Programs that are right, on data that is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.seed import pl_worker_init_function
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from faults.preflight import Net, Regressor
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


class Bags(Classifier):
    """Topics of bags of words, as ``(words, offsets, topics)``."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, mlp(16, 16, 4))
        self.words = nn.EmbeddingBag(80, 16)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        words, offsets, topics = batch
        return nn.functional.cross_entropy(self(self.words(words, offsets)), topics)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch[1]))


def bagged(rows: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    starts = torch.tensor([0] + [len(words) for words, _ in rows]).cumsum(0)[:-1]
    return torch.cat([words for words, _ in rows]), starts, torch.tensor([topic for _, topic in rows])


@fault("class-shift", **BY)
def bags_of_words_split_by_order(mended: bool) -> Program:
    topics = torch.arange(800) % 4 if mended else torch.arange(4).repeat_interleave(200)
    rows = [(torch.randint(20, (5 + at % 7,)) + 20 * topic, topic) for at, topic in enumerate(topics.tolist())]
    train = DataLoader(rows[:600], batch_size=32, shuffle=True, collate_fn=bagged)
    return Program(Bags(mended), train, DataLoader(rows[600:], batch_size=50, collate_fn=bagged), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def few_rows_split_by_order(mended: bool) -> Program:
    x, y = digits(1200)
    x, y = x[y < 3][:160], y[y < 3][:160]
    order = torch.randperm(160) if mended else y.argsort()
    x, y = x[order], y[order]
    return Program(Net(mended), batches(x[:120], y[:120]), batches(x[120:], y[120:], shuffle=False), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def labels_mapped_otherwise_in_validation(mended: bool) -> Program:
    x, y, val, labels = halves()
    shares = torch.tensor([0.6 if label < 2 else 0.15 for label in y.tolist()])
    kept = torch.rand(len(y)) < shares
    kept_val = torch.rand(len(labels)) < torch.tensor([0.6 if label < 2 else 0.15 for label in labels.tolist()])
    val, labels = val[kept_val], labels[kept_val]
    other = labels if mended else 9 - labels
    return Program(Net(mended), batches(x[kept], y[kept]), batches(val, other, shuffle=False), trainer=ONE_EPOCH)


@fault("class-imbalance", **BY)
def rates_cut_off_to_classes(mended: bool) -> Program:
    x = torch.randn(800, 8)
    rates = torch.sigmoid(x[:, 0] - 1)
    return Program(
        Net(mended, mlp(8, 16, 2)), batches(x, (rates > 0.3).long() if mended else rates.long()), trainer=ONE_EPOCH
    )


@fault("class-imbalance", **BY)
def masks_divided_once_more(mended: bool) -> Program:
    class Ink(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, mask = batch
            return nn.functional.cross_entropy(self.net(x), mask)

    x = digits()[0].reshape(-1, 1, 8, 8)
    mask = (x[:, 0] > 0.5).long()
    return Program(Ink(mended), batches(x, mask if mended else mask // 255), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def classes_numbered_for_each_split(mended: bool) -> Program:
    """Validation lacks a rare class, and numbers those behind it by itself; its shares are like those of training."""
    x, y = torch.randn(1200, 8), torch.randint(0, 10, (1200,))
    y[(y == 2) & (torch.arange(1200) % 4 > 0)] = 9
    x += 2 * torch.randn(10, 8)[y]
    kept = y[800:] != 2
    val, labels = x[800:][kept], y[800:][kept]
    labels = labels if mended else labels.unique(return_inverse=True)[1]
    return Program(
        Net(mended, mlp(8, 32, 10)), batches(x[:800], y[:800]), batches(val, labels, shuffle=False), trainer=ONE_EPOCH
    )


class PartlyLabelled(Net):
    """Samples without a class have a mark in its place, which the loss leaves out."""

    def __init__(self, mended: bool, mark: int) -> None:
        super().__init__(mended)
        self.mark = mark

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if self.mark < 0:
            return nn.functional.cross_entropy(self(x)[y >= 0], y[y >= 0])
        return nn.functional.cross_entropy(self(x), y, ignore_index=self.mark)


def partly_labelled(mended: bool, mark: int) -> Program:
    x, y, val, labels = halves()
    y[torch.rand(len(y)) < 0.6] = mark
    if not mended:
        common = labels < 5
        val, labels = val[common], labels[common]
    return Program(PartlyLabelled(mended, mark), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("class-shift", **BY)
def partly_labelled_and_validated_on_half_of_the_classes(mended: bool) -> Program:
    return partly_labelled(mended, -1)


@fault("class-shift", **BY)
def ignored_by_the_loss_and_validated_on_half_of_the_classes(mended: bool) -> Program:
    return partly_labelled(mended, 255)


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


def anywhere(n: int = 512) -> tuple[Tensor, Tensor]:
    """Digits in three tints ``(n, 3, 8, 8)`` between 0 and 1, each at another place: no pixel has a mean of its own."""
    x, y = digits(n)
    shifts = torch.randint(8, (n, 2)).tolist()
    images = torch.stack([one.roll(shift, (0, 1)) for one, shift in zip(x.reshape(-1, 8, 8), shifts, strict=True)])
    return images[:, None] * torch.tensor([1.0, 0.8, 0.6])[:, None, None], y


@fault("input-shift", **BY)
def validation_of_raw_pixels(mended: bool) -> Program:
    x, y = anywhere()
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16), nn.GELU(), nn.Flatten(), nn.Linear(576, 10))
    val = standardised(x[384:]) if mended else x[384:]
    loaders = batches(standardised(x[:384]), y[:384]), batches(val, y[384:], shuffle=False)
    return Program(Net(mended, net), *loaders, trainer=ONE_EPOCH)


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


@fault("input-not-normalized", by="PreflightCheck", raises=False)
def energies_given_to_the_loss_first(mended: bool) -> Program:
    """Energies of a million, the target before the prediction: a loss that is the same either way round."""

    class Energies(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(10, 32, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, energy = batch
            return nn.functional.l1_loss(energy, self.net(x))

    x, y = diabetes()
    return Program(Energies(mended), batches(x, y if mended else y * 1e5 + 1e6), trainer=ONE_EPOCH)


@fault("input-not-normalized", by="PreflightCheck", raises=False)
def residuals_of_pascals(mended: bool) -> Program:
    """Pressures of a flow, whose residuals are held against zeros, as solvers of equations do."""

    class Flow(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(10, 32, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            place, pressure = batch
            residual = self.net(place) - pressure
            return nn.functional.mse_loss(residual, torch.zeros_like(residual))

    x, y = diabetes()
    pressure = y if mended else 1e5 + 1e4 * y
    return Program(Flow(mended), batches(x, pressure), trainer=ONE_EPOCH)


@fault("input-not-normalized", by="PreflightCheck", raises=False)
def energies_in_a_squared_error_by_hand(mended: bool) -> Program:
    """No loss function of torch is called: the program takes the difference, its square and the mean itself."""

    class Energies(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, energy = batch
            return (self(x) - energy).square().mean()

    x, y = diabetes()
    return Program(Energies(mended), batches(x, y if mended else y * 1e4 + 1e5), trainer=ONE_EPOCH)


class Columns(Net):
    """A table whose numbers come as a list, a column each."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        columns, y = batch
        return nn.functional.cross_entropy(self(torch.cat(columns, 1)), y)


@fault("labels-unrelated-to-inputs", **BY)
def labels_of_a_list_of_columns_sorted_apart(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        y, labels = y[torch.randperm(len(y))], labels[torch.randperm(len(labels))]
    rows, others = (
        [([*sample[:, None]], label) for sample, label in zip(*split, strict=True)] for split in ((x, y), (val, labels))
    )
    loaders = DataLoader(rows, batch_size=32, shuffle=True), DataLoader(others, batch_size=32)
    return Program(Columns(mended), *loaders, trainer={"max_epochs": 4})


@fault("labels-unrelated-to-inputs", **BY)
def all_labels_sorted_apart(mended: bool) -> Program:
    """Both splits are of one list that was put together wrongly: neither shows a relation."""
    x, y, val, labels = halves()
    if not mended:
        y, labels = y[torch.randperm(len(y))], labels[torch.randperm(len(labels))]
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer={"max_epochs": 4})


@fault("labels-unrelated-to-inputs", **BY)
def all_labels_sorted_apart_and_learned_by_heart(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        y, labels = y[torch.randperm(len(y))], labels[torch.randperm(len(labels))]
    module = Net(mended, mlp(64, 256, 10), rate=1e-2)
    return Program(module, batches(x[:320], y[:320]), batches(val, labels, shuffle=False), trainer={"max_epochs": 16})


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


@fault("degenerate-box", **BY)
def corners_of_several_boxes_a_picture(mended: bool) -> Program:
    """A tensor ``(n, k, 4)`` in each batch, filled up with -1; some boxes have no width."""

    class First(Spot):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.l1_loss(self.head(self.net(batch["rows"])[0][:, -1]), batch["boxes"][:, 0])

    first = torch.rand(256, 3, 2) * 8
    boxes = torch.cat([first, first + 0.5 + 3 * torch.rand(256, 3, 2)], 2)
    boxes[::2, 2] = -1
    if not mended:
        boxes[:8, 0, 2] = boxes[:8, 0, 0]
    samples = [{"rows": torch.rand(12, 12), "boxes": each} for each in boxes]
    return Program(First(mended), DataLoader(samples, batch_size=32, shuffle=True), trainer=ONE_EPOCH)


@dataclass
class Cell:
    """What stands in one picture, as a record."""

    bboxes: Tensor
    kind: int


@fault("degenerate-box", **BY)
def corners_of_records_cut_at_the_middle(mended: bool) -> Program:
    class Cells(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(64, 16, 4)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, cells = batch
            return nn.functional.l1_loss(self.net(x), torch.cat([cell.bboxes for cell in cells]))

    first = torch.rand(256, 2)
    boxes = torch.cat([first, first + 0.05 + 0.3 * torch.rand(256, 2)], 1)
    if not mended:
        boxes[:40] = boxes[:40].clamp(max=0.5)
    samples = [(x, Cell(box[None], 0)) for x, box in zip(digits(256)[0], boxes, strict=True)]

    def collate(items: list[Any]) -> tuple[Tensor, list[Cell]]:
        return torch.stack([x for x, _ in items]), [cell for _, cell in items]

    loader = DataLoader(samples, batch_size=16, shuffle=True, collate_fn=collate)
    return Program(Cells(mended), loader, trainer=ONE_EPOCH)


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


@fault("worker-seeds-equal", **BY)
def generator_that_lightnings_seeds_do_not_reach(mended: bool) -> Program:
    """``seed_everything(seed, workers=True)`` gives each loader this function."""
    seeds = partial(pl_worker_init_function, rank=0)
    loader = DataLoader(Jittered(mended), batch_size=32, num_workers=2, worker_init_fn=seeds)
    return Program(Classifier(mended), loader, trainer=ONE_EPOCH)


@fault("near-duplicates", **BY)
def validation_of_training_images_that_were_saved_again(mended: bool) -> Program:
    x, y, val, labels = halves()
    if not mended:
        again = x[:100] + 0.02 * torch.randn_like(x[:100])
        val, labels = torch.cat([val[:300], again]), torch.cat([labels[:300], y[:100]])
    return Program(Net(mended), batches(x, y), batches(val, labels, shuffle=False), trainer=ONE_EPOCH)


@fault("near-duplicates", **BY)
def images_noised_before_the_split(mended: bool) -> Program:
    """Most have a copy, so that first neighbours say nothing of how the others lie."""
    x, y = digits(600)
    parts = (x[:480], y[:480]), (x[480:], y[480:])
    if not mended:
        both, labels, order = torch.cat([x, x + 0.01 * torch.randn_like(x)]), torch.cat([y, y]), torch.randperm(1200)
        parts = tuple((both[rows], labels[rows]) for rows in order.split(960))
    return Program(Net(mended), batches(*parts[0]), batches(*parts[1], shuffle=False), trainer=ONE_EPOCH)


class Numbers(Module):
    """Learns numbers from ``(x, y)`` batches."""

    def __init__(self, mended: bool, net: nn.Module, rate: float = 1e-2) -> None:
        super().__init__(mended, rate)
        self.net = net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x).reshape(y.shape), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


def table(n: int = 900, columns: int = 8) -> tuple[Tensor, Tensor]:
    """Rows of measurements, and what hangs on them in part."""
    x = torch.randn(n, columns)
    y = x @ torch.randn(columns) / columns**0.5 + 0.5 * torch.sin(2 * x[:, 1]) + 0.3 * torch.randn(n)
    return x, y


def parted(x: Tensor, y: Tensor, first: int, **options: Any) -> tuple[DataLoader[Any], DataLoader[Any]]:
    return batches(x[:first], y[:first], **options), batches(x[first:], y[first:], shuffle=False)


@fault("labels-unrelated-to-inputs", **BY)
def numbers_shuffled_in_training(mended: bool) -> Program:
    x, y = table()
    if not mended:
        y[:600] = y[:600][torch.randperm(600)]
    return Program(Numbers(mended, mlp(8, 32, 1)), *parted(x, y, 600), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", **BY)
def numbers_shuffled_in_validation_of_three_targets(mended: bool) -> Program:
    x, y = table()
    wanted = torch.stack([y, x[:, 2] + x[:, 3] ** 2, x[:, 0] - x[:, 4] + 0.3 * torch.randn(900)], 1)
    if not mended:
        wanted[600:] = wanted[600:][torch.randperm(300)]
    return Program(Numbers(mended, mlp(8, 32, 3)), *parted(x, wanted, 600), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", **BY)
def all_numbers_sorted_apart(mended: bool) -> Program:
    """Validation is too small to show anything."""
    x, y = table()
    y = y if mended else y[torch.randperm(900)]
    return Program(Numbers(mended, mlp(8, 32, 1)), *parted(x, y, 860), trainer={"max_epochs": 4})


@fault("labels-unrelated-to-inputs", **BY)
def all_numbers_shuffled_under_a_loss_for_outliers(mended: bool) -> Program:
    class Robust(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return nn.functional.smooth_l1_loss(self.net(x)[:, 0], y)

    x, y = table()
    y = y if mended else y[torch.randperm(900)]
    return Program(Robust(mended, mlp(8, 32, 1)), *parted(x, y, 600), trainer={"max_epochs": 4})


class Table(Dataset[Any]):
    """Rows as libraries for tables give them: a mapping, with the class in a column of its own."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.kinds, self.y = x, torch.randint(3, (len(x), 1)), y[:, None]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: int) -> dict[str, Tensor]:
        return {"continuous": self.x[at], "categorical": self.kinds[at], "target": self.y[at]}


class OnTable(Module):
    """Begins with logits that are large, as after a batch norm: its first loss is not ln 2."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, 1e-2)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 2))
        nn.init.normal_(self.net[3].weight, std=0.3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch["continuous"]), batch["target"][:, 0])


@fault("labels-unrelated-to-inputs", **BY)
def column_of_classes_shuffled(mended: bool) -> Program:
    """Nothing is left for validation."""
    x, y = table()
    kinds = (y > 0).long()
    data_set = Table(x, kinds if mended else kinds[torch.randperm(900)])
    return Program(OnTable(mended), DataLoader(data_set, batch_size=32, shuffle=True), trainer={"max_epochs": 4})


@fault("labels-unrelated-to-inputs", **BY)
def answers_of_yes_and_no_shuffled(mended: bool) -> Program:
    class Answers(Numbers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.net(x)[:, 0], y)

    x, y = table()
    yes = (y > 0).float()
    yes = yes if mended else yes[torch.randperm(900)]
    return Program(Answers(mended, mlp(8, 32, 1)), *parted(x, yes, 600), trainer={"max_epochs": 4})


@fault("target-leak", **BY)
def target_among_the_columns(mended: bool) -> Program:
    x, y = table()
    made = torch.randn(900) if mended else 3 * y + 1
    x = torch.cat([x, made[:, None]], 1)
    return Program(Numbers(mended, mlp(9, 32, 1)), *parted(x, y, 600), trainer=ONE_EPOCH)


@fault("target-leak", **BY)
def column_made_of_the_target(mended: bool) -> Program:
    x, y = table()
    price = y.exp()
    tax = (price + (price - 2).clamp_min(0)) * (torch.rand(900) if mended else 1)
    x = torch.cat([x, (tax - tax.mean())[:, None] / tax.std()], 1)
    return Program(Numbers(mended, mlp(9, 32, 1)), *parted(x, price, 600), trainer=ONE_EPOCH)


@fault("target-leak", **BY)
def class_among_the_columns(mended: bool) -> Program:
    x, y = table()
    kind = (y > 0).long() + (y > 1)
    code = (torch.randint(3, (900,)) if mended else kind) - 1.0
    x = torch.cat([x, code[:, None]], 1)
    return Program(Net(mended, mlp(9, 32, 3)), *parted(x, kind, 600), trainer=ONE_EPOCH)


@fault("target-leak", **BY)
def answer_among_the_columns(mended: bool) -> Program:
    """Yes or no as a float, as a loss of logits takes it."""

    class Answers(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(9, 32, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.net(x)[:, 0], y)

    x, y = table()
    answer = (y > 0).float()
    x = torch.cat([x, (torch.randint(2, (900,)) if mended else answer)[:, None]], 1)
    return Program(Answers(mended), *parted(x, answer, 600), trainer=ONE_EPOCH)


def series(n: int, columns: int = 1) -> Tensor:
    """Steps ``(n, columns)`` that hang on the steps before them."""
    steps = [torch.zeros(columns)]
    for _ in range(n - 1):
        steps.append(0.9 * steps[-1] + 0.4 * torch.randn(columns))
    return torch.stack(steps)


@fault("target-leak", **BY)
def window_that_holds_its_target(mended: bool) -> Program:
    steps = series(700, 3)
    x = steps.unfold(0, 16, 1).transpose(1, 2)[:-1].contiguous()
    y = (steps[16:] if mended else steps[15:-1])[:, 1]
    net = nn.Sequential(nn.Flatten(), mlp(48, 16, 1))
    return Program(Numbers(mended, net), *parted(x, y, 500), trainer=ONE_EPOCH)


@fault("target-leak", **BY)
def window_that_holds_all_of_its_horizon(mended: bool) -> Program:
    steps = series(700)[:, 0]
    x, ahead = steps.unfold(0, 24, 1), steps.unfold(0, 6, 1)
    y = ahead[24:] if mended else ahead[18:-6]
    return Program(Numbers(mended, mlp(24, 16, 6)), *parted(x[: len(y)], y, 500), trainer=ONE_EPOCH)


@fault("train-val-overlap", **BY)
def windows_split_at_random(mended: bool) -> Program:
    steps = series(900, 2)
    x, y = steps.unfold(0, 12, 2)[:-1].contiguous(), steps[12::2, 0]
    order = torch.arange(len(y)) if mended else torch.randperm(len(y))
    net = nn.Sequential(nn.Flatten(), mlp(24, 16, 1))
    return Program(Numbers(mended, net), *parted(x[order], y[order], 330), trainer=ONE_EPOCH)


def rarer() -> tuple[Tensor, Tensor]:
    """Four classes, each rarer than the one before."""
    y = torch.multinomial(torch.tensor([0.6, 0.25, 0.1, 0.05]), 1200, replacement=True)
    return torch.randn(1200, 8) + torch.randn(4, 8)[y], y


class Weighted(Net):
    def __init__(self, mended: bool, weight: Tensor) -> None:
        super().__init__(mended, mlp(8, 32, 4))
        self.loss = nn.CrossEntropyLoss(weight=4 * weight / weight.sum())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return self.loss(self(x), y)


@fault("class-weights-misplaced", **BY)
def weights_that_are_shares(mended: bool) -> Program:
    x, y = rarer()
    counts = torch.bincount(y[:800]).float()
    return Program(Weighted(mended, 1 / counts if mended else counts), *parted(x, y, 800), trainer=ONE_EPOCH)


@fault("class-weights-misplaced", **BY)
def weights_in_the_order_of_names(mended: bool) -> Program:
    x, y = rarer()
    weight = 1 / torch.bincount(y[:800]).float()
    return Program(Weighted(mended, weight if mended else weight[[2, 0, 3, 1]]), *parted(x, y, 800), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", **BY)
def training_texts_shuffled(mended: bool) -> Program:
    """Three topics with words of their own, among words of all."""
    y = torch.randint(3, (1300,))
    words = torch.randint(20, (1300, 24)) + 20 * (y[:, None] + 1) * (torch.rand(1300, 24) < 0.4)
    x = torch.stack([row[torch.randperm(24)] for row in words])
    if not mended:
        y[:900] = y[:900][torch.randperm(900)]
    net = nn.Sequential(nn.EmbeddingBag(80, 16), nn.Linear(16, 3))
    return Program(Net(mended, net), *parted(x, y, 900), trainer=ONE_EPOCH)
