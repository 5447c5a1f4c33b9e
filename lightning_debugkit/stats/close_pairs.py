"""Pairs of samples that lie closer together than independent samples do."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 5  # a sample may have three copies more and still be told
CHANCE = 0.01  # pairs that are expected where there are no copies
FEWEST = 50
# At least so many times closer: of overlapping windows of a series, the fifth neighbour lies three steps off and the
# first one step.
LEAST = 4.0
_ROWS = 256  # of distances at a time
_CANDIDATES = 16


@dataclass(frozen=True)
class ClosePairs:
    """What was found.

    Args:
        pairs: (k, 2) rows of the queries and of the samples, the closest for their surroundings first.
        dimension: Estimated number of directions in which the samples vary.
        ratio: How many times closer than its fifth neighbour the first one must be.
    """

    pairs: Tensor
    dimension: float
    ratio: float


def close_pairs(samples: Tensor, queries: Tensor | None = None, chance: float = CHANCE) -> ClosePairs | None:
    """Return the pairs of a query and its nearest sample that chance does not make; equal ones are left out.

    Around a sample, independent others lie as points strewn over m dimensions, however dense: the distance to the fifth
    is more than x times that to the first with a chance of 1 - (1 - x^-m)^4. The x of which ``chance`` pairs are
    expected among all is the limit; m is estimated by the median of second over first distances, which is 2^(1/m)
    (after Facco et al., 2017). So neither the scale of distances nor a dense region decides.

    Returns ``None`` where there are too few samples, or where they do not lie strewn: distances come in steps, or more
    evenly than in as many dimensions as there are.

    Shapes:
        samples: (n, d) float.
        queries: (k, d) float; the samples themselves if ``None``.

    Example:
        >>> x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
        >>> close_pairs(x).pairs.tolist()
        []
        >>> sorted(close_pairs(torch.cat([x, x[7:8] + 0.01])).pairs.tolist())
        [[7, 500], [500, 7]]
    """
    if len(samples) < FEWEST:
        return None
    asked = samples if queries is None else queries
    distances, nearest = _nearest(samples, asked, is_same=queries is None)
    is_known = distances[:, -1].isfinite()  # of a sample with many equal ones the neighbours are not
    steps = (distances[is_known, 1] / distances[is_known, 0]).log()
    if len(steps) < FEWEST or float(steps.median()) <= 0:
        return None
    dimension = math.log(2) / float(steps.median())
    if dimension > 2 * samples.shape[1]:  # points in rows, such as windows of a series: no points are strewn so evenly
        return None
    ratio = max(((NEIGHBOURS - 1) * len(asked) / chance) ** (1 / dimension), LEAST)
    ratios = torch.where(is_known, distances[:, -1] / distances[:, 0].clamp_min(1e-30), 0.0)
    found = torch.argsort(ratios, descending=True)
    found = found[ratios[found] > ratio]
    return ClosePairs(torch.stack([found, nearest[found]], 1), dimension, ratio)


def _nearest(samples: Tensor, queries: Tensor, is_same: bool) -> tuple[Tensor, Tensor]:
    """Return the distances to the nearest samples, (k, 5) in order, and which is the first; equal ones do not count."""
    near, first = [], []
    for start in range(0, len(queries), _ROWS):
        part = queries[start : start + _ROWS]
        # Matrix products are quick, and wrong by more than a close pair is apart: they choose whom to measure.
        rough = torch.cdist(part, samples, compute_mode="use_mm_for_euclid_dist")
        if is_same:
            rows = torch.arange(len(part))
            rough[rows, rows + start] = math.inf
        chosen = rough.topk(min(_CANDIDATES, len(samples)), largest=False).indices
        distances = torch.linalg.vector_norm(samples[chosen] - part[:, None], dim=2)
        distances[distances == 0] = math.inf
        if is_same:
            distances[chosen == (torch.arange(len(part)) + start)[:, None]] = math.inf
        order = distances.topk(NEIGHBOURS, largest=False)
        near.append(order.values)
        first.append(chosen.gather(1, order.indices[:, :1])[:, 0])
    return torch.cat(near), torch.cat(first)
