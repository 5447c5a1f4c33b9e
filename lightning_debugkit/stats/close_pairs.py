"""Pairs of samples that lie closer together than independent samples do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEIGHBOURS = 5  # a sample may have three copies more and still be told
CHANCE = 0.01  # pairs that are expected where there are no copies
FEWEST = 50
# At least so many times closer: of overlapping windows of a series, the fifth neighbour lies three steps off and the
# first one step.
LEAST = 4.0
# Times more dimensions by the further neighbours than by the first, which no strewn points have.
COPIED = 2.0
# Random directions that keep distances to about a tenth, sqrt(1 / (2 * 64)) (Johnson and Lindenstrauss, 1984).
DIRECTIONS = 64
MEASURED = 1000  # samples whose distances to all others are taken; of more, those that some trees suspect
SUSPECTS = 2000
# Trees that halve the samples along random directions (Dasgupta and Freund, 2008), down to leaves of about 32: of pairs
# that are just close enough, nine in ten or more share a leaf of one of six.
TREES = 6
LEAF = 32
WIDTH = 32  # directions in which leaves are measured
_NEAR = 0.7  # of the ratio that is asked for: distances in leaves are rough
_ROWS = 256  # of distances at a time
_CANDIDATES = 32


@dataclass(frozen=True)
class ClosePairs:
    """What was found."""

    pairs: Tensor  # (k, 2) rows of the queries and of the samples, the closest for their surroundings first
    dimension: float  # estimated number of directions in which the samples vary
    ratio: float  # how many times closer than its fifth neighbour the first one must be


def close_pairs(samples: Tensor, queries: Tensor | None = None) -> ClosePairs | None:
    """Return the pairs of a query and its nearest sample that chance does not make; equal ones are left out.

    Around a sample, independent others lie as points strewn over m dimensions, however dense: the distance to the fifth
    is more than x times that to the first with a chance of 1 - (1 - x^-m)^4. The x of which `CHANCE` pairs are
    expected among all is the limit; m is estimated by the median of second over first distances, which is 2^(1/m)
    (after Facco et al., 2017), and for a sample whose own surroundings are of fewer dimensions by the distances to its
    fifth to 32nd neighbours (Levina and Bickel, 2004). So neither the scale of distances nor a dense region decides.
    Where the latter tell far more dimensions of most samples than the former, most have copies, and theirs count.

    Of more than 1,000 queries the distances of at most 2,000 are taken, those that random trees suspect most: 20,000
    against 20,000 take some tenths of a second and some tens of MB.

    Returns ``None`` where there are too few samples, or where they do not lie strewn: distances come in steps, or more
    evenly than in as many dimensions as there are.

    Shapes:
        samples: (n, d) float.
        queries: (k, d) float; the samples themselves if ``None``.

    >>> x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    >>> close_pairs(x).pairs.tolist()
    []
    >>> sorted(close_pairs(torch.cat([x, x[7:8] + 0.01])).pairs.tolist())
    [[7, 500], [500, 7]]
    """
    samples, queries = samples + 0, None if queries is None else queries + 0  # -0 equals 0
    kept, asked = _different(samples, queries)
    if len(kept) < FEWEST or not len(asked):
        return None
    points, others = _projected(samples[kept]), None if queries is None else _projected(queries[asked])
    size = points.shape[1]
    every = points if others is None else others
    probed = (
        torch.arange(len(every)) if len(every) <= MEASURED else torch.linspace(0, len(every) - 1, MEASURED // 2).long()
    )
    distances, nearest = _nearest(points, every, probed, is_same=others is None)
    steps = (distances[:, 1] / distances[:, 0]).log()
    if len(steps) < FEWEST or float(steps.median()) <= 0:
        return None
    dimension, further = math.log(2) / float(steps.median()), float(_own_dimensions(distances).median())
    dimension = further if further > COPIED * dimension else dimension
    if dimension > 2 * size:  # points in rows, such as windows of a series: no points are strewn so evenly
        return None
    expected = (NEIGHBOURS - 1) * len(every) / CHANCE
    ratio = max(expected ** (1 / dimension), LEAST)
    if len(every) > MEASURED:
        probed = _suspects(points, others, ratio)
        distances, nearest = _nearest(points, every, probed, is_same=others is None)
    ratios = distances[:, NEIGHBOURS - 1] / distances[:, 0]
    found = torch.argsort(ratios, descending=True)
    found = found[ratios[found] > (expected ** (1 / _own_dimensions(distances[found]))).clamp_min(ratio)]
    return ClosePairs(torch.stack([asked[probed[found]], kept[nearest[found]]], 1), dimension, ratio)


def _own_dimensions(distances: Tensor) -> Tensor:
    """Return the dimension (k,) around each sample, of its distances (k, 32) in order; the first four say nothing."""
    outer = distances[:, NEIGHBOURS - 1 :]
    return (outer.shape[1] - 1) / (outer[:, -1:] / outer).log().sum(1).clamp_min(1e-6)


def _different(samples: Tensor, queries: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows of samples that equal no earlier one, and those of queries that equal none of the samples."""
    kept = first_rows(samples)
    first = torch.tensor([*kept.values()], dtype=torch.long)
    if queries is None:
        return first, first
    asked = [at for at, row in enumerate(queries.contiguous().numpy()) if row.tobytes() not in kept]
    return first, torch.tensor(asked, dtype=torch.long)


def first_rows(rows: Tensor) -> dict[bytes, int]:
    """Return where each different row of (n, d) stands first, in order, by its bytes.

    >>> list(first_rows(torch.tensor([[1.0], [2.0], [1.0]])).values())
    [0, 1]
    """
    found: dict[bytes, int] = {}
    for at, row in enumerate(rows.contiguous().numpy()):
        found.setdefault(row.tobytes(), at)
    return found


def _projected(rows: Tensor, width: int = DIRECTIONS) -> Tensor:
    """Return rows (n, d) along so many random directions, the same each time; as they are if they have no more."""
    if rows.shape[1] <= width:
        return rows
    return rows @ torch.randn(rows.shape[1], width, generator=torch.Generator().manual_seed(0))


def _nearest(samples: Tensor, queries: Tensor, probed: Tensor, is_same: bool) -> tuple[Tensor, Tensor]:
    """Return the distances of queries ``probed`` to their nearest samples, (k, 32) in order, and the first's row."""
    near, first = [], []
    for rows in probed.split(_ROWS):
        part = queries[rows]
        # Matrix products are quick, and wrong by more than a close pair is apart: they choose whom to measure.
        rough = torch.cdist(part, samples, compute_mode="use_mm_for_euclid_dist")
        if is_same:
            rough[torch.arange(len(rows)), rows] = math.inf
        chosen = rough.topk(min(_CANDIDATES, len(samples) - 1), largest=False).indices
        distances = torch.linalg.vector_norm(samples[chosen] - part[:, None], dim=2).clamp_min(1e-30)
        order = distances.sort(1)
        near.append(order.values)
        first.append(chosen.gather(1, order.indices[:, :1])[:, 0])
    return torch.cat(near), torch.cat(first)


def _suspects(samples: Tensor, queries: Tensor | None, ratio: float) -> Tensor:
    """Return the rows of queries whose first neighbour seems about ``ratio`` times closer than the fifth."""
    points = _projected(samples if queries is None else torch.cat([samples, queries]), WIDTH)
    is_sample = torch.arange(len(points)) < len(samples)
    squares = points.square().sum(1)
    first = torch.full((len(points),), math.inf)
    fifth = first.clone()
    for leaves in _leaves(points):
        part, own = points[leaves], squares[leaves]
        apart = torch.baddbmm(own[:, :, None] + own[:, None, :], part, part.mT, alpha=-2)
        apart.masked_fill_((leaves[:, :, None] == leaves[:, None, :]) | ~is_sample[leaves][:, None, :], math.inf)
        near = apart.topk(NEIGHBOURS, largest=False).values.flatten(0, 1)
        rows = leaves.flatten()
        first[rows] = first[rows].minimum(near[:, 0])
        fifth[rows] = fifth[rows].minimum(near[:, -1])
    # Squares of distances; what rounding leaves of two that are nearly equal is below a millionth of the numbers.
    ratios = fifth / first.clamp_min(1e-30).maximum(1e-6 * squares)
    ratios = ratios[len(samples) :] if queries is not None else ratios
    most = ratios.topk(min(SUSPECTS, len(ratios)))
    return most.indices[most.values > (_NEAR * ratio) ** 2]


def _leaves(points: Tensor) -> Iterator[Tensor]:
    """Yield for each tree the rows in each of its leaves, (leaves, rows); some stand twice to fill the last."""
    rng = np.random.default_rng(0)
    depth = max(math.ceil(math.log2(len(points) / LEAF)), 0)
    size = math.ceil(len(points) / 2**depth)
    for _ in range(TREES):
        along = points.numpy() @ rng.standard_normal((points.shape[1], depth), dtype=np.float32)
        rows: NDArray[np.int64] = np.arange(size * 2**depth)[None] % len(points)
        for level in range(depth):
            half = rows.shape[1] // 2
            rows = np.take_along_axis(rows, np.argpartition(along[rows, level], half, axis=1), 1).reshape(-1, half)
        yield torch.from_numpy(rows)
