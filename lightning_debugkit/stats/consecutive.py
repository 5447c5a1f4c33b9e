"""What has been so without a break for long enough to be called lasting."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor


class Consecutive:
    """Count for each of many units the looks in a row that found it so.

    A lasting state needs looks, steps and samples: five looks in five steps see one moment of the run, and five looks
    at a sample each see next to nothing.

    Args:
        looks: Least looks in a row.
        steps: Least steps from the first of them to the last.
        samples: Least samples in all of them.

    >>> streaks = Consecutive(2, looks=3, steps=4, samples=30)
    >>> for step in (0, 1, 5):
    ...     streaks.add(torch.tensor([True, step > 0]), step, samples=10)
    >>> streaks.window, streaks.lasting().tolist()
    (3, [True, False])
    """

    def __init__(self, units: int, looks: int = 5, steps: int = 20, samples: int = 100) -> None:
        self.least = (looks, steps, samples)
        self.runs = torch.zeros(units, dtype=torch.int64)
        self.looks = 0
        self.seen: deque[tuple[int, int, float]] = deque(maxlen=500)

    def add(self, so: Tensor, step: int, samples: int, active: float = 0.0) -> None:
        """Note a look: which units were so, at how many samples, and ``active`` of what a unit did on average."""
        self.runs = torch.where(so, self.runs + 1, 0)
        self.looks += 1
        self.seen.append((step, samples, active))

    @property
    def window(self) -> int:
        """The fewest last looks that are enough to judge by, 0 if there are not enough yet."""
        looks, steps, samples = self.least
        total, last = 0, self.seen[-1][0] if self.seen else 0
        for count, (step, size, _) in enumerate(reversed(self.seen), start=1):
            total += size
            if count >= looks and last - step >= steps and total >= samples:
                return count
        return 0

    def lasting(self) -> Tensor:
        """Return which units were so in every look of the window; none while there is no window."""
        window = self.window
        return self.runs >= window if window else torch.zeros_like(self.runs, dtype=torch.bool)

    @property
    def unbroken(self) -> Tensor:
        """Which units were so in every look there was."""
        return self.runs == self.looks

    def within(self, window: int) -> tuple[int, float]:
        """Return the samples and the sum of ``active`` in the last ``window`` looks."""
        last = list(self.seen)[-window:]
        return sum(samples for _, samples, _ in last), sum(active for _, _, active in last)
