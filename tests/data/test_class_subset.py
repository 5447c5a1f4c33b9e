"""`ClassSubset` keeps some classes, counts them from 0 in whatever form they are, and says which they were."""

from __future__ import annotations

import copy
import json
import pickle
import random
import sys
import types
from collections import namedtuple
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from faults.preflight import Net
from faults.registry import digits, mlp
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from lightning_debugkit import ClassSubset, CodeSnapshot, DataCheck, ErrorAnalysis, load_model, read_journal

OLD = [0, 17, 90, 17, 3, 90, 0, 3]
KEPT = [at for at, label in enumerate(OLD) if label in (90, 17)]
NEW = [{90: 0, 17: 1}[OLD[at]] for at in KEPT]


class Listed(Dataset[Any]):
    """Samples in a list; ``asked`` counts how many were read."""

    def __init__(self, samples: list[Any], **attributes: Any) -> None:
        self.samples = samples
        self.asked = 0
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        return self.samples[index]


Pair = namedtuple("Pair", ["x", "y"])
FORMS = {
    "int": lambda label: (1.0, label),
    "numpy": lambda label: (1.0, np.int32(label)),
    "tensor": lambda label: (1.0, torch.tensor(label)),
    "tensor of one": lambda label: (1.0, torch.tensor([label])),
    "dict": lambda label: {"image": 1.0, "label": label},
    "named tuple": lambda label: Pair(1.0, label),
    "list": lambda label: [1.0, label],
}


def number(sample: Any) -> int:
    label = sample["label"] if isinstance(sample, dict) else sample[1]
    return int(label)


@pytest.mark.parametrize("form", FORMS)
def test_a_label_keeps_its_form_and_is_counted_anew(form: str) -> None:
    whole = Listed([FORMS[form](label) for label in OLD])
    part = ClassSubset(whole, classes=[90, 17])
    assert (part.indices, [number(sample) for sample in part]) == (KEPT, NEW)
    assert {type(sample) for sample in part} == {type(whole.samples[0])}
    assert [number(sample) for sample in whole.samples] == OLD  # nothing of it was written to
    assert (part.class_mapping, part.class_names) == ({90: 0, 17: 1}, ["90", "17"])


def test_a_one_hot_label_loses_the_columns_of_the_other_classes() -> None:
    eye = torch.eye(4)
    part = ClassSubset(Listed([(0, eye[at]) for at in (0, 3, 1, 3)]), classes=[3, 1])
    assert [label.tolist() for _, label in part] == [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    several = ClassSubset(Listed([(0, [1, 0, 1]), (0, [0, 1, 0])]), classes=[2, 0])
    assert [label for _, label in several] == [[1, 1]]


def detected(labels: list[int]) -> tuple[Any, dict[str, Any]]:
    boxes = torch.arange(4.0 * len(labels)).reshape(-1, 4)
    return 0, {"boxes": boxes, "labels": torch.tensor(labels), "image_id": torch.tensor(8), "area": boxes[:, 0]}


def test_objects_of_other_classes_go_with_all_that_belongs_to_them() -> None:
    part = ClassSubset(Listed([detected([17, 3, 90]), detected([3]), detected([1, 0])]), classes=[17, 90])
    assert len(part) == 1
    target = part[0][1]
    assert target["labels"].tolist() == [0, 1]
    assert target["boxes"].tolist() == [[0.0, 1.0, 2.0, 3.0], [8.0, 9.0, 10.0, 11.0]]
    assert (target["area"].tolist(), int(target["image_id"])) == ([0.0, 8.0], 8)
    beside = ClassSubset(Listed([{"image": 0, **detected([0, 1, 1])[1]}]), classes=[1])
    assert beside[0]["labels"].tolist() == [0, 0]
    assert beside[0]["boxes"].shape == (2, 4)


def test_category_ids_with_holes_are_counted_anew_and_called_by_their_names() -> None:
    annotations = [[{"category_id": 17, "bbox": [0, 0, 1, 1]}, {"category_id": 90, "bbox": [1, 1, 2, 2]}], [], []]
    annotations[2] = [{"category_id": 1, "bbox": [0, 0, 9, 9]}]
    cats = {1: {"name": "person"}, 17: {"name": "cat"}, 90: {"name": "toothbrush"}}
    coco = types.SimpleNamespace(imgToAnns=dict(enumerate(annotations)), cats=cats)
    whole = Listed([(0, each) for each in annotations], coco=coco, ids=[0, 1, 2])
    part = ClassSubset(whole, classes=["toothbrush", "cat"])
    assert whole.asked == 3  # of three samples: the annotations were not read one by one
    assert [[each["category_id"] for each in target] for _, target in part] == [[1, 0]]
    assert (part.class_names, part.class_mapping) == (["toothbrush", "cat"], {90: 0, 17: 1})


def test_boxes_with_a_format_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Boxes(torch.Tensor):
        pass

    def wrap(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return value.as_subclass(type(like))

    monkeypatch.setitem(sys.modules, "torchvision.tv_tensors", types.SimpleNamespace(wrap=wrap))
    target = {"boxes": torch.zeros(2, 4).as_subclass(Boxes), "labels": torch.tensor([3, 4])}
    assert type(ClassSubset(Listed([(0, target)]), classes=[4])[0][1]["boxes"]) is Boxes


def test_labels_beside_the_samples_are_used_only_where_they_agree_with_them() -> None:
    samples = [(0, label) for label in OLD * 10]
    beside = Listed(samples, targets=OLD * 10)
    assert len(ClassSubset(beside, classes=[17])) == 20
    assert beside.asked == 3
    otherwise = Listed(samples, targets=[17] * 80)
    assert len(ClassSubset(otherwise, classes=[17])) == 20


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda whole: Subset(whole, range(8)),
        lambda whole: ConcatDataset([Subset(whole, [0, 1, 2]), Subset(whole, [3, 4, 5, 6, 7])]),
    ],
)
def test_parts_and_sums_of_datasets_are_datasets(wrapped: Any) -> None:
    whole = TensorDataset(torch.arange(8.0), torch.tensor(OLD))
    part = ClassSubset(wrapped(whole), classes=[90, 17])
    assert [int(label) for _, label in part] == NEW
    again = ClassSubset(part, classes=["17"])
    assert (len(again), again.class_names, again.class_mapping) == (2, ["17"], {1: 0})


class Noisy(Listed):
    def __getitem__(self, index: int) -> Any:
        random.random(), np.random.rand(), torch.rand(1)
        return super().__getitem__(index)


def test_reading_labels_draws_no_random_number() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    ClassSubset(Noisy([(0, label) for label in OLD]), classes=[3])
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_it_can_be_pickled_and_copied() -> None:
    part = ClassSubset(TensorDataset(torch.arange(8.0), torch.tensor(OLD)), classes=[90, 17])
    for other in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part)):
        assert [int(label) for _, label in other] == NEW


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "classes", "told"),
    [
        (Stream(), [1], "needs a dataset with a length and an index, got Stream"),
        (Listed([(0, 1)]), [1, 1], "needs classes that differ, got [1, 1]"),
        (Listed([(0, 1)]), "cat", "needs classes that differ, got 'cat'"),
        (Listed([(0, 1), (0, 2)]), [1, 7], "got [7], of which it has no sample; it has 1, 2."),
        (Listed([(0, 0.5)]), [1], "needs samples whose label it can read, got the number 0.5; name its place"),
        (Listed([{"a": 1, "b": 2}]), [1], "got a mapping of a, b; name its place"),
    ],
)
def test_what_cannot_be_told_is_told_in_a_sentence(dataset: Any, classes: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        ClassSubset(dataset, classes=classes)
    assert told in str(caught.value)


def test_another_place_of_the_label_can_be_named() -> None:
    whole = Listed([{"a": 1, "kind": label} for label in OLD])
    assert [each["kind"] for each in ClassSubset(whole, classes=[90, 17], label="kind")] == NEW


def subset() -> ClassSubset:
    x, y = digits(600)
    return ClassSubset(TensorDataset(x, y), classes=[8, 3])


@pytest.mark.usefixtures("with_report")
@pytest.mark.filterwarnings("ignore")
def test_the_mapping_goes_into_checkpoint_report_errors_and_the_loaded_model(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    part = subset()
    loaders = DataLoader(part, batch_size=32, shuffle=True), DataLoader(part, batch_size=32)
    kit = [DataCheck(), CodeSnapshot(side_ref=False), ErrorAnalysis()]
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=kit, default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(Predicting(), *loaders)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    told = torch.load(tmp_path / "last.ckpt", weights_only=True)["class_mapping"]
    assert told == {"labels": [8, 3], "names": ["8", "3"]}
    assert load_model(tmp_path / "last.ckpt", code="current", trust_code=True).class_mapping == {8: 0, 3: 1}
    folder = tmp_path / "debugkit"
    errors = json.loads((folder / "errors.json").read_text())
    assert errors["class_mapping"] == told
    assert errors["classes"] == ["8", "3"]
    assert "class 0 is 8 of the whole dataset, 1 is 3" in (folder / "report.md").read_text()
    assert read_journal(folder).findings == []


class Predicting(Net):
    def __init__(self) -> None:
        super().__init__(True, mlp(64, 16, 2))

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        scores = self(x)
        return {"loss": torch.nn.functional.cross_entropy(scores, y), "preds": scores, "target": y}
