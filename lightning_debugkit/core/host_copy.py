"""Bring numbers from a device to the host, many in one copy: each copy makes the host wait for the device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.stats.tensor_norms import unobserved


class Later:
    """Numbers of a device that the next copy brings along. ``tensor``: any shape; let go of once it has been read."""

    __slots__ = ("_found", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor: Tensor | None = tensor.detach()
        self._found: list[float] = []

    @property
    def is_read(self) -> bool:
        """The numbers have reached the host."""
        return self.tensor is None

    @property
    def number(self) -> float:
        """The first of them."""
        return self.numbers[0]

    @property
    def numbers(self) -> list[float]:
        """The numbers, read now if nobody has."""
        if self.tensor is not None:
            self.settle(read([], self.tensor.reshape(-1).unbind()).tolist())
        return self._found

    def settle(self, found: list[float]) -> None:
        """Take the numbers that were read."""
        self._found, self.tensor = found, None


class HostCopy:
    """The one way of a training step's numbers to the host, shared by all who ask in one run."""

    def __init__(self) -> None:
        self._waiting: list[Later] = []

    def later(self, tensor: Tensor) -> Later:
        """Return what holds the numbers of ``tensor`` once somebody has read something else."""
        waiting = Later(tensor)
        self._waiting.append(waiting)
        return waiting

    def now(self, alike: Sequence[Tensor], others: Sequence[Tensor] = ()) -> NDArray[np.float64]:
        """Return numbers by one copy, which brings all that waits on their device along.

        Shapes:
            alike: tensors of one entry, all of one type and device.
            others: tensors of one entry of any type and device; returns the numbers of both, ``(n,)``.
        """
        count = len(alike) + len(others)
        if not self._waiting or not count:
            return read(alike, others)
        device = (*alike, *others)[0].device
        held = [each for each in self._waiting if each.tensor is not None]
        along = [(each, each.tensor) for each in held if each.tensor is not None and each.tensor.device == device]
        self._waiting = [each for each in held if each.tensor is not None and each.tensor.device != device]
        found = read(alike, [*others, *(entry for _, tensor in along for entry in tensor.reshape(-1).unbind())])
        rest = iter(found[count:].tolist())
        for each, tensor in along:
            each.settle(list(itertools.islice(rest, tensor.numel())))
        return found[:count]


def read(alike: Sequence[Tensor], others: Sequence[Tensor] = ()) -> NDArray[np.float64]:
    """Return the numbers of tensors of one entry each, in order, by one copy from the device of the first.

    Shapes:
        alike: of one type and device, which is not asked of each.
        others: of any type and device; returns ``(n,)``.

    >>> read([torch.tensor(1.0)], [torch.tensor([2]), torch.tensor(True)]).tolist()
    [1.0, 2.0, 1.0]
    """
    if not alike and not others:
        return np.zeros(0)
    with unobserved():
        first = alike[0] if alike else others[0]
        is_wide = torch.float64 in {each.dtype for each in (first, *others)}
        kind = torch.float64 if is_wide else torch.float32
        if first.dtype != kind:
            alike, others = (), (*alike, *others)
        device = first.device
        tail = [
            each
            if each.dtype == kind and each.device == device and not each.ndim
            else each.detach().to(device, kind).reshape(())
            for each in others
        ]
        return torch.stack([*alike, *tail]).cpu().numpy().astype(np.float64)
