"""Bring numbers from a device to the host, many in one copy: each copy makes the host wait for the device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.stats.tensor_norms import entries, unobserved

_TOGETHER = 256  # short tensors that are copied at a time: what is made of them stays in the processor's caches


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
        along = self._along((*alike, *others)[0].device)
        return self._settled(along, read(alike, [*others, *_unbound(along)]), count)

    def norms(
        self, short: Sequence[Tensor], others: Sequence[Tensor] = (), sizes: Sequence[int] = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the norm of each of some tensors, and other numbers, as `read_norms` does, with all that waits."""
        along = self._along(short[0].device) if self._waiting else []
        found, numbers = read_norms(short, [*others, *_unbound(along)], sizes)
        return found, self._settled(along, numbers, len(others))

    def _along(self, device: torch.device) -> list[tuple[Later, Tensor]]:
        """Take out what waits on a device."""
        held = [each for each in self._waiting if each.tensor is not None]
        along = [(each, each.tensor) for each in held if each.tensor is not None and each.tensor.device == device]
        self._waiting = [each for each in held if each.tensor is not None and each.tensor.device != device]
        return along

    def _settled(
        self, along: Sequence[tuple[Later, Tensor]], found: NDArray[np.float64], count: int
    ) -> NDArray[np.float64]:
        """Give what came along, behind the first numbers, to those who wait; return the first ones."""
        rest = iter(found[count:].tolist())
        for each, tensor in along:
            each.settle(list(itertools.islice(rest, tensor.numel())))
        return found[:count]


def _unbound(along: Sequence[tuple[Later, Tensor]]) -> list[Tensor]:
    return [entry for _, tensor in along for entry in tensor.reshape(-1).unbind()]


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


def read_norms(
    short: Sequence[Tensor], others: Sequence[Tensor] = (), sizes: Sequence[int] = ()
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the norm of each of some tensors in host memory, and other numbers, by one copy of all their entries.

    Shapes:
        short: dense, of 32 bits or fewer, none without entries, any shapes: the squares are summed in 64 bits; returns
            ``(len(short),)``.
        others: of one entry each, any type and device; returns ``(len(others),)``.
        sizes: number of entries of each of the first, where that is known.

    >>> norms, numbers = read_norms([torch.tensor([3.0, 4.0]), torch.full((2, 2), -(2.0**100))], [torch.tensor(True)])
    >>> norms.tolist() == [5.0, 2.0**101], numbers.tolist()
    (True, [1.0])
    """
    found, numbers, count = [], np.zeros(0), len(others)
    for at in range(0, len(short), _TOGETHER):
        part, ahead = short[at : at + _TOGETHER], () if at else others
        with unobserved():
            device = part[0].device
            ahead = [each if each.device == device else each.to(device) for each in ahead]
            copy = entries([*ahead, *part]).double().cpu().numpy()
        if ahead:
            numbers, copy = copy[:count], copy[count:]
        counts = sizes[at : at + _TOGETHER] if sizes else [each.numel() for each in part]
        starts = list(itertools.accumulate(counts[:-1], initial=0))
        found.append(np.sqrt(np.add.reduceat(np.square(copy), starts)))
    return (found[0] if len(found) == 1 else np.concatenate(found)), numbers
