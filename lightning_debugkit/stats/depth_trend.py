"""Whether a quantity fades or grows layer by layer through the depth of a network."""

from __future__ import annotations

from collections.abc import Sequence

_LAYERS = 5  # fewer have no depth to speak of
_CORRELATION = 0.8  # of rank with depth, at least: a single small layer is no fading


def fades(ratios: Sequence[float], factor: float = 1e-4) -> bool:
    """Tell whether ``ratios``, input side first, shrink steadily from the output to the input side.

    Args:
        ratios: A positive size for each layer, in the order of the network.
        factor: The first over the largest must lie below.

    Example:
        >>> fades([1e-9, 1e-8, 1e-6, 1e-4, 1e-2]), fades([1e-2, 1e-9, 1e-2, 1e-2, 1e-2])
        (True, False)
    """
    if len(ratios) < _LAYERS or min(ratios) <= 0 or ratios[0] >= factor * max(ratios):
        return False
    from scipy.stats import spearmanr  # late: it takes a while to import

    return bool(spearmanr(ratios, range(len(ratios))).statistic >= _CORRELATION)
