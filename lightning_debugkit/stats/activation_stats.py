"""What a look at one activation tells, in a few numbers that stay on its device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 1 << 19  # entries of one tensor that a mean is taken of
_ROWS = 4096  # rows of attention looked at
# Attention masks are additive: minus infinity, the least finite number, -1e9 or -1e4. No score comes near.
_MASKED = -9_000.0

# Where the derivative falls below 1 % of its largest value, for good: tests derive them with autograd.
TANH = math.sqrt(0.99)  # 1 - y**2 = 0.01
SIGMOID = (1 + math.sqrt(0.99)) / 2  # y (1 - y) = 0.01 / 4
FLOORS = {"gelu": -3.0217, "silu": -6.1429, "elu": -4.6052, "softplus": -4.5951, "mish": -6.1587, "hardswish": -3.0}
# Of a sigmoid-shaped row of probabilities the same: p (1 - p) below 1 % of its largest value for each of them.
HARD = SIGMOID


def thinned(x: Tensor, keep: int | None = None, most: int = MOST) -> Tensor:
    """Return ``x``, or evenly spread slices of it that hold about ``most`` entries.

    Args:
        keep: Dimension that stays whole.
        most: Entries wanted.

    >>> thinned(torch.zeros(100, 8), keep=1, most=80).shape
    torch.Size([10, 8])
    """
    x = x.detach()
    if x.numel() <= most:
        return x
    free = [size if dim != keep else 0 for dim, size in enumerate(x.shape)]
    dim = free.index(max(free))
    stride = min(math.ceil(x.numel() / most), x.shape[dim])
    some: Tensor = x[(slice(None),) * dim + (slice(None, None, stride),)]
    return some


def rms(x: Tensor) -> Tensor:
    """Return the root of the mean square, of about half a million entries at most.

    >>> rms(torch.tensor([3.0, 4.0, 0.0, 0.0]))
    tensor(2.5000)
    """
    x = thinned(x)
    norm: Tensor = torch.linalg.vector_norm(x, dtype=_wide(x)).float()
    return norm / math.sqrt(max(x.numel(), 1))


def peaks(x: Tensor, unit: int) -> Tensor:
    """Return the largest value of each unit over all samples and places.

    Shapes:
        x: any; returns (x.shape[unit],) float32.

    >>> peaks(torch.tensor([[1.0, -2.0], [3.0, -4.0]]), unit=1)
    tensor([ 3., -2.])
    """
    x = x.detach()
    others = [dim for dim in range(x.ndim) if dim != unit]
    return (x.amax(dim=others) if others else x).float()


def share_above(x: Tensor, floor: float) -> Tensor:
    """Return the share of entries above ``floor``."""
    return (thinned(x) > floor).float().mean()


def at_ends(x: Tensor, unit: int, low: float, high: float) -> Tensor:
    """Return for each unit the share of its entries at ``low`` or below, and at ``high`` or above.

    Shapes:
        x: any; returns (2, x.shape[unit]) float32.

    >>> at_ends(torch.tensor([[1.0, 0.0], [1.0, -1.0]]), unit=1, low=-0.99, high=0.99)
    tensor([[0.0000, 0.5000],
            [1.0000, 0.0000]])
    """
    x = thinned(x, keep=unit)
    others = [dim for dim in range(x.ndim) if dim != unit]
    sides = [(x <= low).float(), (x >= high).float()]
    return torch.stack([side.mean(dim=others) if others else side for side in sides])


def hard_rows(scores: Tensor) -> Tensor:
    """Return how many rows of a softmax over ``scores`` are one-hot, of how many that have a choice.

    A row is one-hot when its largest probability lies so near 1 that the derivative of each is below 1 % of its
    largest value. Rows with fewer than two keys that are not masked are one-hot by construction and do not count.

    Shapes:
        scores: (..., keys); returns (2,) float32: one-hot rows, rows with a choice.

    >>> hard_rows(torch.tensor([[90.0, 0.0], [1.0, 0.0], [5.0, -torch.inf]]))
    tensor([1., 2.])
    """
    scores = thinned(scores, keep=scores.ndim - 1, most=_ROWS * scores.shape[-1]).float()
    has_choice = (scores > _MASKED).sum(dim=-1) >= 2
    is_hard = torch.softmax(scores, dim=-1).amax(dim=-1) >= HARD
    return torch.stack([(is_hard & has_choice).sum(), has_choice.sum()]).float()


def variation(x: Tensor) -> Tensor:
    """Return how far samples differ (in the entry where they differ most), and the size of the largest entry.

    Shapes:
        x: (samples, ...); returns (2,) float32.

    >>> variation(torch.tensor([[1.0, -5.0], [1.5, -5.0]]))
    tensor([0.5000, 5.0000])
    """
    x = thinned(x)
    return torch.stack([(x.amax(dim=0) - x.amin(dim=0)).amax(), x.abs().amax()]).float()


def to_host(values: Sequence[Tensor]) -> list[Tensor]:
    """Return copies in host memory, with one transfer for each device they lie on."""
    found: list[Tensor] = [torch.empty(0)] * len(values)
    for device in {value.device for value in values}:
        here = [index for index, value in enumerate(values) if value.device == device]
        flat = torch.cat([values[index].reshape(-1).float() for index in here]).cpu()
        parts = flat.split([values[index].numel() for index in here])
        for index, part in zip(here, parts, strict=True):
            found[index] = part.reshape(values[index].shape)
    return found


def _wide(x: Tensor) -> torch.dtype:
    # In half precision the norm itself would overflow.
    return torch.float64 if x.dtype == torch.float64 else torch.float32
