"""Weak slices are told by what is known of samples, not by their classes under other names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from callbacks.erring import Held, Says, random_answers, run
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

pytestmark = pytest.mark.filterwarnings("ignore")

LOGITS, TARGET = random_answers(600, 4, seed=5)
NAMES = ("ant", "bee", "cat", "dog")


class Rows(Dataset[Any]):
    """Samples with what else is known of them."""

    def __init__(self, columns: Mapping[str, Any], logits: Tensor = LOGITS, target: Tensor = TARGET) -> None:
        self.columns = columns
        self.logits, self.target = logits, target

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: int) -> dict[str, Any]:
        more = {name: column[index] for name, column in self.columns.items()}
        return {"x": self.logits[index], "kind": self.target[index], **more}


class OfKinds(Says):
    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(1.0 * batch["x"] + 0 * self.offset, batch["kind"])


def conditions(held: Held) -> set[str]:
    return {name for part in held["weak_slices"] for name in part["conditions"]}


def listed(items: list[Any]) -> dict[str, Any]:
    """A collate function that leaves lists as they are."""
    return {
        name: torch.stack([item[name] for item in items]) if name in ("x", "kind") else [item[name] for item in items]
        for name in items[0]
    }


def of_one_class() -> Tensor:
    """All of class 2 are wrong."""
    logits = F.one_hot(TARGET, 4).float()
    return torch.where((TARGET == 2)[:, None], logits.roll(1, 1), logits)


@pytest.mark.parametrize("column", [TARGET * 10, [NAMES[label] for label in TARGET.tolist()]])
def test_the_target_under_another_name_is_no_slice(column: Any, tmp_path: Path) -> None:
    data = Rows({"category": column}, of_one_class())
    without = run(tmp_path / "without", DataLoader(Rows({}, of_one_class()), 50), OfKinds())
    held = run(tmp_path / "with", DataLoader(data, 50), OfKinds())
    assert conditions(held) == {"class"}
    assert held["tested_slices"] == without["tested_slices"] == 4


def test_several_kinds_of_a_class_are_slices(tmp_path: Path) -> None:
    breed = [f"{NAMES[label]} {at % 2}" for at, label in enumerate(TARGET.tolist())]
    logits = F.one_hot(TARGET, 4).float()
    weak = torch.tensor([name == "cat 1" for name in breed])
    logits[weak] = logits[weak].roll(1, 1)
    held = run(tmp_path, DataLoader(Rows({"breed": breed}, logits), 50), OfKinds())
    assert held["weak_slices"][0]["conditions"] == {"breed": "cat 1"}
