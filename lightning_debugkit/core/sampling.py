"""Which steps are worth a costly look or a point in a figure: many while a run is young, few and even later."""

from __future__ import annotations


class SampledSteps:
    """Choose the steps to look at: half as far apart as the run is old, and at most ``every`` steps apart.

    >>> looks = SampledSteps(every=10)
    >>> [step for step in range(50) if looks.takes(step)]
    [0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 38, 48]
    """

    def __init__(self, every: int) -> None:
        self.every = every  # steps between two looks once the run is old
        self.first: int | None = None
        self.due = 0
        self.last = 0
        self.least = 1

    def takes(self, step: int) -> bool:
        """Tell whether to look at ``step``, and count it; a step is looked at once."""
        if self.first is None:
            self.first = self.due = step
        if step < self.due:
            return False
        self.last = step
        self.due = step + min(self.every, max(self.least, (step - self.first) // 2))
        return True

    def spread(self, steps: int) -> None:
        """Keep looks at least so many ``steps`` apart from now on, but not further than ``every``.

        >>> looks = SampledSteps(every=10)
        >>> looks.spread(4)
        >>> [step for step in range(30) if looks.takes(step)]
        [0, 4, 8, 12, 18, 27]
        """
        self.least = max(self.least, min(self.every, steps))
        if self.first is not None:
            self.due = max(self.due, self.last + self.least)


class Thinning:
    """Choose ever fewer of a run's steps: half of ``points`` more each time that the run has doubled.

    >>> thin = Thinning(points=4)
    >>> [step for step in range(20) if thin.keeps(step)]
    [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """

    def __init__(self, points: int = 400) -> None:
        self.points = points  # steps kept before the distance between them doubles
        self.stride = 1
        self.kept = 0
        self.due = 0

    def keeps(self, step: int) -> bool:
        """Tell whether ``step`` gets a point, and count it."""
        if step < self.due:
            return False
        self.kept += 1
        if self.kept >= self.points:
            self.stride *= 2
            self.kept //= 2
        # Not ``step % stride == 0``: a series that is seen at odd steps only would never get a point again.
        self.due = step - step % self.stride + self.stride
        return True
