"""What stays is a function of the records: tables, a slow second road, and properties."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightning_debugkit.checkpointing.keep_reasons import doomed, present
from lightning_debugkit.checkpointing.records import head, history
from lightning_debugkit.checkpointing.retention_rules import Occasion
from lightning_debugkit.checkpoints import Best, Every, KeepRule, Latest, Moment, Record, kept


def record(step: int, *, run: str = "a", lineage: Any = (), **metrics: float) -> Record:
    moment = Moment(step, epochs=step // 10, seconds=60.0 * step)
    return Record(f"{run}-{step}", moment, metrics=metrics, time=float(step), run=run, lineage=lineage)


def steps(names: Any) -> list[int]:
    return [int(name.rpartition("-")[2]) for name in names]


SCORES = [(1, 5.0), (2, 3.0), (3, math.nan), (4, 3.0), (5, -math.inf), (6, 4.0), (7, math.inf)]
SCORED = [record(step, loss=loss) for step, loss in SCORES]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Best("loss"), [2]),
        (Best("loss", k=2), [2, 4]),
        (Best("loss", k=3), [2, 4, 6]),
        (Best("loss", k=9), [1, 2, 4, 6]),
        (Best("loss", mode="max"), [1]),
        (Best("loss", k=2, mode="max"), [1, 6]),
        (Best("loss", within=Every(steps=3)), [2, 4]),  # intervals 1-3, 4-6 and 7, which has no finite value
        (Best("loss", within=Every(steps=3, keep=2)), [2, 4]),  # of the intervals that have a value, the newest two
        (Best("loss", within=Every(steps=3, keep=1)), [4]),
        (Latest(), [7]),
        (Latest(n=3), [5, 6, 7]),
        (Every(steps=2), [2, 4, 6]),
        (Every(steps=2, keep=2), [4, 6]),
        (Every(hours=0.05), [3, 6]),
    ],
    ids=str,
)
def test_a_rule_keeps(rule: KeepRule, expected: list[int]) -> None:
    assert steps(kept(SCORED, [rule])) == expected


def test_a_metric_that_was_never_logged_leaves_the_newest_file() -> None:
    assert kept(SCORED, [Best("accuracy")]) == {"a-7": ("the only one",)}


def test_every_reason_is_told_once() -> None:
    rules = [Every(steps=2), Best("loss"), Best("loss"), Latest(n=7)]
    assert kept(SCORED, rules)["a-2"] == ("every 2 steps", "best loss", "one of the 7 latest")


def test_a_missed_multiple_is_kept_by_the_next_file() -> None:
    assert steps(kept([record(n) for n in (9, 13, 17, 24, 31)], [Every(steps=10)])) == [13, 24, 31]


def test_a_multiple_belongs_to_the_interval_it_ends() -> None:
    made = [record(5, loss=2.0), record(10, loss=1.0), record(15, loss=3.0)]
    assert steps(kept(made, [Best("loss", within=Every(steps=10))])) == [10, 15]


def test_epochs_count_when_they_are_over() -> None:
    assert steps(kept([record(n) for n in (8, 12, 25, 31, 44)], [Every(epochs=2)])) == [25, 44]


def test_the_file_resumed_from_stays() -> None:
    assert kept(SCORED, [Latest()], pinned={"a-1": "resumed from"}) == {"a-1": ("resumed from",), "a-7": ("latest",)}


def test_a_branch_left_behind_is_not_of_this_history() -> None:
    made = [record(n) for n in (10, 20, 30)]
    made += [record(n, run="b", lineage=(("a", 20),)) for n in (25, 35)]
    assert [r.name for r in history(made, "b", (("a", 20),))] == ["a-10", "a-20", "b-25", "b-35"]
    assert [r.name for r in history(made, "c", (("a", 20), ("b", 25)))] == ["a-10", "a-20", "b-25"]
    assert history(made, "d") == []


def test_a_fit_that_was_resumed_is_not_in_progress_whatever_the_clock_says() -> None:
    """The second machine's clock runs an hour behind that of the first."""
    made = [record(10), record(20)]
    made += [replace(record(n, run="b", lineage=(("a", 20),)), time=n - 3600.0) for n in (30, 40)]
    assert head(made) == made[-1]
    assert [r.step for r in present(made)] == [10, 20, 30, 40]
    made += [replace(record(25, run="c", lineage=(("a", 20),)), time=9e9)]
    assert head(made) == made[-1], "two branches: the later one is in progress"
    assert head([]) is None


counts = st.integers(1, 4)
optional_counts = st.none() | counts
everies = st.builds(Every, steps=st.integers(1, 30), keep=optional_counts) | st.builds(
    Every, hours=st.floats(0.01, 0.5), keep=optional_counts
)
bests = st.builds(
    Best,
    st.sampled_from(["loss", "acc"]),
    k=counts,
    mode=st.sampled_from(["min", "max"]),
    within=st.none() | everies,
)
all_rules = st.lists(everies | bests | st.builds(Latest, n=counts), max_size=4)
values = st.floats(allow_nan=True, allow_infinity=True, width=16)
metrics = st.dictionaries(st.sampled_from(["loss", "acc"]), values)
runs = st.lists(st.tuples(st.integers(1, 9), metrics), max_size=25)


def made(run: list[tuple[int, dict[str, float]]]) -> list[Record]:
    step, found = 0, []
    for stride, scored in run:
        step += stride
        found.append(record(step, **scored))
    return found


@given(runs, all_rules)
def test_survivors_are_a_subsequence(run: Any, rules: list[KeepRule]) -> None:
    found = made(run)
    names = iter([r.name for r in found])
    assert all(name in names for name in kept(found, rules))


@given(runs, all_rules)
def test_a_file_stays_while_a_rule_keeps_it_and_no_longer(run: Any, rules: list[KeepRule]) -> None:
    found = made(run)
    wanted = {name for rule in rules for name in rule.keeps(found)}
    expected = wanted or {r.name for r in found[-1:]}
    assert set(kept(found, rules)) == expected
    assert {r.name for r in doomed(found, rules)} == {r.name for r in found} - expected


@given(runs, all_rules, st.randoms())
def test_the_order_of_arrival_is_irrelevant(run: Any, rules: list[KeepRule], chance: random.Random) -> None:
    found = made(run)
    shuffled = chance.sample(found, len(found))
    assert kept(shuffled, rules) == kept(found, rules)


@example(
    run=[(1, {"loss": 0.0}), (1, {"loss": 0.0}), (1, {}), (1, {})],
    rules=[Best("loss", within=Every(steps=1, keep=3))],
)
@given(runs, all_rules)
def test_deleting_as_one_goes_leaves_what_looking_back_would(run: Any, rules: list[KeepRule]) -> None:
    """What was deleted would never have been wanted later: else files would be lost by bad luck."""
    alive: list[Record] = []
    found = made(run)
    for new in found:
        alive.append(new)
        gone = {r.name for r in doomed(alive, rules)}
        alive = [r for r in alive if r.name not in gone]
    wanted = {name for rule in rules for name in rule.keeps(found)}
    assert wanted <= {r.name for r in alive}
    assert len(alive) == max(len(wanted), min(1, len(found)))


@given(runs, bests)
def test_what_is_not_finite_never_ranks(run: Any, rule: Best) -> None:
    found = {r.name: r for r in made(run)}
    assert all(math.isfinite(found[name].metrics[rule.metric]) for name in rule.keeps(list(found.values())))


@given(runs, counts, st.sampled_from(["min", "max"]))
def test_the_best_are_the_best(run: Any, k: int, mode: Any) -> None:
    """Second road: nobody outside is better than anybody inside, nor equal and earlier."""
    found = made(run)
    inside = Best("loss", k=k, mode=mode).keeps(found)
    sign = 1 if mode == "min" else -1
    ranking = [
        (sign * r.metrics["loss"], r.step, r.name) for r in found if math.isfinite(r.metrics.get("loss", math.nan))
    ]
    assert set(inside) == {name for *_, name in sorted(ranking)[:k]}


@given(runs, everies)
def test_a_file_for_each_multiple_passed(run: Any, rule: Every) -> None:
    found = made(run)
    passed = {math.floor(rule.place(r.moment)) for r in found} - {0}
    assert len(rule.keeps(found)) == min(len(passed), rule.keep or len(passed))


@given(runs, all_rules)
def test_what_is_due_is_kept(run: Any, rules: list[KeepRule]) -> None:
    found = made(run)
    for count, new in enumerate(found):
        before = found[count - 1].moment if count else Moment(0)
        for occasion in Occasion:
            if any(rule.is_due(new, before, found[:count], occasion) for rule in rules):
                assert new.name in kept([*found[:count], new], rules)


@given(runs)
def test_a_record_survives_its_json(run: Any) -> None:
    for each in made(run):
        again = Record.from_json(each.to_json())
        assert again.to_json() == each.to_json()
        assert (again.moment, again.lineage, again.name) == (each.moment, each.lineage, each.name)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"v": 1, "name": "a"}', "null"])
def test_what_is_no_record_says_so(text: str) -> None:
    with pytest.raises(ValueError):
        Record.from_json(text)
