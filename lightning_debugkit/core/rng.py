"""The random state of a process: python, numpy, torch and every device; captured and put back."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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
        numpy = sys.modules.get("numpy")
        # A process that has not initialised CUDA must not be made to do so by a look.
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        return cls(
            python=random.getstate(),
            numpy=numpy.random.get_state() if numpy else None,
            cpu=torch.get_rng_state(),
            devices=tuple(torch.cuda.get_rng_state_all()) if cuda else (),
        )

    def restore(self) -> None:
        """Make all generators draw what they would have drawn when this was captured."""
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)
        torch.set_rng_state(self.cpu)
        if self.devices and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(list(self.devices[: torch.cuda.device_count()]))
