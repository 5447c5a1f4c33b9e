"""Whether more data would help: the error as a power law of the training samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lightning_debugkit.stats.arrays import Floats, Numbers, floats
from lightning_debugkit.stats.intervals import Interval

_EXPONENTS = np.geomspace(0.02, 4.0, 400)


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """The curve ``floor + scale * n ** -exponent``, and others that the points leave open."""

    floor: float  # error that no amount of such data removes
    scale: float  # error above it at one sample
    exponent: float  # how fast that part falls: at 0.5, four times the data halve it
    open: Floats  # (curves, 3) floor, scale and exponent of refits, whose floor may be negative

    def at(self, n: float) -> Interval:
        """Return the mean error of models trained on ``n`` samples."""
        return self._interval(np.maximum(_curve(self._all, n), 0.0))

    def gain(self, n: float, then: float) -> Interval:
        """Return how much the error falls from ``n`` to ``then`` training samples."""
        return self._interval(_curve(self._all, n) - _curve(self._all, then))

    @property
    def floor_interval(self) -> Interval:
        """The floor with what the points leave open; it reaches zero where they do not show one."""
        return self._interval(np.maximum(self._all[:, 0], 0.0))

    @property
    def _all(self) -> Floats:
        return np.vstack([[self.floor, self.scale, self.exponent], self.open])

    def _interval(self, values: Floats) -> Interval:
        low, high = np.quantile(values[1:], [0.025, 0.975])
        return Interval(float(values[0]), float(min(low, values[0])), float(max(high, values[0])))


def fit_power_law(
    sizes: Numbers, errors: Numbers, spreads: Numbers | None = None, replicates: int = 500, seed: int = 0
) -> PowerLaw:
    """Fit the errors of models that were trained on ``sizes`` samples.

    Floor and scale are kept from being negative. What the points leave open is found by refits to the curve with fresh
    noise of the size of the old. There the floor is free: were it truly zero, refits that end at the same bound as the
    fit would leave too little open.

    Args:
        sizes: (points,) training samples; three different ones or more, repeats welcome.
        errors: (points,) errors of the models trained on them, four or more; none is negative.
        spreads: (points,) standard deviation of each error; by default one for all, from the residuals.

    >>> curve = fit_power_law([100, 400, 900, 2500], [0.3, 0.2, 1 / 6, 0.14])  # 0.1 + 2 / sqrt(n)
    >>> round(curve.floor, 3), round(curve.exponent, 2), round(curve.at(10_000).value, 3)
    (0.1, 0.5, 0.12)

    References:
        Cortes et al., Learning Curves: Asymptotic Values and Rate of Convergence, 1994. Hestness et al., Deep Learning
        Scaling is Predictable, Empirically, 2017. Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
        9.4, for the refits. Andrews, Inconsistency of the Bootstrap When a Parameter Is on the Boundary, 2000.
    """
    n, seen = floats(sizes), floats(errors)
    if n.shape != seen.shape or len(n) < 4 or len(np.unique(n)) < 3 or (n <= 0).any() or not (seen >= 0).all():
        raise ValueError("fit_power_law needs four errors or more, none negative, at three positive sizes or more.")
    rng = np.random.default_rng(seed)
    noise = np.ones_like(n) if spreads is None else floats(spreads)
    if noise.shape != n.shape or not (noise > 0).all():
        raise ValueError("fit_power_law needs a positive spread of each error; leave spreads out if none is known.")
    best = _fit(n, seen[None], noise)[0]
    fitted = _curve(_fit(n, seen[None], noise, free=True), n)
    drawn = rng.standard_normal((replicates, len(n))) * noise
    if spreads is None:
        left = len(n) - 3
        # The spread itself is known from few residuals only: it is drawn as well.
        found = math.sqrt(float(((seen - fitted) ** 2).sum()) / left)
        drawn *= found * np.sqrt(left / rng.chisquare(left, (replicates, 1)))
    floor, scale, exponent = (float(part) for part in best)
    return PowerLaw(floor, scale, exponent, _fit(n, fitted + drawn, noise, free=True))


def _curve(laws: Floats, n: float | Floats) -> Floats:
    """(curves, 3) and one size, or (1, 3) and many."""
    found: Floats = laws[:, 0] + laws[:, 1] * n ** -laws[:, 2]
    return found


def _fit(n: Floats, errors: Floats, spreads: Floats, free: bool = False) -> Floats:
    """Least squares: (curves, points) -> (curves, 3). For each exponent, floor and scale follow in closed form."""
    weight = spreads**-2 / (spreads**-2).sum()
    unit = n.min()
    part = (n / unit) ** -_EXPONENTS[:, None]  # (exponents, points)
    centre, middle = part @ weight, errors @ weight
    shared = (errors - middle[:, None]) @ (weight * (part - centre[:, None])).T
    squares = ((part - centre[:, None]) ** 2) @ weight
    scale = shared / squares
    floor = middle[:, None] - scale * centre
    # On the edge of what is allowed one of the two is zero, and the other fits alone.
    if not free:
        alone = errors @ (weight * part).T / (part**2 @ weight)
        scale, floor = np.where(floor < 0, alone, scale), np.maximum(floor, 0.0)
    floor, scale = np.where(scale < 0, middle[:, None], floor), np.maximum(scale, 0.0)
    # The residuals, multiplied out: (curves, exponents, points) need not fit into memory.
    total = (errors**2 @ weight)[:, None] + floor**2 + scale**2 * (part**2 @ weight)
    left = total + 2 * floor * scale * centre - 2 * floor * middle[:, None] - 2 * scale * (errors @ (weight * part).T)
    best = left.argmin(axis=1)
    row = np.arange(len(errors))
    exponent = _EXPONENTS[best]
    return np.stack([floor[row, best], scale[row, best] * unit**exponent, exponent], axis=1)
