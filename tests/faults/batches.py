"""NaN that comes with the batch, in every shape a batch can have; and NaN that lies in the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, Dataset

from faults.registry import (
    Classifier,
    Module,
    Program,
    Recording,
    batches,
    diabetes,
    digits,
    fault,
    mlp,
    recorded,
    trained,
    wine,
)

NAN, INF = float("nan"), float("inf")


# --- nonfinite-input -----------------------------------------------------------------------------------------------


class Regressor(Module):
    def __init__(self, mended: bool, net: nn.Module | None = None) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 1) if net is None else net

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.net(x), y)


@fault("nonfinite-input")
def missing_value(mended: bool) -> Program:
    """One empty cell of a table."""
    x, y = diabetes()
    x[321, 4] = 0 if mended else NAN
    return recorded(Regressor(mended), x, y, bad=[321], mended=mended, max_epochs=4)


class Strokes(Module):
    """Rows of digits that hold ink, of all digits behind one another; ink is summed up, whosever row it is."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.row, self.head = nn.Linear(8, 12), nn.Linear(12, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        begins = batch["begins"]
        owner = torch.repeat_interleave(torch.arange(len(begins) - 1), begins.diff())
        summed = torch.zeros(len(begins) - 1, 12).index_add(0, owner, torch.tanh(self.row(batch["rows"])))
        return F.cross_entropy(self.head(summed), batch["digit"])


def behind_one_another(items: list[Any]) -> dict[str, Tensor]:
    rows = [image[: int(count)] for image, count, _ in items]
    begins = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return {"rows": torch.cat(rows), "begins": begins, "digit": torch.stack([digit for _, _, digit in items])}


@fault("nonfinite-input")
def missing_value_in_packed_rows(mended: bool) -> Program:
    """Samples of several lengths, and offsets that say where each begins."""
    x, y = digits(256)
    images, counts = x.reshape(-1, 8, 8).clone(), torch.randint(2, 9, (256,))
    images[143, 1, 5] = 0 if mended else NAN
    dataset = Recording(images, counts, y, bad=[143])
    loader = DataLoader(dataset, batch_size=32, shuffle=True, collate_fn=behind_one_another)
    return Program(Strokes(mended), loader, trainer={"max_epochs": 2}, recording=dataset)


@fault("nonfinite-input")
def infinite_target(mended: bool) -> Program:
    """A target that was divided by zero when the table was made."""
    x, y = diabetes()
    y[17] = 0 if mended else INF
    return recorded(Regressor(mended), x, y, bad=[17], mended=mended, max_epochs=4)


@fault("nonfinite-input")
def logarithm_of_an_empty_count(mended: bool) -> Program:
    """The logarithm of a count of 0, taken when the table was made: -inf, among other numbers no mask."""
    x, y = diabetes()
    x[205, 7] = 0 if mended else -INF
    return recorded(Regressor(mended), x, y, bad=[205], mended=mended, max_epochs=4)


@fault("nonfinite-input")
def logarithm_of_a_target_of_zero(mended: bool) -> Program:
    """The same in what is to be predicted."""
    x, y = diabetes()
    y[58] = 0 if mended else -INF
    return recorded(Regressor(mended), x, y, bad=[58], mended=mended, max_epochs=4)


@fault("nonfinite-input")
def missing_value_before_batch_norm(mended: bool) -> Program:
    """Batch norm spreads the NaN of one sample over all of them."""
    x, y = diabetes()
    x[99, 0] = 0 if mended else NAN
    net = nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))
    return recorded(Regressor(mended, net), x, y, bad=[99], mended=mended, max_epochs=4)


@fault("nonfinite-input", samples=[3], at_step=5, batch_idx=21)
def missing_value_under_accumulation(mended: bool) -> Program:
    """The second of four micro-batches has it."""
    x, y = diabetes()
    x[21 * 16 + 3, 0] = 0 if mended else NAN
    loader = batches(x[:384], y[:384], size=16, shuffle=False)
    return Program(Regressor(mended), loader, trainer={"max_epochs": 6, "accumulate_grad_batches": 4})


class Records(Dataset[dict[str, Any]]):
    """Wines as records with names, as a JSON file holds them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> dict[str, Any]:
        meta = {"id": i, "name": f"wine {i}", "vintage": 1990 + i % 9}
        return {"meta": meta, "inputs": (self.x[i, :6], {"rest": self.x[i, 6:]}), "label": self.y[i]}


class RecordClassifier(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        first, rest = batch["inputs"]
        return F.cross_entropy(self.net(torch.cat([first, rest["rest"]], dim=1)), batch["label"])


@fault("nonfinite-input", samples=[7], at_step=3, batch_idx=3)
def missing_value_in_a_nested_batch(mended: bool) -> Program:
    """A dict with strings, tuples and a dict in a tuple."""
    x, y = wine()
    order = torch.randperm(178)
    x, y = x[order], y[order]
    x[3 * 16 + 7, 11] = 0 if mended else NAN
    module = RecordClassifier(mended, mlp(13, 32, 3))
    return Program(module, DataLoader(Records(x, y), batch_size=16), trainer={"max_epochs": 5})


class Scenes(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Images of different sizes, each with the boxes and labels in it."""

    def __init__(self, bad: int | None) -> None:
        self.items = []
        x, y = digits(256)
        for i, (image, label) in enumerate(zip(x.view(-1, 1, 8, 8), y, strict=True)):
            padded = F.pad(image, (i % 4, 0, 0, i % 3))
            box = torch.tensor([[i % 4, 0.0, i % 4 + 8, 8]])
            self.items.append((padded, {"boxes": box if i != bad else box * NAN, "labels": label[None]}))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.items[i]


def lists(items: Sequence[Any]) -> tuple[list[Any], ...]:
    """Collate as detection does: a list of images, a list of targets."""
    return tuple(map(list, zip(*items, strict=True)))


class SceneDetector(Module):
    """One image after the other, as sizes differ; the loss is the mean over the images."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.box, self.label = nn.Linear(32, 4), nn.Linear(32, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = []
        for image, target in zip(*batch, strict=True):
            h = self.backbone(image[None])
            losses.append(F.smooth_l1_loss(self.box(h), target["boxes"] / 8))
            losses.append(F.cross_entropy(self.label(h), target["labels"]))
        return torch.stack(losses).mean()


@fault("nonfinite-input", samples=[2], at_step=9, batch_idx=9)
def broken_box_in_a_detection_batch(mended: bool) -> Program:
    """A list of images of different sizes and a list of target dicts."""
    loader = DataLoader(Scenes(None if mended else 9 * 8 + 2), batch_size=8, collate_fn=lists)
    return Program(SceneDetector(mended), loader, trainer={"max_epochs": 2})


def packed(items: Sequence[tuple[Tensor, Tensor]]) -> tuple[PackedSequence, Tensor]:
    """Collate sequences of different lengths for an RNN."""
    return pack_sequence([x for x, _ in items], enforce_sorted=False), torch.stack([y for _, y in items])


class SequenceClassifier(Module):
    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.gru(x)[1][0]), y)


@fault("nonfinite-input", at_step=8, batch_idx=8, samples=[4])
def missing_value_in_a_packed_sequence(mended: bool) -> Program:
    """Its numbers lie step by step, not sample by sample."""
    x, y = digits()
    rows = [image.view(8, 8)[: 3 + i % 6].clone() for i, image in enumerate(x)]
    rows[8 * 32 + 4][1, 1] = 0 if mended else NAN
    loader = DataLoader(list(zip(rows, y, strict=True)), batch_size=32, collate_fn=packed)
    return Program(SequenceClassifier(mended), loader, trainer={"max_epochs": 3})


@dataclass(slots=True)
class Visits:
    """What a patient had before, and what came of it."""

    past: Tensor
    outcome: Tensor | None = None


class OfVisits(Regressor):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        past, outcome = batch["visits"].past, batch["visits"].outcome
        return F.mse_loss(self.net(torch.as_tensor(past)), torch.as_tensor(outcome))


@fault("nonfinite-input", samples=[5], at_step=3, batch_idx=3)
def missing_value_in_a_dataclass(mended: bool) -> Program:
    """A dataclass with slots, in a dict."""
    x, y = diabetes()
    x[3 * 16 + 5, 2] = 0 if mended else NAN

    def collate(items: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        return {"visits": Visits(*map(torch.stack, zip(*items, strict=True))), "ward": "north"}

    return Program(
        OfVisits(mended), batches(x, y, size=16, shuffle=False, collate_fn=collate), trainer={"max_epochs": 2}
    )


@fault("nonfinite-input", samples=[5], at_step=3, batch_idx=3)
def missing_value_in_arrays(mended: bool) -> Program:
    """Arrays of NumPy in an object, of which the step makes copies as tensors."""
    x, y = diabetes()
    x[3 * 16 + 5, 2] = 0 if mended else NAN

    def collate(items: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        past, outcome = (np.stack([np.array(part) for part in column]) for column in zip(*items, strict=True))
        return {"visits": SimpleNamespace(past=past * 1.0, outcome=outcome)}

    class OfArrays(OfVisits):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            past, outcome = torch.tensor(batch["visits"].past).float(), torch.tensor(batch["visits"].outcome)
            return F.mse_loss(self.net(past), outcome)

    return Program(
        OfArrays(mended), batches(x, y, size=16, shuffle=False, collate_fn=collate), trainer={"max_epochs": 2}
    )


class OfRows(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        rows = batch["rows"].unbind() if isinstance(batch["rows"], Tensor) else batch["rows"]
        scores = torch.stack([self.net(part).mean(0) for part in rows])
        return F.cross_entropy(scores, torch.as_tensor(batch["class"]))


def rows_of_digits(bad: int | None, length: int) -> list[tuple[Tensor, int]]:
    """Digits as rows of pixels; of ``length``, or of as many as it comes to if that is 0."""
    x, y = digits(128)
    rows = [image.view(8, 8)[: length or 3 + i % 5].clone() for i, image in enumerate(x)]
    if bad is not None:
        rows[bad][1, 1] = NAN
    return list(zip(rows, y.tolist(), strict=True))


@fault("nonfinite-input", samples=[6], at_step=2, batch_idx=2)
def missing_value_in_a_nested_tensor(mended: bool) -> Program:
    """A jagged tensor, which cannot be indexed."""

    def collate(items: Sequence[tuple[Tensor, int]]) -> dict[str, Any]:
        rows = torch.nested.nested_tensor([row for row, _ in items], layout=torch.jagged)
        return {"rows": rows, "class": torch.tensor([label for _, label in items])}

    loader = DataLoader(rows_of_digits(None if mended else 38, 0), batch_size=16, collate_fn=collate)
    return Program(OfRows(mended, mlp(8, 16, 10)), loader, trainer={"max_epochs": 2})


@fault("nonfinite-input", samples=[6], at_step=2, batch_idx=2)
def missing_value_in_a_list_of_one_length(mended: bool) -> Program:
    """One tensor a sample, all as long as each other: their length is not that of the batch."""

    def collate(items: Sequence[tuple[Tensor, int]]) -> dict[str, Any]:
        return {"rows": [row for row, _ in items], "class": [label for _, label in items]}

    loader = DataLoader(rows_of_digits(None if mended else 38, 5), batch_size=16, collate_fn=collate)
    return Program(OfRows(mended, mlp(8, 16, 10)), loader, trainer={"max_epochs": 2})


@dataclass
class Graph:
    """Nodes with features and classes, and edges between them."""

    x: Tensor
    edges: Tensor
    y: Tensor

    def to(self, device: torch.device, **options: Any) -> Graph:
        return replace(self, x=self.x.to(device), edges=self.edges.to(device), y=self.y.to(device))


class MeanConv(nn.Module):
    """The mean over the neighbours."""

    def __init__(self, inner: int, outer: int, least: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, outer)
        self.least = least

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        source, target = edges
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.bincount(target, minlength=len(x)).clamp(min=self.least)
        return self.linear(total / degree[:, None])


class GraphClassifier(Module):
    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.conv = MeanConv(13, 16, least=int(mended))
        self.head = nn.Linear(16, 3)

    def training_step(self, batch: Graph, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.head(F.relu(self.conv(batch.x, batch.edges))), batch.y)


@fault("nonfinite-activation", "conv", source="total / degree", op="div", at_step=4, splits=False)
def node_without_neighbours(mended: bool) -> Program:
    """0/0 in the mean over no neighbour; a graph cannot be cut into samples."""
    x, y = wine()
    graphs = []
    for i in range(40):
        pick = torch.randperm(178)[:30]
        near = torch.cdist(x[pick], x[pick]).topk(4, largest=False).indices[:, 1:]
        edges = torch.stack([near.flatten(), torch.arange(30).repeat_interleave(3)])
        graphs.append(Graph(x[pick], edges[:, edges[1] != 11] if i == 4 else edges, y[pick]))
    return Program(GraphClassifier(mended), DataLoader(graphs, batch_size=None), trainer={"max_epochs": 2})


# --- nonfinite-parameter -------------------------------------------------------------------------------------------


class TwoParts(Module):
    """A backbone and a head on digits."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.backbone(x)), y)


@fault("nonfinite-parameter", "head.weight", "head", at_step=16)
def resumed_from_nan_weights(mended: bool) -> Program:
    """A checkpoint that was written after the weights had broken."""

    def write(folder: Path) -> Path:
        path = trained(TwoParts(mended), batches(*digits()), folder)
        checkpoint = torch.load(path, weights_only=True)
        if not mended:
            checkpoint["state_dict"]["head.weight"][3, 5] = NAN
        torch.save(checkpoint, path)
        return path

    return Program(TwoParts(mended), batches(*digits()), trainer={"max_epochs": 4}, ckpt_path=write)


@fault("nonfinite-parameter", "backbone.0.weight", "backbone.0", at_step=0)
def pretrained_weights_with_nan(mended: bool) -> Program:
    """Weights of a backbone, loaded before fit."""
    module, pretrained = TwoParts(mended), TwoParts(mended).backbone.state_dict()
    if not mended:
        pretrained["0.weight"][:, 12] = NAN
    module.backbone.load_state_dict(pretrained)
    return Program(module, batches(*digits()), trainer={"max_epochs": 3})


class FrozenBackbone(TwoParts):
    """Fine-tune the head on a frozen backbone in eval mode."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.backbone.eval()


@fault("nonfinite-parameter", "backbone.1.running_var", "backbone.1", at_step=0)
def running_variance_of_nan(mended: bool) -> Program:
    """A buffer: running statistics that were poisoned when the backbone was trained."""
    module = FrozenBackbone(mended)
    if not mended:
        module.backbone[1].running_var[8] = NAN
    return Program(module, batches(*digits()), trainer={"max_epochs": 3})
