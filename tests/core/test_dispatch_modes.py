"""Where a dispatch mode may be entered: read from how classes of tensors are made, and checked by making them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from lightning_debugkit.core.dispatch_modes import cannot_enter, entered, is_made_anew


class Nothing(TorchDispatchMode):
    """Hands on what it is given."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _classes_go_with_their_test() -> Iterator[None]:
    yield
    gc.collect()


def plain() -> type:
    return type("Plain", (Tensor,), {})


def labelled() -> type:
    class Labelled(Tensor):
        @staticmethod
        def __new__(cls: type, data: Any, names: Any = None) -> Any:
            return Tensor.__new__(cls, data)

        def __init__(self, data: Any, names: Any = None) -> None:
            self.names_ = names

    return Labelled


def heir_of_labelled() -> type:
    return type("Heir", (labelled(),), {})


def _made(kind: type, data: Any) -> Any:
    return Tensor.__new__(kind, data)


def by_a_function() -> type:
    return type("Helped", (Tensor,), {"__new__": lambda cls, data: _made(cls, data)})


def view() -> type:
    return type("View", (Tensor,), {"__new__": lambda cls, data: data.as_subclass(cls)})


def heir_of_view() -> type:
    parent = view()
    return type(
        "Heir", (parent,), {"__new__": lambda cls, data: parent.__new__(cls, data), "__init__": lambda *_: None}
    )


def made_subclass() -> type:
    return type("Made", (Tensor,), {"__new__": lambda cls, data: Tensor._make_subclass(cls, data)})


def parameter() -> type:
    return type("Weight", (nn.Parameter,), {})


ANEW = (plain, labelled, heir_of_labelled, by_a_function)
OTHERWISE = (view, made_subclass, parameter)


@pytest.mark.parametrize("make", [*ANEW, *OTHERWISE])
def test_it_is_read_from_the_class_whether_it_survives_a_mode(make: Callable[[], type]) -> None:
    kind = make()
    made: Any = kind
    survives = True
    try:
        with Nothing():
            made(torch.ones(2))
    except RuntimeError as error:
        survives = "already associated to a python object" not in str(error)
    assert is_made_anew(kind) == (not survives)
    assert bool(cannot_enter()) == (not survives)


def test_a_constructor_that_asks_a_sound_one_is_taken_for_unsound_only_where_it_ends_in_torch() -> None:
    parent = view()
    namespace = {"__new__": lambda cls, data: super(heir, cls).__new__(cls, data)}
    heir: Any = type("Heir", (parent,), namespace)
    assert not is_made_anew(heir)
    with Nothing():
        assert type(heir(torch.ones(2))) is heir


def test_a_mere_base_of_sound_classes_keeps_nobody_away() -> None:
    base = type("Base", (Tensor,), {})
    kinds = [type("One", (base,), {"__new__": lambda cls, data: data.as_subclass(cls)})]
    assert not is_made_anew(base)
    assert kinds


def test_nothing_is_in_the_way_as_a_rule() -> None:
    assert cannot_enter() == ""


@pytest.mark.parametrize("fails", [False, True])
def test_a_mode_that_the_program_leaves_later_stays_and_ours_goes(fails: bool) -> None:
    ours, theirs = Nothing(), Nothing()
    try:
        with entered(ours):
            assert _get_current_dispatch_mode() is ours
            theirs.__enter__()
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert _get_current_dispatch_mode() is theirs
    theirs.__exit__(None, None, None)
    assert _get_current_dispatch_mode() is None
