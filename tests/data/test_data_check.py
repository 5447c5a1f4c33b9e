"""What `DataCheck` takes for inputs and labels, and that it leaves no trace."""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import random
import subprocess
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from faults import data
from faults.preflight import Net
from faults.registry import mlp
from lightning.pytorch.utilities import CombinedLoader
from monitors.breaking import QUIET
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import DataCheck, Severity, read_journal
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.trivial_answer import against_constant
from lightning_debugkit.data import boxes, callback, duplicates, labels, neighbours, values, workers
from lightning_debugkit.data.first_loss import FirstLoss
from lightning_debugkit.data.samples_seen import Seen, parts_of, same_in_all

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]
HERE = Where(0, 0)


def fit(folder: Path, *callbacks: pl.Callback) -> dict[str, Tensor]:
    pl.seed_everything(5, verbose=False)
    program = data.validation_copied_from_training(False)
    options = {**QUIET, "max_epochs": 2}
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options).fit(
        program.module, program.train, program.val
    )
    return {**program.module.state_dict(), "random": torch.rand(1)}


def test_weights_and_random_states_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    expected = fit(tmp_path / "alone")
    callback = DataCheck()
    found = fit(tmp_path / "watched", callback)
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    journal = read_journal(tmp_path / "watched" / "debugkit")
    [told] = [finding for finding in journal.findings if finding.rule == "train-val-overlap"]
    # 100 of 400 were copied from 800, and all of both splits flowed by.
    assert (told.evidence["count"], told.evidence["seen"], told.evidence["trained"]) == (100, 400, 800)
    assert (callback._train.count, callback._val.count) == (0, 0)
    assert journal.of_kind("trouble") == []


X, Y = torch.rand(6, 5), torch.arange(6)


@pytest.mark.parametrize(
    ("batch", "has_labels"),
    [
        ((X, Y), True),
        ({"image": X, "label": Y, "index": Y}, True),
        ({"image": X, "row": Y, "index": Y}, False),
        ({"numbers": X, "kinds": Y[:, None], "target": Y[:, None]}, True),
        ({"numbers": X, "kinds": Y[:, None]}, False),
        ((X, torch.rand(6)), False),
        ((X, torch.zeros(6, 3, dtype=torch.long)), False),
        (Y, False),  # nodes of a graph, words
        ((Y,), False),
    ],
)
def test_labels_are_taken_where_they_are_certain(batch: Any, has_labels: bool) -> None:
    values, found = parts_of(batch, 6)
    assert values is not None
    assert values.shape[0] == 6
    assert (found is not None) == has_labels
    assert found is None or found.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "batch",
    [
        ([X[:, :2], X[:, 2:]], Y),
        (([X[:, :1], X[:, 1], X[:, 2:]], [Y, Y]), torch.rand(6)),
        {"features": {"age": X[:, :1], "others": X[:, 1:]}, "label": Y},
        ([X, X[:, None]], Y),  # a row and a series of one
        {"one": [X, X[:, 0]], "other": [X, X[:, 0]]},  # two loaders, each with a target of its own
    ],
)
def test_a_row_is_whole_though_its_parts_come_packed_together(batch: Any) -> None:
    values, _ = parts_of(batch, 6)
    assert values is not None
    assert values.flatten(1).tolist() == X.tolist()


GRID, SAME = torch.arange(12.0).expand(6, 12), torch.ones(6, 5)


@pytest.mark.parametrize(
    ("batch", "same"),
    [
        ({"grid": GRID, "x": X, "label": Y}, ["grid"]),
        ((GRID, X, Y), ["0"]),
        ((SAME, Y), []),  # nothing else is an input
        ((SAME, torch.rand(6, 3)), []),
        ({"x": SAME, "target": torch.rand(6, 3)}, []),
        ({"x": SAME, "mask": SAME[:, :2], "label": Y}, []),
        ({"image": torch.rand(6, 20), "x": X}, []),
    ],
)
def test_what_is_the_same_in_all_samples_is_no_input_where_there_is_another(batch: Any, same: list[str]) -> None:
    assert sorted(same_in_all(batch, 6)) == same


def test_the_input_of_the_first_batch_stays_the_input() -> None:
    seen = Seen()
    for mask in (torch.ones(6, 12), torch.rand(6, 12)):
        seen.take({"mask": mask, "x": X, "label": Y})
    assert seen.values is not None
    assert seen.values.tolist() == [*X.tolist(), *X.tolist()]


def test_equal_samples_have_equal_prints_and_others_have_not() -> None:
    seen = Seen()
    seen.take((torch.cat([X, X[:2], X[:1] + 1e-6]), torch.arange(9)))
    assert len(seen.prints) == 9
    assert seen.prints[:2].tolist() == seen.prints[6:8].tolist()
    assert len(set(seen.prints.tolist())) == 7


def rules(findings: Any) -> list[str]:
    return [finding.rule for finding in findings]


def test_rows_that_are_equal_by_chance_are_no_overlap() -> None:
    few = np.random.default_rng(0).integers(0, 40, 400).astype(np.uint64)
    common = {"is_plain": True, "is_same": False, "where": HERE}
    assert rules(duplicates.judge(few[:300], few[300:], is_rich=False, **common)) == []
    assert "train-val-overlap" in rules(duplicates.judge(few[:300], few[300:], is_rich=True, **common))


def test_rows_that_are_equal_by_chance_are_no_overlap_under_a_sampler_of_ones_own() -> None:
    draw = np.random.default_rng(0)
    few, many = (draw.integers(0, kinds, 2240).astype(np.uint64) for kinds in (12_000, 2**60))
    common = {"is_plain": False, "is_same": False, "is_rich": False, "where": HERE}
    assert rules(duplicates.judge(few[:1920], few[1920:], **common)) == []
    assert rules(duplicates.judge(many[:1920], many[1840:2160], **common)) == ["train-val-overlap"]


def windows(text: str, width: int) -> Tensor:
    letters = torch.tensor([ord(letter) for letter in text])
    return letters[: len(letters) // width * width].view(-1, width)


def overlap(train: Tensor, val: Tensor) -> list[str]:
    seen = [Seen(20_000), Seen(20_000)]
    for split, rows in zip(seen, (train, val), strict=True):
        for batch in rows.split(32):
            split.take((batch, batch))
    one, other = seen
    found = duplicates.judge(one.prints, other.prints, True, False, one.is_rich, HERE, one.is_text)
    return [rule for rule in rules(found) if rule == "train-val-overlap"]


@pytest.mark.parametrize("width", [8, 16, 32])
@pytest.mark.parametrize("module", [argparse, subprocess, logging])
def test_text_that_repeats_itself_is_no_overlap_and_windows_that_were_copied_are(module: Any, width: int) -> None:
    whole = windows(inspect.getsource(module), width)
    at = len(whole) * 5 // 6
    train, val = whole[:at], whole[at:]
    assert overlap(train, val) == []
    sentences = torch.randint(0, 20_000, (400, width), generator=torch.Generator().manual_seed(0))
    assert overlap(sentences[:300], sentences[290:]) == ["train-val-overlap"]


def test_a_split_that_validates_on_training_on_purpose_is_no_overlap() -> None:
    prints = np.arange(200, dtype=np.uint64)
    assert rules(duplicates.judge(prints, prints, True, True, True, HERE)) == []


def test_validation_on_training_data_alone_may_be_meant_and_a_leak_is_not() -> None:
    prints = np.arange(200, dtype=np.uint64)
    [meant] = duplicates.judge(prints[:150], prints[:50], True, False, True, HERE)
    [leak] = duplicates.judge(prints[:150], prints[120:], True, False, True, HERE)
    assert (str(meant.severity), str(leak.severity)) == ("info", "warning")


@pytest.mark.parametrize("classes_a_batch", [1, 4])
def test_batches_of_some_of_each_class_are_not_ordered(classes_a_batch: int) -> None:
    batches = [np.repeat(np.arange(classes_a_batch) + (n // 3), 32 // classes_a_batch) for n in range(12)]
    assert bool(rules(labels.judge_order(batches, HERE))) == (classes_a_batch == 1)


def test_numbers_that_each_sample_has_for_itself_are_no_classes() -> None:
    train, val = np.arange(90), np.arange(90, 150)
    assert rules(labels.judge_counts(train, val, True, HERE)) == []
    assert rules(labels.judge_counts(train // 2, val // 2, True, HERE)) == ["class-shift"]


def test_imbalance_alone_is_not_taken_for_order() -> None:
    rng = np.random.default_rng(0)
    batches = [(rng.random(16) < 0.01).astype(np.int64) for _ in range(50)]
    assert rules(labels.judge_order(batches, HERE)) == []


def test_where_distance_means_nothing_no_labels_are_accused() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, kinds = torch.rand(800, 20, generator=generator), np.arange(800) % 4
    train, val = neighbours.agreement(noise[:400], kinds[:400]), neighbours.agreement(noise[400:], kinds[400:])
    assert rules(neighbours.judge(train, val, HERE)) == []


def test_too_few_of_a_rare_class_say_nothing_of_how_labels_and_inputs_hang_together() -> None:
    inputs, rare = torch.arange(1000.0)[:, None], np.arange(1000) // 8 == 60
    assert neighbours.agreement(inputs, rare.astype(np.int64)) is None
    common = neighbours.agreement(inputs, (np.arange(1000) // 100 == 6).astype(np.int64))
    assert common is not None
    assert common.sigmas > 6


@pytest.mark.parametrize(
    ("losses", "steps", "heard", "is_told"),
    [
        ([1.5, 1.39, 1.40, 1.38], 100, "", True),
        ([1.5, 1.0, 0.9, 0.8], 100, "", False),  # the model found what distance does not show
        ([1.5, 1.39, 1.40, 1.38], 20, "", False),  # it had no time to
        ([7.0, 1.39, 1.40, 1.38], 100, "", False),  # no cross entropy of untrained weights: what 1.39 means is unknown
        ([7.0, 1.39, 1.40, 1.38], 100, "cross_entropy", True),
        ([7.0, 1.39, 1.40, 1.38], 100, "nll_loss", False),
        ([7.1, 1.39, 1.40, 1.38], 100, "cross_entropy", False),  # something was added to it
        ([7.0, 1.80, 1.70, 1.65], 100, "cross_entropy", False),  # still far above what one answer for all gives
        ([1.5, 1.80, 1.70, 1.65], 100, "", False),
    ],
)
def test_where_distance_shows_nothing_training_must_have_shown_nothing(
    losses: list[float], steps: int, heard: str, is_told: bool
) -> None:
    chance = neighbours.Agreement(same=0.25, chance=0.25, sigmas=0.0)
    first = FirstLoss()
    if heard:
        logits = torch.tensor([[0.0, math.log(math.exp(7.0) - 1)]])  # -log p of the first class is 7
        first.calls.append((heard, logits, torch.tensor([0]), -100))
    found = neighbours.judge_unlearned(first, chance, np.arange(800) % 4, losses, steps, None, HERE)
    assert rules(found) == ["labels-unrelated-to-inputs"] * is_told


@pytest.mark.parametrize(("hits", "is_told"), [([20, 24, 28, 22], True), ([60, 55, 62, 48], False)])
def test_labels_that_can_only_be_learned_by_heart_are_told(hits: list[int], is_told: bool) -> None:
    chance = neighbours.Agreement(same=0.25, chance=0.25, sigmas=0.0)
    answers = against_constant(np.array(hits), np.full(4, 100))
    found = list(neighbours.judge_unlearned(FirstLoss(), chance, np.arange(800) % 4, [1.5, 0.4], 100, answers, HERE))
    assert ["by heart" in finding.message for finding in found] == [True] * is_told


def test_a_row_of_measurements_is_not_met_twice_by_chance_and_one_of_ratings_is() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, is_rich in ((torch.rand(300, 4, generator=generator), True), (X.repeat(50, 1)[:, :4] // 0.2, False)):
        seen = Seen()
        seen.take((torch.cat([rows, rows[:100]]), torch.zeros(400, dtype=torch.long)))
        assert seen.is_rich is is_rich


def test_one_sample_in_two_precisions_has_one_print() -> None:
    one, other = Seen(), Seen()
    one.take((X, Y))
    other.take((X.double(), Y))
    assert one.prints.tolist() == other.prints.tolist()


@pytest.mark.parametrize(
    ("slope", "shift", "is_told"), [(0.376, 0.305, True), (1.0, 0.0, False), (0.8, -0.1, False), (4.0, -1.0, True)]
)
def test_the_same_map_for_every_entry_is_another_normalisation(slope: float, shift: float, is_told: bool) -> None:
    x, _, val, _ = data.halves()
    found = rules(values.judge(x.flatten(1), val.flatten(1) * slope + shift, HERE))
    assert found == ["input-shift"] * is_told


def test_pictures_of_another_light_are_no_raw_pixels() -> None:
    """Noise, another exposure, other colours or one of both splits in fractions: not the same pixels scaled."""
    images, _ = data.anywhere()
    x, val = images[:384], images[384:]
    noisy, tinted = x + 0.1 * torch.randn_like(x), val * torch.tensor([0.4, 1.0, 1.6])[:, None, None]
    pairs = [
        (x, val),
        (noisy, val),
        (x, val * 0.5),
        (data.standardised(x), data.standardised(tinted)),
        (x * 2 - 1, val - 1),
    ]
    for one, other in pairs:
        assert rules(values.judge(one.flatten(1), other.flatten(1), HERE, (3, 8, 8))) == []
    for one, other in ((x * 2 - 1, val), (x * 255, data.standardised(val))):
        assert rules(values.judge(one.flatten(1), other.flatten(1), HERE, (3, 8, 8))) == ["input-shift"]


def test_a_table_that_was_standardised_by_itself_is_noted_and_one_by_training_is_not() -> None:
    train, val = torch.randn(2, 300, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    for correction in (0, 1):
        by_itself = (val - val.mean(0)) / val.std(0, correction=correction)
        [noted] = values.judge_own_scale(by_itself, HERE)
        assert (noted.rule, str(noted.severity)) == ("input-shift", "info")
        assert rules(values.judge_own_scale((val - train.mean(0)) / train.std(0, correction=correction), HERE)) == []
    assert rules(values.judge_own_scale(by_itself[:, :2], HERE)) == []


def test_other_images_are_no_other_normalisation() -> None:
    """Darker, turned round, or of other classes: no one map makes these of those."""
    x, y, val, labels = data.halves()
    for other in (val.flatten(1) * 0.6, val.flip(-1).flatten(1), val[labels > 6].flatten(1)):
        assert rules(values.judge(x[y < 4].flatten(1), other, HERE)) == []


@pytest.mark.parametrize(("is_normed", "is_told"), [(False, True), (True, False)])
def test_numbers_that_hardly_differ_are_one_number_unless_a_norm_takes_the_offset_off(
    is_normed: bool, is_told: bool
) -> None:
    pixels = data.digits()[0]
    twice = rules(values.judge_first("net.0", (pixels / 255 - 0.3) / 0.35, is_normed, HERE))
    assert twice == ["input-not-normalized"] * is_told
    assert rules(values.judge_first("net.0", (pixels - 0.3) / 0.35, False, HERE)) == []


SEED = 3


@pytest.mark.parametrize(
    ("column", "said"),
    [(1e4 * torch.arange(6.0), "by columns 2"), (torch.full((6,), -999.0), "by columns 2, which are the same")],
)
def test_of_a_table_the_columns_are_named_that_are_too_large(column: Tensor, said: str) -> None:
    table = torch.cat([X[:, :2], column[:, None], X], 1)
    [finding] = values.judge_first("net.0", table, False, HERE)
    assert said in finding.message
    [finding] = values.judge_first("net.0", 1e4 * (1 + table), False, HERE)
    assert "columns" not in finding.message


def alike(worker: int) -> None:
    np.random.seed(SEED)
    random.seed(42)


def by_number(worker: int) -> None:
    np.random.seed(SEED + worker)


def by_torch(worker: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)


class Split:
    """Draws its rows when it is made; what it does with its generator afterwards is the question."""

    def __init__(self, is_passed_on: bool) -> None:
        self.rng = np.random.default_rng(0)
        self.rows = self.rng.permutation(6)
        self.transforms = [argparse.Namespace(noise=self.rng)] if is_passed_on else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return X[self.rows[index]]


class Noised(Split):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index) + self.rng.random()


@pytest.mark.parametrize(("dataset", "is_told"), [(Split(False), False), (Split(True), True), (Noised(False), True)])
def test_a_generator_that_only_the_making_of_a_dataset_draws_from_is_no_matter(dataset: Any, is_told: bool) -> None:
    assert rules(workers.judge(DataLoader(dataset, num_workers=2), HERE)) == ["worker-seeds-equal"] * is_told


@pytest.mark.parametrize(("seeds", "is_told"), [(alike, True), (by_number, False), (by_torch, False), (print, False)])
def test_a_function_that_seeds_all_workers_alike(seeds: Any, is_told: bool) -> None:
    loader = DataLoader(TensorDataset(X), num_workers=2, worker_init_fn=seeds)
    assert rules(workers.judge(loader, HERE)) == ["worker-seeds-equal"] * is_told


def test_compiled_parts_are_not_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    monkeypatch.setattr(callback, "Hearing", lambda *parts: heard.append(parts))
    module = data.Classifier(True)
    DataCheck().on_train_batch_start(None, module, None, 0)
    assert len(heard) == 1
    module.net = torch.compile(module.net, backend="eager")
    DataCheck().on_train_batch_start(None, module, None, 0)
    assert len(heard) == 1


@pytest.mark.usefixtures("with_report")
@pytest.mark.filterwarnings("ignore")
def test_the_report_shows_inputs_values_classes_and_pairs(tmp_path: Path) -> None:
    program = data.validation_copied_from_training(False)
    images = [
        DataLoader(TensorDataset(loader.dataset.tensors[0].reshape(-1, 1, 8, 8), loader.dataset.tensors[1]), 32)
        for loader in (program.train, program.val)
    ]
    trainer = pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[DataCheck()], **QUIET)
    trainer.fit(Net(True, nn.Sequential(nn.Flatten(), mlp(64, 32, 10))), *images)
    folder = tmp_path / "debugkit"
    told = (folder / "report.md").read_text()
    assert "First training inputs" in told
    assert "Pairs of train-val-overlap, side by side" in told
    assert {"data-values.svg", "data-classes.svg", "data-0.png"} <= {
        path.name for path in (folder / "figures").iterdir()
    }
    pair = [Image.open(folder / "figures" / f"data-train-val-overlap-0-{side}.png") for side in (0, 1)]
    assert pair[0].tobytes() == pair[1].tobytes()
    assert (folder / "journal-0.jsonl").stat().st_size < 40_000


def test_only_a_whole_number_of_samples_is_taken() -> None:
    with pytest.raises(ValueError, match=r"DataCheck needs samples >= 1, got 0; 20000 is usual"):
        DataCheck(samples=0)


def test_of_more_samples_the_whole_epoch_is_looked_at(tmp_path: Path) -> None:
    """Copies that lie beyond the first 2,000 samples are found where more are asked for."""
    x = torch.rand(5000, 8, generator=torch.Generator().manual_seed(0))
    x[4000:4500] = x[2500:3000]
    y = (x[:, 0] > 0.5).long()
    seen = {}
    for samples in (2000, 5000):
        folder = tmp_path / str(samples)
        trainer = pl.Trainer(
            max_epochs=1, default_root_dir=folder,
            callbacks=[DataCheck(samples=samples)], **QUIET,
        )  # fmt: skip
        trainer.fit(Net(True, mlp(8, 4, 2)), DataLoader(TensorDataset(x, y), 100, shuffle=False))
        seen[samples] = rules(read_journal(folder / "debugkit").findings)
    assert seen == {2000: [], 5000: ["duplicate-samples"]}


def test_widths_that_equal_their_place_are_boxes_as_good_as_any() -> None:
    """Objects that fill most of a picture of 28 pixels, as (x, y, width, height): none is narrower than its x."""
    place = torch.randint(2, 10, (64, 2), generator=torch.Generator().manual_seed(0))
    batch = {"boxes": torch.cat([place, torch.maximum(26 - 2 * place, place)], 1)}
    assert int((batch["boxes"][:, 2] == batch["boxes"][:, 0]).sum()) > 5
    assert not list(boxes.judge(list(boxes.boxes_of(batch)), "training", HERE))


def test_channels_of_colours_are_not_features_of_a_table() -> None:
    """Columns far from 0 with a spread of their own each are judged together, channels apart."""
    noise = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    offsets = torch.tensor([-2.1, -2.0, -1.8])
    images = offsets[:, None, None] + 0.02 * noise
    assert rules(values.judge_first("net.0", images, False, HERE)) == ["input-not-normalized"]
    assert rules(values.judge_first("net.0", images, True, HERE)) == []
    assert rules(values.judge_first("net.0", offsets[:, None, None] + 0.04 * noise, False, HERE)) == []
    assert rules(values.judge_first("net.0", offsets + 0.02 * noise[..., 0, 0], False, HERE)) == []


class Both(pl.LightningModule):
    """Learns from two loaders at once, the shorter of which runs out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(8, 16, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        given = [part for part in batch.values() if part is not None]
        return torch.stack([nn.functional.cross_entropy(self.net(x), y) for x, y in given]).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def sorted_out(samples: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (samples,), generator=generator)
    return TensorDataset(3.0 * nn.functional.one_hot(y, 8) + torch.randn(samples, 8, generator=generator), y)


def test_labels_of_some_batches_are_not_taken_for_those_of_all_inputs(tmp_path: Path) -> None:
    """While both loaders give batches it is not told whose labels count: rows and labels do not stand side by side."""
    pl.seed_everything(3, verbose=False)
    loaders = {"a": DataLoader(sorted_out(480, 0), 16, shuffle=True), "b": DataLoader(sorted_out(160, 1), 16)}
    check = DataCheck(baseline=True)
    options: Any = {**QUIET, "max_epochs": 3}
    pl.Trainer(default_root_dir=tmp_path, callbacks=[check], **options).fit(
        Both(), CombinedLoader(loaders, "max_size"), DataLoader(sorted_out(160, 2), 16)
    )
    journal = read_journal(tmp_path / "debugkit")
    assert journal.of_kind("trouble") == []
    assert [finding.rule for finding in journal.findings if finding.severity >= Severity.WARNING] == []
