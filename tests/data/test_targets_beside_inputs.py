"""Targets beside their inputs: what is told of numbers, windows, words and weights, and what comes near and is not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.data import (
    class_weights,
    duplicate_columns,
    neighbours,
    shared_windows,
    target_leak,
    target_relation,
)
from lightning_debugkit.data.labels import judge_counts
from lightning_debugkit.data.samples_seen import Seen

HERE = Where(0, 0)


def rules(found: Iterable[Finding]) -> list[str]:
    return [finding.rule for finding in found]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def related(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = noise(n, 6, seed=seed)
    return x, x[:, :1] + 0.5 * x[:, 1:2] ** 2 + 0.3 * noise(n, 1, seed=seed + 1)


def test_unrelated_numbers_show_nothing_as_often_as_the_level_says() -> None:
    found = [target_relation.relation(noise(250, 6, seed=s), noise(250, 2, seed=1000 + s)) for s in range(100)]
    assert sum(not each.is_none for each in found if each is not None) <= 12  # 5 expected, 12 with a chance of 0.2 %
    assert max(test.sigmas for each in found if each is not None for test in each.tests) < 4.5


@pytest.mark.parametrize("power", [1, 3])  # heavy tails
def test_one_split_is_accused_only_where_the_other_shows_what_it_lacks(power: int) -> None:
    x, y = related(900)
    train, val = (x[:600], y[:600] ** power), (x[600:], y[600:] ** power)
    shuffled = (val[0], val[1][torch.randperm(300, generator=torch.Generator().manual_seed(0))])
    one, sound, broken = (target_relation.relation(*split) for split in (train, val, shuffled))
    assert rules(target_relation.judge(one, sound, HERE)) == []
    assert rules(target_relation.judge(one, broken, HERE)) == ["labels-unrelated-to-inputs"]
    few = target_relation.relation(shuffled[0][:150], shuffled[1][:150])
    assert few is None


def test_a_weak_relation_that_one_split_may_miss_is_left_alone() -> None:
    x = noise(1000, 6)
    y = 0.3 * x[:, :1] + noise(1000, 1, seed=1)
    one, other = target_relation.relation(x, y), target_relation.relation(noise(210, 6, seed=2), noise(210, 1, seed=3))
    assert one.tests[1].sigmas > 6
    assert rules(target_relation.judge(one, other, HERE)) == []


def test_an_autoencoder_and_a_series_shifted_by_one_are_no_leak() -> None:
    x = noise(200, 12)
    assert rules(target_leak.judge(x, [12], x, HERE)) == []
    assert rules(target_leak.judge(x[:, :-1], [11], x[:, 1:], HERE)) == []
    assert rules(target_leak.judge(x, [12], x[:, 9:], HERE)) == ["target-leak"]


def test_what_was_seen_first_may_be_asked_for_and_what_was_seen_last_not() -> None:
    windows = noise(200, 10, 3)
    flat = windows.flatten(1)
    assert rules(target_leak.judge(flat, [10, 3], windows[:, 0, :1], HERE)) == []
    assert rules(target_leak.judge(flat, [10, 3], windows[:, -1, :1], HERE)) == ["target-leak"]


def test_a_line_of_one_feature_and_a_count_are_no_leak() -> None:
    x = noise(200, 3)
    assert rules(target_leak.judge(x[:, :1], [1], 3 * x[:, :1] + 1, HERE)) == []
    counts = torch.poisson(x[:, :1].exp(), generator=torch.Generator().manual_seed(0))
    assert rules(target_leak.judge(torch.cat([x, counts], 1), [4], counts, HERE)) == []


def test_a_feature_that_only_nearly_tells_the_class_is_no_leak() -> None:
    kinds = np.arange(300) % 3
    column = torch.tensor(kinds, dtype=torch.float32)[:, None]
    x = torch.cat([noise(300, 4), column], 1)
    assert rules(target_leak.judge_classes(x, kinds, HERE)) == ["target-leak"]
    x[7, 4] = 1 - x[7, 4] if x[7, 4] < 2 else 0
    assert rules(target_leak.judge_classes(x, kinds, HERE)) == []
    threshold = (x[:, 0] > 0).long().numpy()
    assert rules(target_leak.judge_classes(x, threshold, HERE)) == []


def steps(n: int) -> Tensor:
    return noise(n).cumsum(0)


def test_windows_of_a_split_by_time_reach_over_its_end_and_are_none_of_training() -> None:
    windows = steps(600).unfold(0, 24, 1)
    assert rules(shared_windows.judge(windows[:500], windows[500:520], [24], HERE)) == []
    assert rules(shared_windows.judge(windows[::2], windows[1::2], [24], HERE)) == ["train-val-overlap"]


def test_a_series_that_repeats_itself_is_passed_over() -> None:
    windows = torch.sin(torch.arange(600) % 24 * 0.26).unfold(0, 24, 1)
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    assert rules(shared_windows.judge(windows[order[:400]], windows[order[400:]], [24], HERE)) == []


def test_pairs_of_users_and_things_share_halves_in_their_places() -> None:
    """A user's columns come first and a thing's last, in training and validation: nothing is shifted."""
    users, things = noise(30, 10), noise(40, 10, seed=1)
    rows = torch.cartesian_prod(torch.arange(30), torch.arange(40))
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    x = torch.cat([users[rows[:, 0]], things[rows[:, 1]]], 1)
    assert rules(shared_windows.judge(x[:900], x[900:], [20], HERE)) == []


def test_texts_are_near_that_share_rare_words() -> None:
    draw = torch.Generator().manual_seed(0)
    kinds = torch.arange(400) % 4
    texts = torch.randint(50, (400, 16), generator=draw)
    texts[:, 3:9] = torch.randint(20, (400, 6), generator=draw) + 50 + 20 * kinds[:, None]
    texts = torch.stack([row[torch.randperm(16, generator=draw)] for row in texts]).float()
    assert neighbours.agreement(texts, kinds.numpy(), are_words=True).sigmas > 10
    mixed = kinds[torch.randperm(400, generator=draw)].numpy()
    assert neighbours.agreement(texts, mixed, are_words=True).is_chance


COUNTS = np.array([600, 250, 100, 50])
LABELS = np.repeat(np.arange(4), COUNTS)


@pytest.mark.parametrize(
    ("weights", "is_told"),
    [
        (COUNTS / 1000, True),
        ((1 / COUNTS)[[1, 0, 2, 3]], True),
        (1 / COUNTS, False),
        (1 / np.sqrt(COUNTS), False),
        (np.ones(4), False),
        (np.array([1.0, 2, 4, 8]), False),
        (np.array([2.0, 1, 1, 3]), False),
    ],
)
def test_weights_are_accused_that_are_shares_or_stand_in_another_order(weights: np.ndarray, is_told: bool) -> None:
    assert rules(class_weights.judge(weights, LABELS, HERE)) == ["class-weights-misplaced"] * is_told


def test_of_two_classes_weights_may_be_chosen() -> None:
    labels = np.repeat([0, 1], [700, 300])
    assert rules(class_weights.judge(np.array([2.0, 1.0]), labels, HERE)) == []
    assert rules(class_weights.judge(np.array([0.7, 0.3]), labels, HERE)) == ["class-weights-misplaced"]


@pytest.mark.parametrize(
    ("batch", "width"),
    [
        ((noise(32, 8), noise(32)), 1),
        ((noise(32, 8), noise(32, 3)), 3),
        ((noise(32, 8), noise(32, 8)), None),  # an autoencoder
        ((noise(32, 8), noise(32, 3), noise(32, 2)), None),
        ({"x": noise(32, 8), "time": noise(32), "target": noise(32)}, 1),
    ],
)
def test_numbers_to_be_predicted_are_told_where_that_is_certain(batch: object, width: int | None) -> None:
    seen = Seen()
    seen.take(batch)
    assert (None if seen.wanted is None else seen.wanted.shape[1]) == width


def test_targets_that_are_all_zero_or_one_are_counted_as_classes_whatever_their_type() -> None:
    rare = (torch.arange(400) % 80 == 3).float()
    for targets, counted in ((rare, True), (rare[:, None], True), (rare + 0.5, False), (rare.long(), True)):
        seen = Seen()
        seen.take((noise(400, 6), targets))
        found = [] if seen.counted is None else rules(judge_counts(seen.counted, None, True, HERE))
        assert found == ["class-imbalance"] * counted


def test_a_column_that_stands_twice_is_noted_with_both_places() -> None:
    x = noise(200, 5)
    [found] = duplicate_columns.judge(x[:, [0, 1, 2, 1, 4]], HERE)
    assert (found.severity, found.evidence["pairs"]) == (Severity.INFO, [[1, 3]])
    assert [*duplicate_columns.judge(x, HERE)] == []
    assert [*duplicate_columns.judge(x[:, [0, 1, 1, 1, 4]], HERE)] == []  # of a window, in which it does not change
