"""Weak slices are told by what is known of samples, not by their classes under other names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Held, Says, random_answers, run
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import read_journal
from lightning_debugkit.evaluation.error_analysis.collected_answers import AnswerCollector, merged_answers
from lightning_debugkit.evaluation.error_analysis.task import Task
from lightning_debugkit.evaluation.predictions.readings import Reading

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


def test_words_in_a_column_of_numbers_are_no_number(tmp_path: Path) -> None:
    wards: list[Any] = [500 + at if at < 300 else "unknown" for at in range(600)]
    held = run(tmp_path, DataLoader(Rows({"ward": wards}), 100, collate_fn=listed), OfKinds())
    assert held["n"] == 600
    rows = (tmp_path / "debugkit" / "misclassified.csv").read_text().splitlines()
    assert rows[0].endswith("ward")
    told = {int(row.split(",")[0]): row.split(",")[-1] for row in rows[1:]}
    assert told == {index: str(wards[index]) if index < 300 else "" for index in told}


def test_numbers_in_a_column_of_words_are_words(tmp_path: Path) -> None:
    wards: list[Any] = ["north" if at < 300 else 1 for at in range(600)]
    run(tmp_path, DataLoader(Rows({"ward": wards}), 100, collate_fn=listed), OfKinds())
    rows = (tmp_path / "debugkit" / "misclassified.csv").read_text().splitlines()
    told = {int(row.split(",")[0]): row.split(",")[-1] for row in rows[1:]}
    assert told == {index: str(wards[index]) for index in told}


@pytest.mark.parametrize("kind", [torch.int64, torch.float64])
def test_identity_numbers_of_nine_digits_are_apart(kind: torch.dtype, tmp_path: Path) -> None:
    hospital = 100_000_001 + torch.arange(600) % 2
    logits = F.one_hot(TARGET, 4).float()
    weak = (hospital == 100_000_002) & (torch.arange(600) % 5 > 0)
    logits[weak] = logits[weak].roll(1, 1)
    held = run(tmp_path, DataLoader(Rows({"hospital": hospital.to(kind)}, logits), 50), OfKinds())
    assert held["weak_slices"][0]["conditions"] == {"hospital": "100000002"}
    table = (tmp_path / "debugkit" / "misclassified.csv").read_text()
    assert ",100000002\n" in table


def test_a_column_with_infinities_costs_no_analysis(tmp_path: Path) -> None:
    speed = torch.where(torch.arange(600) % 3 > 0, torch.inf, torch.arange(600.0))
    assert run(tmp_path, DataLoader(Rows({"speed": speed}), 50), OfKinds())["n"] == 600


@pytest.mark.parametrize("missing", [1, 450])
def test_a_value_that_is_missing_costs_no_column(missing: int, tmp_path: Path) -> None:
    sites: list[Any] = [None if at == missing else f"site {at % 3}" for at in range(600)]
    logits = F.one_hot(TARGET, 4).float()
    weak = torch.tensor([site == "site 1" for site in sites])
    logits[weak] = logits[weak].roll(1, 1)
    held = run(tmp_path, DataLoader(Rows({"site": sites}, logits), 50, collate_fn=listed), OfKinds())
    (part,) = [part for part in held["weak_slices"] if part["conditions"] == {"site": "site 1"}]
    assert part["n"] == sites.count("site 1")


def payload(first: int, columns: dict[str, Any]) -> Any:
    gathering = AnswerCollector(Task("multiclass", "samples", "logits", 4), list(columns), 100)
    rows = slice(first, first + 20)
    gathering.add(Reading(LOGITS[rows], TARGET[rows], ("a", "b")), torch.arange(first, first + 20), columns)
    return gathering.payload()


def test_columns_of_ranks_are_joined_by_name() -> None:
    camera, hour = torch.zeros(20), torch.full((20,), 13.0)
    found = merged_answers(
        [payload(0, {"camera": camera, "hour": hour}), payload(20, {"hour": hour, "lens": ["wide"] * 20})]
    )
    assert found is not None
    assert list(found.columns) == ["camera", "hour", "lens"]
    assert found.columns["hour"].tolist() == [13.0] * 40
    assert found.columns["camera"][:20].tolist() == [0.0] * 20
    assert all(value != value for value in found.columns["camera"][20:].tolist())
    assert found.columns["lens"].tolist() == [None] * 20 + ["wide"] * 20


def test_an_entry_called_class_is_a_slice_of_its_own(tmp_path: Path) -> None:
    fare = ["economy" if at % 5 == 0 else "business" for at in range(600)]
    logits = F.one_hot(TARGET, 4).float()
    weak = torch.tensor([name == "economy" for name in fare])
    logits[weak] = logits[weak].roll(1, 1)
    held = run(tmp_path, DataLoader(Rows({"class": fare, "loader": fare}, logits), 50), OfKinds())
    assert held["weak_slices"][0]["conditions"] in ({"class": "economy"}, {"loader": "economy"})
    (told,) = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "weak-slice"]
    assert "is economy" in told.message
    assert (
        held["tested_slices"] > run(tmp_path / "without", DataLoader(Rows({}, logits), 50), OfKinds())["tested_slices"]
    )


def test_an_entry_called_loader_is_kept_beside_the_number_of_the_loader(tmp_path: Path) -> None:
    first, second = (Rows({"loader": [f"{word} {at % 2}" for at in range(600)]}) for word in ("lift", "crane"))
    run(tmp_path, [DataLoader(first, 50), DataLoader(second, 50)], OfKinds())
    header, *rows = (tmp_path / "debugkit" / "misclassified.csv").read_text().splitlines()
    assert header.split(",")[-2:] == ["loader", "loader (number)"]
    assert {tuple(row.split(",")[-2:]) for row in rows} == {
        ("lift 0", "0"), ("lift 1", "0"), ("crane 0", "1"), ("crane 1", "1")
    }  # fmt: skip
