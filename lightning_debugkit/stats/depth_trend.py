"""Whether a quantity fades or grows layer by layer through the depth of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rank_correlation(values: Sequence[float]) -> float:
    """Return Spearman's rank correlation of ``values`` with their position, ties sharing their mean rank.

    Example:
        >>> rank_correlation([1.0, 2.0, 5.0, 9.0]), rank_correlation([3.0, 2.0, 1.0])
        (1.0, -1.0)
    """
    count = len(values)
    ranks = [(sum(v < value for v in values) + sum(v <= value for v in values) - 1) / 2 for value in values]
    middle = (count - 1) / 2
    covariance = sum((rank - middle) * (index - middle) for index, rank in enumerate(ranks))
    spread = math.sqrt(sum((rank - middle) ** 2 for rank in ranks) * sum((i - middle) ** 2 for i in range(count)))
    return covariance / spread if spread else 0.0


def fades(ratios: Sequence[float], factor: float = 1e-4, layers: int = 5, correlation: float = 0.8) -> bool:
    """Tell whether ``ratios``, input side first, shrink steadily from the output to the input side.

    Args:
        ratios: A positive size for each layer, in the order of the network.
        factor: The first over the largest must lie below.
        layers: Fewer layers than this have no depth to speak of.
        correlation: Least rank correlation with depth; a single small layer is no fading.

    Example:
        >>> fades([1e-9, 1e-8, 1e-6, 1e-4, 1e-2]), fades([1e-2, 1e-9, 1e-2, 1e-2, 1e-2])
        (True, False)
    """
    if len(ratios) < layers or min(ratios) <= 0 or ratios[0] >= factor * max(ratios):
        return False
    return rank_correlation(ratios) >= correlation
