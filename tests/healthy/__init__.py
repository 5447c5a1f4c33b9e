"""Healthy training programs, of the kinds people really run: nothing of severity warning may be said about any.

`PYTHONPATH=tests python -m healthy [name ...]` prints what each of them learns.
"""

from healthy import (
    activations,
    beginnings,
    clipping,
    generative,
    lookalikes,
    loop,
    optimisation,
    schedules,
    sequences,
    solvers,
    values,
    vision,
    wiring,
)
from healthy.parts import PROGRAMS, Program, fit

__all__ = [
    "PROGRAMS",
    "Program",
    "activations",
    "beginnings",
    "clipping",
    "fit",
    "generative",
    "lookalikes",
    "loop",
    "optimisation",
    "schedules",
    "sequences",
    "solvers",
    "values",
    "vision",
    "wiring",
]
