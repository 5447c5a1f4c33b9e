"""A training that is watched is the training it would be; what training samples went through is followed exactly."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation.erring import Says, loader, random_answers, read
from evaluation.error_analysis.followed import Delicate, fit, noisy_digits
from monitors.breaking import QUIET, differing
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_debugkit import ErrorAnalysis, ExactResume, GradientAnomalyDetector, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


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


def test_a_resume_within_an_epoch_goes_on_with_the_samples_of_the_next_batch(tmp_path: Path) -> None:
    """Batches that are pulled again only to be passed over are none of those that train."""
    whole, again = ErrorAnalysis(training_dynamics=True), ErrorAnalysis(training_dynamics=True)
    fit(tmp_path / "whole", whole, ExactResume(), epochs=2)
    save = pl.callbacks.ModelCheckpoint(dirpath=tmp_path / "kept", filename="{step}", every_n_train_steps=2)
    options = {"enable_checkpointing": True, "max_steps": 2}
    fit(tmp_path / "half", ErrorAnalysis(training_dynamics=True), ExactResume(), save, epochs=2, **options)
    fit(tmp_path / "rest", again, ExactResume(), epochs=2, ckpt_path=tmp_path / "kept/step=2.ckpt")
    expected, found = whole.state_dict()["learnt"], again.state_dict()["learnt"]
    assert expected.keys() == found.keys()
    assert [name for name, held in expected.items() if not torch.equal(held, found[name])] == []


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
