"""What an argument may be, and the sentence about one that may not."""

from __future__ import annotations

import math

import pytest

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
