"""What the report draws of the clipping of one optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_debugkit.monitors.clipping.clipped_step import ClippedStep

# Coefficients are counted by tenths of their logarithm, from a hundred-thousandth up to 1, which is not clipped.
EDGES = [10 ** (power / 10) for power in range(-50, 1)]


class ClippingCounts:
    """Count steps and coefficients, and add up which layers held the norm when it was clipped."""

    def __init__(self) -> None:
        self.steps = 0
        self.clipped = 0
        self.counts = [0] * (len(EDGES) - 1)
        self.layers: dict[str, float] = {}
        self.looked = 0
        self.by: dict[str, int] = {}
        self.exact = 0

    def add(self, step: ClippedStep) -> None:
        """Count one step."""
        self.steps += 1
        self.by[step.by] = self.by.get(step.by, 0) + 1
        self.exact += step.is_exact
        if not step.is_clipped:
            return
        self.clipped += 1
        bin_ = int(np.searchsorted(EDGES, max(step.coefficient, EDGES[0]), side="right")) - 1
        self.counts[min(bin_, len(self.counts) - 1)] += 1
        if step.shares:
            self.looked += 1
            for layer, share in step.shares.items():
                self.layers[layer] = self.layers.get(layer, 0.0) + share

    def told(self) -> Mapping[str, Any]:
        """Return the counts as plain numbers; shares of layers are means over the clipped steps looked at."""
        return {
            "steps": self.steps,
            "clipped": self.clipped,
            "by": dict(self.by),
            "exact": self.exact,
            "counts": list(self.counts),
            "edges": EDGES,
            "layers": {layer: share / self.looked for layer, share in self.layers.items()},
            "looked": self.looked,
        }
