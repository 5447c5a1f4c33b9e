"""Rules are checked when they are made, come back from their text, and say when a save is due."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lightning_debugkit.checkpointing.retention_rules import Occasion
from lightning_debugkit.checkpointing.rule_text import as_rules
from lightning_debugkit.checkpoints import Best, Every, KeepRule, Latest, Moment, Record, read_rules

ALL: list[KeepRule] = [
    Every(steps=5000),
    Every(epochs=10, keep=2),
    Every(hours=4, keep=6),
    Best("val_loss", k=3),
    Best("val/acc", k=1, mode="max"),
    Best("val_loss", within=Every(steps=5000)),
    Latest(n=2, every_n_steps=500),
    Latest(),
]


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_a_rule_comes_back_from_its_text(rule: KeepRule) -> None:
    assert read_rules(repr(rule)) == (rule,)
    assert eval(repr(rule)) == rule


def test_several_rules_are_read_in_order_and_a_list_may_mix_text_and_rules() -> None:
    assert read_rules(", ".join(map(repr, ALL))) == tuple(ALL)
    assert as_rules(["Every(steps=5000)", *ALL[1:]]) == tuple(ALL)


@pytest.mark.parametrize("rule", ALL, ids=str)
def test_a_rule_is_frozen(rule: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.keep = 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Every, "Every needs one of steps, epochs and hours, got None; Every(steps=5000) is an example."),
        (
            lambda: Every(steps=2, hours=1),
            "Every needs one of steps, epochs and hours, got {'steps': 2, 'hours': 1}; "
            "Every(steps=5000) is an example.",
        ),
        (lambda: Every(steps=0), "Every needs steps >= 1, got 0; give a whole number."),
        (lambda: Every(epochs=True), "Every needs epochs >= 1, got True; give a whole number."),
        (lambda: Every(steps=2.0), "Every needs steps >= 1, got 2.0; give a whole number."),
        (lambda: Every(hours=0), "Every needs hours > 0, got 0; 0.5 is half an hour."),
        (lambda: Every(hours=float("nan")), "Every needs hours > 0, got nan; 0.5 is half an hour."),
        (lambda: Every(steps=1, keep=0), "Every needs keep >= 1, got 0; give a whole number."),
        (lambda: Best(""), "Best needs the name of a metric, got ''; Best('val_loss') is an example."),
        (lambda: Best("a", k=-1), "Best needs k >= 1, got -1; give a whole number."),
        (lambda: Best("a", mode="up"), "Best needs mode 'min' or 'max', got 'up'; 'min' suits a loss."),
        (
            lambda: Best("a", within=3),
            "Best needs within=Every(...), got 3; Every(steps=5000) is an example.",
        ),
        (lambda: Latest(n=0), "Latest needs n >= 1, got 0; give a whole number."),
        (lambda: Latest(every_n_steps=0), "Latest needs every_n_steps >= 1, got 0; give a whole number."),
    ],
)
def test_an_argument_that_cannot_be_is_told_at_once(make: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == said


@pytest.mark.parametrize(
    "text", ["", "Every", "Evry(steps=2)", "Every(steps=x)", "Every(3, 4, 5, 6, 7)", "__import__('os')"]
)
def test_text_that_is_no_rule_says_what_one_looks_like(text: str) -> None:
    with pytest.raises(ValueError, match="read_rules needs"):
        read_rules(text)


def at(step: int, epochs: int = 0, seconds: float = 0.0) -> Moment:
    return Moment(step, epochs, seconds)


STEP, BOUNDARY, FINAL = Occasion


@pytest.mark.parametrize(
    ("rule", "before", "now", "occasion", "due"),
    [
        (Every(steps=10), at(9), at(10), STEP, True),
        (Every(steps=10), at(10), at(11), STEP, False),
        (Every(steps=10), at(9), at(12), STEP, True),  # several optimizers step in one batch
        (Every(steps=10), at(9), at(9), FINAL, False),
        (Every(epochs=2), at(5, 1), at(9, 2), BOUNDARY, True),
        (Every(epochs=2), at(9, 2), at(12, 3), BOUNDARY, False),
        (Every(hours=1), at(1, 0, 3599.0), at(2, 0, 3600.0), STEP, True),
        (Every(hours=1), at(1, 0, 3600.0), at(2, 0, 7199.0), STEP, False),
        (Latest(), at(1), at(2), STEP, False),
        (Latest(), at(1), at(2), BOUNDARY, True),
        (Latest(every_n_steps=5), at(4), at(5), STEP, True),
        (Latest(every_n_steps=5), at(5), at(6), BOUNDARY, False),
        (Latest(every_n_steps=5), at(5), at(6), FINAL, True),
    ],
)
def test_a_save_is_due(rule: KeepRule, before: Moment, now: Moment, occasion: Occasion, due: bool) -> None:
    assert rule.is_due(Record("new", now), before, [], occasion) is due


@pytest.mark.parametrize(
    ("scored", "occasion", "due"),
    [
        ({"loss": 0.5}, BOUNDARY, True),
        ({"loss": 1.0}, BOUNDARY, False),  # a tie keeps the earlier
        ({"loss": 1.5}, BOUNDARY, False),
        ({"loss": float("nan")}, BOUNDARY, False),
        ({"loss": float("-inf")}, BOUNDARY, False),
        ({}, BOUNDARY, False),
        ({"loss": 0.5}, STEP, False),
    ],
)
def test_a_best_is_due_when_it_would_be_kept(scored: dict[str, float], occasion: Occasion, due: bool) -> None:
    held = [Record("old", at(1), metrics={"loss": 1.0})]
    assert Best("loss").is_due(Record("new", at(2), metrics=scored), at(1), held, occasion) is due
