"""Samples that are all but equal are told wherever they stand; twins of tables, and what is looked at, are bounded."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from faults.preflight import Net
from faults.registry import mlp
from monitors.breaking import QUIET
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import DataCheck, read_journal
from lightning_debugkit.core.finding import Where
from lightning_debugkit.data import callback, near_duplicates, samples_seen
from lightning_debugkit.data.samples_seen import Seen

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]
HERE = Where(0, 0)


def drawn(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def told(train: Tensor, val: Tensor | None, is_table: bool) -> list[tuple[str, int]]:
    found = near_duplicates.judge(train, val, is_table, False, HERE)
    return [(str(each.severity), each.evidence["count"]) for each in found]


def test_copies_at_the_end_of_many_validation_samples_are_told() -> None:
    train, val = drawn(4000, 20), drawn(3000, 20, seed=1)
    assert told(train, val, True) == []
    assert told(train, torch.cat([val, train[-90:] + 0.01 * drawn(90, 20, seed=2)]), True) == [("warning", 90)]


@pytest.mark.parametrize("measured", [1, 2])
def test_rows_of_a_table_that_are_twins_in_columns_of_few_values_are_not_told(measured: int) -> None:
    """Of six columns of five values, some rows are equal in all by chance, and only the rest tells them apart."""
    kinds = torch.randint(0, 5, (3000, 6), generator=torch.Generator().manual_seed(0)).float()
    table = torch.cat([kinds, drawn(3000, measured)], 1)
    assert told(table[:2000], table[2000:], True) == []
    assert told(table, None, True) == []


def test_copies_in_a_table_with_columns_of_few_values_are_told_by_the_others() -> None:
    kinds = torch.randint(0, 5, (1200, 6), generator=torch.Generator().manual_seed(0)).float()
    table = torch.cat([kinds, drawn(1200, 5)], 1)
    copies = table[:40].clone()
    copies[:, 6:] += 1e-3 * drawn(40, 5, seed=1)
    assert told(table[:800], torch.cat([table[800:], copies]), True) == [("warning", 40)]


def test_large_pictures_are_kept_small_and_of_many_bytes_fewer_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_seen, "INPUTS", 20)
    monkeypatch.setattr(samples_seen, "BYTES", 30 * 3 * 32 * 32 * 4)
    few, asked = Seen(), Seen(samples_seen.SAMPLES + 1)
    for start in range(0, 100, 10):
        batch = drawn(10, 3, 32, 32, seed=start), torch.zeros(10, dtype=torch.long)
        few.take(batch)
        asked.take(batch)
    assert (few.count, asked.count) == (30, 100)
    assert few.values is not None
    assert few.thumbnails is not None
    assert (few.values.shape, few.thumbnails.shape) == ((20, 3072), (30, 256))
    pictures = few.sample(5), few.sample(25), few.sample(35)
    assert [None if each is None else each[1] for each in pictures] == [(3, 32, 32), (1, 16, 16), None]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("copied", "rules"), [(True, {"duplicate-samples"}), (False, {"class-shift"})])
def test_training_that_is_balanced_by_copies_is_no_shift(copied: bool, rules: set[str], tmp_path: Path) -> None:
    """Of one in ten, validation has as many; copies, or as many others, make it half of training."""
    x, y, more = drawn(400, 20), torch.arange(400) % 10 == 0, drawn(320, 20, seed=1)
    rare = x[y].repeat(8, 1) if copied else more
    train = TensorDataset(torch.cat([x, rare]), torch.cat([y, torch.ones(320, dtype=torch.bool)]).long())
    val = TensorDataset(drawn(200, 20, seed=2), (torch.arange(200) % 10 == 0).long())
    pl.Trainer(max_epochs=1, default_root_dir=tmp_path, callbacks=[DataCheck()], **QUIET).fit(
        Net(True, mlp(20, 4, 2)), DataLoader(train, 40, shuffle=True), DataLoader(val, 40)
    )
    assert {finding.rule for finding in read_journal(tmp_path / "debugkit").findings} == rules


@pytest.mark.filterwarnings("ignore")
def test_validation_is_compared_though_the_first_epoch_is_too_long_to_be_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback, "BATCHES", 5)
    x, y = drawn(600, 20), torch.arange(600) % 2
    x[300:340] = x[200:240]
    loaders = DataLoader(TensorDataset(x[:400], y[:400]), 40), DataLoader(TensorDataset(x[:100], y[:100]), 40)
    check = DataCheck()
    pl.Trainer(max_epochs=2, default_root_dir=tmp_path, callbacks=[check], **QUIET).fit(
        Net(True, mlp(20, 4, 2)), *loaders
    )
    journal = read_journal(tmp_path / "debugkit")
    [overlap] = [each for each in journal.findings if each.rule == "train-val-overlap"]
    # The first five batches of 40, and all of validation.
    assert (overlap.evidence["trained"], overlap.evidence["count"]) == (200, 100)
    assert (check._train.count, journal.of_kind("trouble")) == (0, [])
