"""Which steps of a run of unknown length are worth a point in a figure."""

from __future__ import annotations


class Thinning:
    """Choose ever fewer of a run's steps: half of ``points`` more each time that the run has doubled.

    Args:
        points: Steps kept before the distance between them doubles.

    Example:
        >>> thin = Thinning(points=4)
        >>> [step for step in range(20) if thin.keeps(step)]
        [0, 1, 2, 3, 4, 6, 8, 12, 16]
    """

    def __init__(self, points: int = 400) -> None:
        self.points = points
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
