"""Programs with one mistake each, and the same programs mended: the registries, by name."""

from faults import (
    activations,
    backward,
    batches,
    clipping,
    data,
    evaluation,
    loop,
    modes,
    numbers,
    optimizers,
    preflight,
    saving,
    skipped_work,
    trends,
    wiring,
)
from faults.ranks import RANKS
from faults.registry import FAULTS, Fault, Program

__all__ = [
    "FAULTS",
    "RANKS",
    "Fault",
    "Program",
    "activations",
    "backward",
    "batches",
    "clipping",
    "data",
    "evaluation",
    "loop",
    "modes",
    "numbers",
    "optimizers",
    "preflight",
    "saving",
    "skipped_work",
    "trends",
    "wiring",
]
