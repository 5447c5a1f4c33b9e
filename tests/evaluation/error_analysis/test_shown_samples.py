"""Samples are shown as they are: pictures, texts, rows, and the names of their classes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.erring import Says, digits, loader, random_answers, read, run
from evaluation.error_analysis.followed import fit
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import ErrorAnalysis

pytestmark = pytest.mark.filterwarnings("ignore")


def test_pictures_are_those_of_the_samples(tmp_path: Path) -> None:
    _, labels = digits()
    images = digits()[0].reshape(-1, 1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(80, 10, generator=generator)

    class Looks(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": logits[batch[2]], "target": batch[1]}

    held = run(tmp_path, loader(images[:80], labels[:80], torch.arange(80), shuffle=True), Looks(), pictures=9)
    assert list(held["pictures"]) == [str(row["index"]) for row in held["top_losses"][:9]]
    for index, path in held["pictures"].items():
        pixels = np.asarray(Image.open(tmp_path / "debugkit" / path).convert("L"), dtype=float)
        assert np.abs(pixels / 255 - images[int(index), 0].numpy()).max() < 0.01
    assert {"brightness", "contrast"} <= set(
        (tmp_path / "debugkit/misclassified.csv").read_text().splitlines()[0].split(",")
    )


def test_texts_and_rows_are_told_as_they_are(tmp_path: Path) -> None:
    class Texts(Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, index: int) -> Any:
            return {"text": f"review {index}", "scores": torch.eye(2)[index % 2], "label": 0}

    class Reads(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": batch["scores"]}

    held = run(tmp_path / "text", DataLoader(Texts(), batch_size=5), Reads())
    assert held["samples"]["7"] == "review 7"
    logits, target = random_answers(30, 3)
    held = run(tmp_path / "row", loader(logits, target))
    index = str(held["top_losses"][0]["index"])
    assert [float(value) for value in held["samples"][index].split(", ")] == pytest.approx(
        logits[int(index)].tolist(), rel=1e-3
    )


def test_a_data_set_that_cannot_be_read_again_is_told(tmp_path: Path) -> None:
    class Once(Dataset[Any]):
        def __init__(self) -> None:
            self.pairs = dict(enumerate(zip(*random_answers(30, 3), strict=True)))

        def __len__(self) -> int:
            return 30

        def __getitem__(self, index: int) -> Any:
            return self.pairs.pop(index)

    held = run(tmp_path, DataLoader(Once(), batch_size=10))
    assert (held["pictures"], held["samples"]) == ({}, {})
    assert any(note.startswith("Samples could not be drawn again: KeyError") for note in held["notes"])


def test_classes_are_called_as_the_data_call_them(tmp_path: Path) -> None:
    fit(tmp_path, ErrorAnalysis(), epochs=1)
    assert read(tmp_path)["classes"] == [f"digit {number}" for number in range(10)], "of the data set within a part"
    source = loader(*random_answers(30, 3))
    module = Says()
    module.config = SimpleNamespace(id2label={0: "no", 1: "yes", 2: "maybe"})
    assert run(tmp_path / "module", source, module)["classes"] == ["no", "yes", "maybe"]
    assert run(tmp_path / "given", source, class_names={0: "a", 1: "b", 2: "c"})["classes"] == ["a", "b", "c"]
    held = run(tmp_path / "few", source, class_names=["a"])
    assert held["classes"] == ["a", "1", "2"]
    assert "There are 1 class_names for 3 classes: numbers stand for those without." in held["notes"]
    held = run(tmp_path / "some", source, class_names={2: "c", 0: ""})
    assert held["classes"] == ["0", "1", "c"]
    held = run(tmp_path / "many", source, class_names=["a", "b", "c", "d"])
    assert held["classes"] == ["a", "b", "c"]
    assert any(note.startswith("There are 4 class_names for 3 classes") for note in held["notes"])


def test_slices_are_asked_for_by_name(tmp_path: Path) -> None:
    class Cameras(Dataset[Any]):
        def __init__(self) -> None:
            self.logits, self.target = random_answers(200, 3, skill=8)
            self.logits[::4] = random_answers(50, 3, seed=1)[0]

        def __len__(self) -> int:
            return 200

        def __getitem__(self, index: int) -> Any:
            path = f"data/{'night' if index % 4 == 0 else 'day'}/{index}.png"
            return {"x": self.logits[index], "y": self.target[index], "file": path, "hour": index % 24}

    class Reads(Says):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return {"logits": batch["x"]}

    every = run(tmp_path / "all", DataLoader(Cameras(), batch_size=32), Reads())
    assert every["weak_slices"][0]["conditions"] == {"file": "data/night"}
    assert every["weak_slices"][0]["n"] == 50
    one = run(tmp_path / "one", DataLoader(Cameras(), batch_size=32), Reads(), slices=["hour"])
    assert all("file" not in part["conditions"] for part in one["weak_slices"])
    none = run(tmp_path / "none", DataLoader(Cameras(), batch_size=32), Reads(), slices=["camera", "hour"])
    note = "Slices by camera are not searched: the batch has no such entry for each sample."
    assert note in none["notes"]


WRONG = [
    ({"task": "regression"}, "ErrorAnalysis needs task None or one of multiclass, binary, multilabel, segmentation, "
     "detection, got 'regression'; None tells it by the first batch."),
    ({"pictures": -1}, "ErrorAnalysis needs pictures >= 0, got -1; 64 fill a page, 0 draws none."),
    ({"max_samples": 0}, "ErrorAnalysis needs max_samples >= 1, got 0; 1000000 is usual and takes about 100 MB."),
    ({"class_names": "cat"}, "ErrorAnalysis needs class_names as a list, or a mapping of class to name, got 'cat'; "
     "write ['cat', 'dog']."),
    ({"slices": "camera"}, "ErrorAnalysis needs slices as a list of names, got 'camera'; name entries of the batch, "
     "such as ['camera']."),
    ({"predictions": 3}, "ErrorAnalysis needs predictions as the name of an entry, got 3; leave it out to search."),
    ({"training_dynamics": "yes"}, "ErrorAnalysis needs training_dynamics True or False, got 'yes'; True follows every "
     "training sample."),
    ({"loaders": []}, "ErrorAnalysis needs loaders as a list of numbers >= 0, got []; [0] counts the first loader "
     "alone, None all."),
    ({"loaders": [-1]}, "ErrorAnalysis needs loaders as a list of numbers >= 0, got [-1]; "
     "[0] counts the first loader alone, None all."),
    ({"on_missing": "stop"}, "ErrorAnalysis needs on_missing 'raise' or 'warn', got 'stop'; 'raise' says it at once."),
    ({"adapter": "no.such"}, "ErrorAnalysis needs adapter to be a function or its dotted path, got 'no.such'; "
     "module 'no' cannot be imported (ModuleNotFoundError: No module named 'no')."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "says"), WRONG, ids=[next(iter(given)) for given, _ in WRONG])
def test_an_argument_that_cannot_be_is_told_in_a_sentence(given: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        ErrorAnalysis(**given)
    assert str(caught.value) == says
