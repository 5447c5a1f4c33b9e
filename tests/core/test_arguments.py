"""What an argument may be, and the sentence about one that may not."""

from __future__ import annotations

import math

import pytest

from lightning_debugkit import BiasVarianceReport, GradientAnomalyDetector, NestedCheckpoint
from lightning_debugkit.checkpoints import Best, Every
from lightning_debugkit.core.arguments import Needs, is_listing, is_number, is_whole

NEEDS = Needs("Owner")


@pytest.mark.parametrize(
    ("value", "whole", "number"),
    [(3, True, True), (-1, True, True), (0.5, False, True), (math.inf, False, False), (True, False, False),
     ("3", False, False), (None, False, False)],
)  # fmt: skip
def test_true_and_false_are_no_numbers(value: object, whole: bool, number: bool) -> None:
    assert (is_whole(value), is_number(value)) == (whole, number)


def test_a_text_is_no_listing_of_texts() -> None:
    assert is_listing(["a", "b"], str)
    assert is_listing((), str)
    assert not is_listing("ab", str)
    assert not is_listing([1], str)


def test_what_is_as_it_should_be_passes() -> None:
    NEEDS.whole("n", 1, 1, "")
    NEEDS.switch("on", False, "")
    NEEDS.one_of("kind", "a", ("a", "b"), "")
    for given in (None, len, "math:sqrt", "math.sqrt"):
        NEEDS.function("adapter", given, "")


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: NEEDS.whole("n", True, 1, "2 is usual"), "Owner needs n >= 1, got True; 2 is usual."),
        (lambda: NEEDS.switch("on", "False", "it is usual"), "Owner needs on True or False, got 'False'; it is usual."),
        (lambda: NEEDS.one_of("kind", "c", ("a", "b"), "take a"), "Owner needs kind 'a' or 'b', got 'c'; take a."),
        (lambda: NEEDS.function("adapter", "a.b", "write it"),
         "Owner needs adapter to be a function or its dotted path, got 'a.b'; module 'a' cannot be imported "
         "(ModuleNotFoundError: No module named 'a')."),
        (lambda: NEEDS.function("adapter", "math.b", "write it"),
         "Owner needs adapter to be a function or its dotted path, got 'math.b'; module 'math' has no function 'b'."),
        (lambda: NEEDS.function("adapter", "b", "write it"),
         "Owner needs adapter to be a function or its dotted path, got 'b'; 'b' names no module, as in "
         "'module.function'."),
        (lambda: NEEDS.function("adapter", 3, "write it"),
         "Owner needs adapter to be a function or its dotted path, got 3; write it."),
    ],
)  # fmt: skip
def test_what_is_not_is_said_in_one_sentence(check: object, said: str) -> None:
    with pytest.raises(ValueError) as error:
        check()
    assert str(error.value) == said


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        (GradientAnomalyDetector, "ignore", "a Reporting beside the callback has it, or debugkit()."),
        (NestedCheckpoint, "save_top_k", "top_k=3) has it, or rules=[Best('val_loss', k=3)]."),
        (GradientAnomalyDetector, "acton", "the closest is 'action'."),
        (GradientAnomalyDetector, "zzz", "check the spelling."),
        (Every, "step", "the closest is 'steps'."),
        (Best, "mod", "the closest is 'mode'."),
    ],
)
def test_an_argument_that_is_none_is_told_with_what_has_it(kind: type, name: str, said: str) -> None:
    with pytest.raises(TypeError) as error:
        kind(**{name: 3})
    assert str(error.value).startswith(f"{kind.__name__} needs arguments among ")
    assert f", got {name!r}; " in str(error.value)
    assert str(error.value).endswith(said)


def test_an_argument_of_a_subclass_and_one_that_lightning_has_too_pass() -> None:
    class Mine(GradientAnomalyDetector):
        def __init__(self, extra: int, **rest: object) -> None:
            super().__init__(**rest)
            self.extra = extra

    assert (Mine(extra=3, action="warn").extra, Mine(4).action) == (3, "raise")
    assert BiasVarianceReport(every_n_epochs=2).every_n_epochs == 2
