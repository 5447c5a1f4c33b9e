"""What the two sides of an isolated model say to each other arrives, whatever class it is of."""

from __future__ import annotations

import enum
import io
import pickletools
import zipfile
from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch

from lightning_debugkit.provenance.load_model.isolated_child import (
    decoded_call,
    encoded_call,
    plain_answer,
    receive,
    send,
)


class Mode(str, enum.Enum):
    FAST = "fast"

    def __str__(self) -> str:
        return "told otherwise"


class Level(enum.IntEnum):
    HIGH = 3


class Size(int):
    pass


class Key(bytes):
    pass


class Marked(torch.Tensor):
    @staticmethod
    def __new__(cls: type, data: Any) -> Any:  # made by Tensor.__new__ it would keep dispatch modes away
        return torch.as_tensor(data).as_subclass(cls)


Pair = namedtuple("Pair", "left right")


def arrived(value: Any) -> Any:
    """What the other side reads."""
    stream = io.BytesIO()
    send(stream, encoded_call({"value": value}))
    stream.seek(0)
    return decoded_call(receive(stream))["value"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        *((value, value) for value in (None, True, 7, 10**30, 0.5, "text", b"bytes", torch.float16)),
        (torch.device("cpu"), torch.device("cpu")),
        (np.float64(0.5), 0.5),
        (np.str_("text"), "text"),
        (np.bytes_(b"ab"), b"ab"),
        (Mode.FAST, "fast"),
        (Level.HIGH, 3),
        (Size(5), 5),
        (Key(b"ab"), b"ab"),
        (torch.Size([2, 3]), (2, 3)),
        (Pair(1, Mode.FAST), (1, "fast")),
        (OrderedDict({Mode.FAST: [np.float64(1.0)]}), {"fast": [1.0]}),
    ],
)
def test_plain_values_arrive_as_the_plain_type(sent: Any, expected: Any) -> None:
    value = arrived(sent)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize("value", [1j, np.complex64(1j), np.int64(3), np.bool_(True), np.float32(0.1), np.arange(3.0)])
def test_other_numbers_arrive_as_tensors(value: Any) -> None:
    assert torch.equal(arrived(value), torch.as_tensor(value))


@pytest.mark.parametrize("of", [Marked, torch.nn.Parameter])
def test_tensors_of_a_class_arrive_as_tensors(of: Any) -> None:
    value = arrived(torch.ones(2).as_subclass(of) if of is Marked else of(torch.ones(2)))
    assert type(value) is torch.Tensor
    assert torch.equal(value, torch.ones(2))


def test_no_class_of_ours_is_named() -> None:
    """Whatever the other side's torch allows: the message itself names torch's own classes only."""
    message = encoded_call({"value": [Mode.FAST, Level.HIGH, np.float64(1), 1j, Pair(1, 2), Marked([1.0])]})
    with zipfile.ZipFile(io.BytesIO(message)) as archive:
        data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    named = {str(argument) for code, argument, _ in pickletools.genops(data) if code.name == "GLOBAL"}
    assert {name.partition(".")[0].partition(" ")[0] for name in named} <= {"torch", "collections"}


@pytest.mark.parametrize("value", [{1}, object(), {"deep": [lambda: 0]}])
def test_what_is_none_of_these_is_refused_before_it_is_sent(value: Any) -> None:
    with pytest.raises(TypeError, match="needs tensors, numbers, text, and lists, tuples and mappings of those, got"):
        plain_answer(value)
