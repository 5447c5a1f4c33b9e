"""The random state of a process: python, numpy, torch and every device; captured and put back."""

from __future__ import annotations

import _random
import ctypes
import functools
import random
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Of the usual generator, Mersenne Twister, bytes of the 624 words. It makes all of them anew when they have been drawn:
# its position, and a few words, tell whether it has drawn.
_WORDS, _POSITION, _FEW = 2496, 4, 64
GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)


@dataclass(frozen=True)
class RandomState:
    """What all generators of the process will draw next."""

    python: Any
    numpy: Any
    cpu: Tensor
    devices: tuple[Tensor, ...]

    @classmethod
    def capture(cls) -> RandomState:
        """Return the state of now; costs some microseconds and no synchronisation."""
        # A process that has not initialised CUDA must not be made to do so by a look.
        cuda = torch.cuda.is_initialized() and torch.cuda.is_available()
        return cls(
            python=_of_python(),
            numpy=_of_numpy(),
            cpu=torch.get_rng_state(),
            devices=tuple(torch.cuda.get_rng_state_all()) if cuda else (),
        )

    def is_as(self, other: RandomState) -> bool:
        """Tell whether both would draw the same."""
        tensors = ((self.cpu, *self.devices), (other.cpu, *other.devices))
        if self.python != other.python or not all(map(torch.equal, *tensors)):
            return False
        if self.numpy is None or other.numpy is None:
            return self.numpy is other.numpy
        return all(np.array_equal(one, again) for one, again in zip(self.numpy, other.numpy, strict=True))

    def restore(self) -> None:
        """Make all generators draw what they would have drawn when this was captured."""
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.devices and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(list(self.devices[: torch.cuda.device_count()]))


class _Watched:
    """A generator as it was when it was last asked."""

    def __init__(self, generator: Any, views: Sequence[Any]) -> None:
        self.generator = generator  # Python's or numpy's; it is kept, as its memory is looked at
        self.views = views  # the parts of its memory that tell whether it has drawn
        self.told: Any = None
        self.state: Any = None


# Of the process's global generators, the last ones.
_python = _numpy = _Watched(object(), ())


def _of_python() -> Any:
    """Return the state of python's global generator, asked anew only when it has drawn since: that takes long."""
    global _python  # one generator, one memory of it
    own = getattr(random.getstate, "__self__", None)
    if own is not _python.generator:
        if not isinstance(own, random.Random) or not _is_within():
            return random.getstate()
        _python = _Watched(own, [_view(id(own) + object.__basicsize__, _FEW)])
    seen = _python
    told = seen.views[0].raw, getattr(own, "gauss_next", None)  # the half of a pair that waits to be given
    if told != seen.told:
        seen.told, seen.state = told, random.getstate()
    return seen.state


def _view(address: int, size: int) -> Any:
    return (ctypes.c_char * size).from_address(address)


def _memory(generator: random.Random, size: int = _random.Random.__basicsize__ - object.__basicsize__) -> bytes:
    """Return what the object of a generator holds, or the first bytes of it: the position stands before the words."""
    return ctypes.string_at(id(generator) + object.__basicsize__, size)


@functools.cache
def _is_within() -> bool:
    """Tell whether the objects of python's generators hold their whole state, as those of CPython do."""
    if sys.implementation.name != "cpython":
        return False
    generator = random.Random(0)
    held, words = _memory(generator), array("I", generator.getstate()[1][:-1]).tobytes()
    generator.random()
    return 0 < held.find(words) < _FEW // 2 and _memory(generator, _FEW) != held[:_FEW]


def _of_numpy() -> Any:
    """Return the state of numpy's global generator, asked anew only when it has drawn since: that takes long."""
    global _numpy  # one generator, one memory of it
    generator: Any = np.random.get_bit_generator()  # type: ignore[attr-defined]  # not in its stubs
    if type(generator) is not np.random.MT19937:
        return np.random.get_state()
    if generator is not _numpy.generator:
        at = generator.ctypes.state_address
        _numpy = _Watched(generator, [_view(at, _FEW), _view(at + _WORDS, _POSITION)])
    seen = _numpy
    told = [view.raw for view in seen.views]
    if told != seen.told:
        seen.state = np.random.get_state()
        # A normal number that waits to be given can be taken without a trace in the generator's own state.
        waits = bool(seen.state[3]) if isinstance(seen.state, tuple) else True
        seen.told = None if waits else told
    return seen.state


def generator_kept(generator: Any) -> Callable[[], Any]:
    """Return what puts a generator back to its state of now."""
    if isinstance(generator, torch.Generator):
        state = generator.get_state()
        return lambda: generator.set_state(state)
    if isinstance(generator, np.random.RandomState):
        legacy = generator.get_state()
        return lambda: generator.set_state(legacy)
    if isinstance(generator, random.Random):
        python = generator.getstate()
        return lambda: generator.setstate(python)
    bits, kept = generator.bit_generator, generator.bit_generator.state
    return lambda: setattr(bits, "state", kept)
