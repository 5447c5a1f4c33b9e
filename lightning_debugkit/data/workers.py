"""Random generators that a dataset carries into its workers: each worker gets a copy, and all draw the same."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)

WORKER_SEEDS_EQUAL = Rule(
    "worker-seeds-equal",
    Severity.WARNING,
    "{name} is a random generator that each of the {workers} workers gets a copy of: all draw the same numbers, in "
    "each epoch again",
    "Make the generator in the worker: in worker_init_fn, or from torch.initial_seed() when it is first used.",
    section="data",
    cost="once",
)


def judge(loader: Any, where: Where) -> Iterator[Finding]:
    """Yield that the dataset of ``loader`` holds a generator and workers get copies of it."""
    workers, dataset = getattr(loader, "num_workers", 0), getattr(loader, "dataset", None)
    if not isinstance(workers, int) or workers < 2 or getattr(loader, "worker_init_fn", None) is not None:
        return
    for name, value in vars(dataset).items() if hasattr(dataset, "__dict__") else ():
        if isinstance(value, GENERATORS) and not _minds_workers(dataset):
            yield WORKER_SEEDS_EQUAL.found(where, name=f"{type(dataset).__name__}.{name}", workers=workers)
            return


def _minds_workers(dataset: Any) -> bool:
    """Tell whether the code of a dataset asks which worker it is in."""
    try:
        source = inspect.getsource(type(dataset))
    except (OSError, TypeError):
        return True  # code that cannot be read may do so
    return "worker_info" in source or "initial_seed" in source
