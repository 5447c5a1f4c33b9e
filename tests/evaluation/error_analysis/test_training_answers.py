"""A training that is watched is the training it would be; what training samples went through is followed exactly."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, digits, loader, random_answers, read, run
from monitors.breaking import QUIET, differing
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_debugkit import ErrorAnalysis, GradientAnomalyDetector, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


class Delicate(pl.LightningModule):
    """Dropout, batch norm, a net that is called by name, and a memory of what it was told in training."""

    def __init__(self) -> None:
        super().__init__()
        pl.seed_everything(3, verbose=False)
        self.net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
        self.told: list[tuple[Tensor, Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self.net(batch[0])
        self.told.append((batch[2], logits.detach(), batch[1]))
        return F.cross_entropy(logits, batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def noisy_digits(n: int) -> Dataset[Any]:
    images, labels = digits()

    class Noisy(Dataset[Any]):
        def __init__(self) -> None:
            self.classes = [f"digit {number}" for number in range(10)]

        def __len__(self) -> int:
            return n

        def __getitem__(self, index: int) -> Any:
            return images[index] + 0.1 * torch.randn(64) + 0.1 * float(np.random.rand()), labels[index], index

    return Noisy()


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 3, n: int = 150, **options: Any) -> Delicate:
    module = Delicate()
    ckpt_path = options.pop("ckpt_path", None)
    trainer = pl.Trainer(default_root_dir=folder, max_epochs=epochs, callbacks=list(callbacks), **{**QUIET, **options})
    data = noisy_digits(n)
    trainer.fit(module, loader(data, shuffle=True), loader(Subset(data, range(60))), ckpt_path=ckpt_path)
    return module


def test_not_a_bit_of_the_weights_is_another(tmp_path: Path) -> None:
    """Also the samples that are drawn again take nothing from the random numbers of those that follow."""
    alone = fit(tmp_path / "alone")
    state = torch.get_rng_state()
    watched = fit(tmp_path / "watched", ErrorAnalysis(training_dynamics=True), GradientAnomalyDetector())
    assert differing(alone, watched) == []
    assert torch.equal(state, torch.get_rng_state())
    assert [index.tolist() for index, *_ in alone.told] == [index.tolist() for index, *_ in watched.told]
    assert read(tmp_path / "watched")["dynamics"] is not None


def course(told: list[tuple[Tensor, Tensor, Tensor]], n: int) -> dict[int, dict[str, float]]:
    """The second road: sample by sample, in plain Python."""
    seen: dict[int, list[tuple[float, bool, float]]] = {}
    for indices, logits, labels in told:
        for index, row, label in zip(indices.tolist(), logits, labels.tolist(), strict=True):
            others = torch.cat([row[:label], row[label + 1 :]])
            right = int(row.argmax()) == label
            seen.setdefault(index, []).append((float(row.softmax(0)[label]), right, float(row[label] - others.max())))
    assert len(seen) == n
    return {
        index: {
            "confidence": float(np.mean([p for p, *_ in times])),
            "variability": float(np.std([p for p, *_ in times])),
            "forgets": sum(a[1] and not b[1] for a, b in itertools.pairwise(times)),
            "ever_learnt": any(right for _, right, _ in times),
            "aum": float(np.mean([margin for *_, margin in times])),
        }
        for index, times in seen.items()
    }


def test_the_course_of_each_training_sample(tmp_path: Path) -> None:
    module = fit(tmp_path, ErrorAnalysis(training_dynamics=True), epochs=5)
    expected = course(module.told, 150)
    held = read(tmp_path)["dynamics"]
    assert sum(held["regions"].values()) == len(held["points"]) == 150
    order = sorted(expected, key=lambda index: expected[index]["aum"])
    assert [row["index"] for row in held["hardest"]] == order[:25]
    for row in held["hardest"]:
        known = expected[row["index"]]
        assert {name: row[name] for name in known} == pytest.approx(known, abs=1e-5)
    assert held["never_learnt"] == sum(not row["ever_learnt"] for row in expected.values())


class TwoRanks(Says):
    """Says which samples it was given, and forgets some of them."""

    def forward(self, x: Tensor, index: Tensor | None = None) -> Tensor:
        forgotten = 0 * x[:, 0] if index is None else (index + self.current_epoch) % 3 == 0
        return torch.where(forgotten.bool()[:, None], -x, x) + 0 * self.offset

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0], batch[2]), batch[1])


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("n", [61, 3])
def test_two_ranks_follow_what_one_follows(n: int, tmp_path: Path) -> None:
    """A sample changes its rank from epoch to epoch; those that are repeated for equal shares count once."""
    logits, target = random_answers(n, 4)
    found = []
    for name, options in (("alone", {}), ("both", {"strategy": "ddp_fork", "devices": 2})):
        callback = ErrorAnalysis(training_dynamics=True)
        trainer = pl.Trainer(
            default_root_dir=tmp_path / name, max_epochs=4, callbacks=[callback], **{**QUIET, **options}
        )
        data = loader(logits, target, torch.arange(n), shuffle=True)
        trainer.fit(TwoRanks(), data, loader(logits, target, torch.arange(n)))
        found.append(read(tmp_path / name)["dynamics"])
    alone, both = found
    assert both["regions"] == alone["regions"]
    assert both["hardest"] == [pytest.approx(row, rel=1e-4) for row in alone["hardest"]]


def test_a_run_that_resumes_knows_what_was_before(tmp_path: Path) -> None:
    options = {"training_dynamics": True}
    whole = ErrorAnalysis(**options)
    fit(tmp_path / "whole", whole, epochs=4)
    save = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "kept", filename="two", save_on_train_epoch_end=True)
    fit(tmp_path / "half", ErrorAnalysis(**options), save, epochs=2, enable_checkpointing=True)
    again = ErrorAnalysis(**options)
    fit(tmp_path / "rest", again, epochs=4, ckpt_path=tmp_path / "kept/two.ckpt")
    assert [row["epoch"] for row in read(tmp_path / "rest")["history"]] == [0, 1, 2, 3]
    held = again.state_dict()["learnt"]
    assert held["seen"].tolist() == whole.state_dict()["learnt"]["seen"].tolist() == [4] * 150


def test_a_checkpoint_that_is_tested_brings_no_history_over_that_of_the_run(tmp_path: Path) -> None:
    save = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "kept", filename="{epoch}", save_top_k=-1)
    callback = ErrorAnalysis()
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=3, callbacks=[callback, save], **{**QUIET, "enable_checkpointing": True}
    )
    data = noisy_digits(100)
    trainer.fit(Delicate(), loader(data, shuffle=True), loader(data))
    trainer.test(Delicate(), loader(data), ckpt_path=tmp_path / "kept/epoch=0.ckpt", verbose=False)
    assert [moment["epoch"] for moment in callback.history.moments] == [0, 1, 2]
    assert read(tmp_path, "test")["n"] == 100


@pytest.mark.parametrize("what", ["mixtures", "stream"])
def test_what_training_samples_went_through_may_not_be_known(what: str, tmp_path: Path) -> None:
    logits, target = random_answers(40, 3)

    class Pairs(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(list(zip(logits, target, strict=True)))

    mixed = 0.7 * F.one_hot(target, 3) + 0.3 * F.one_hot(target.flip(0), 3)
    train = DataLoader(Pairs(), batch_size=8) if what == "stream" else loader(logits, mixed)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=2, callbacks=[ErrorAnalysis(training_dynamics=True)], **QUIET
    )
    trainer.fit(Says(), train, loader(logits, target))
    held = read(tmp_path)
    assert held["dynamics"] is None
    assert any(note.startswith("Training dynamics are not known: ") for note in held["notes"])


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
    module.config = SimpleNamespace(id2label={0: "no", 1: "yes", 2: "maybe"})  # type: ignore[assignment]
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


def test_what_is_costly_on_the_way_is_made_at_the_end_alone(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(ErrorAnalysis, "_affords", lambda self, trainer: False)
    fit(tmp_path, ErrorAnalysis(), epochs=3)
    told = [event for event in read_journal(tmp_path / "debugkit").of_kind("artifact") if event.get("what")]
    assert len(told) == 1
    assert read(tmp_path)["epoch"] == 2


def test_an_exception_leaves_the_last_validation(tmp_path: Path) -> None:
    class Breaks(pl.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 2:
                raise RuntimeError("the user's own")

    with pytest.raises(RuntimeError, match="the user's own"):
        fit(tmp_path, Breaks(), ErrorAnalysis())
    held = read(tmp_path)
    assert (held["epoch"], bool(held["samples"])) == (1, True)


def test_it_pickles_with_what_it_learnt(tmp_path: Path) -> None:
    callback = ErrorAnalysis(training_dynamics=True)
    fit(tmp_path, callback, epochs=2)
    one, other = callback.state_dict(), pickle.loads(pickle.dumps(callback)).state_dict()
    assert one["learnt"].keys() == other["learnt"].keys()
    assert all(torch.equal(one["learnt"][name], other["learnt"][name]) for name in one["learnt"])
    assert json.dumps(one["history"]) == json.dumps(other["history"])


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
     "it gets outputs and batch, and returns predictions and targets."),
]  # fmt: skip


@pytest.mark.parametrize(("given", "says"), WRONG, ids=[next(iter(given)) for given, _ in WRONG])
def test_an_argument_that_cannot_be_is_told_in_a_sentence(given: Any, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        ErrorAnalysis(**given)
    assert str(caught.value) == says
