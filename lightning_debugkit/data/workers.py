"""Random generators that a dataset carries into its workers: each worker gets a copy, and all draw the same."""

from __future__ import annotations

import dis
import inspect
import random
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np
import torch

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.program_code import names_in
from lightning_debugkit.core.rule import Rule

DEEP = 4  # objects within objects, as transforms in a chain of a dataset
FEW = 100  # entries of a list that are looked at
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)

WORKER_SEEDS_EQUAL = Rule(
    "worker-seeds-equal",
    Severity.WARNING,
    "{told}: all draw the same random numbers, and again in each epoch",
    "{remedy}",
    section="data",
    cost="once",
)


_COPIED = (
    "{name} is a random generator that each of the {workers} workers gets a copy of",
    "Make the generator in the worker: in worker_init_fn, or from torch.initial_seed() when it is first used.",
)
_ONE_SEED = (
    "{name} seeds each of the {workers} workers alike",
    "Use the worker's number and torch.initial_seed() in it, or leave it to seed_everything(seed, workers=True).",
)
# What a function that is given a worker's number may use and still seed all workers alike.
_SEEDING = {"numpy", "np", "random", "torch", "seed", "manual_seed", "set_seed", "seed_all", "manual_seed_all", "cuda"}


def judge(loader: Any, where: Where) -> Iterator[Finding]:
    """Yield that all workers of ``loader`` draw alike: from a generator that is copied, or from one seed."""
    workers, dataset = getattr(loader, "num_workers", 0), getattr(loader, "dataset", None)
    if not isinstance(workers, int) or workers < 2:
        return
    if (seeds := getattr(loader, "worker_init_fn", None)) is not None:
        if _seeds_alike(seeds):
            yield _found(where, _ONE_SEED, seeds.__name__, workers)
            return
        # That of seed_everything(seed, workers=True) seeds what all share, not what a dataset holds.
        home = str(getattr(getattr(seeds, "func", seeds), "__module__", ""))
        if not home.startswith(("lightning.", "lightning_fabric.")):
            return
    for name, value in vars(dataset).items() if hasattr(dataset, "__dict__") else ():
        if isinstance(value, GENERATORS) and _is_drawn(dataset, name, value) and not _minds_workers(dataset):
            yield _found(where, _COPIED, f"{type(dataset).__name__}.{name}", workers)
            return


def _found(where: Where, words: tuple[str, str], name: str, workers: int) -> Finding:
    told, remedy = words
    return WORKER_SEEDS_EQUAL.found(
        where, told=told.format(name=name, workers=workers), remedy=remedy, name=name, workers=workers
    )


def _seeds_alike(function: Any) -> bool:
    """Tell whether a function seeds, and uses neither the worker's number nor anything else that may differ."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_freevars or not {"seed", "manual_seed"} & set(code.co_names):
        return False
    own = code.co_varnames[: code.co_argcount]
    reads = {each.argval for each in dis.get_instructions(code) if each.opname.startswith("LOAD_FAST")}
    constants = {name for name in code.co_names if isinstance(function.__globals__.get(name), int)}
    return not reads & set(own) and set(code.co_names) <= _SEEDING | constants


def _is_drawn(dataset: Any, name: str, generator: Any) -> bool:
    """Tell whether a generator may be drawn from after the dataset was made: by its methods, or by what it holds."""
    methods = [part for kind in type(dataset).__mro__ for part in vars(kind).values() if isinstance(part, FunctionType)]
    if any(name in names_in(part.__code__) for part in methods if part.__name__ != "__init__"):
        return True
    held = [value for key, value in vars(dataset).items() if key != name]
    return any(_holds(value, generator, DEEP) for value in held)


def _holds(value: Any, wanted: Any, depth: int) -> bool:
    if value is wanted or not depth:
        return value is wanted
    parts = value[:FEW] if isinstance(value, list | tuple) else getattr(value, "__dict__", {}).values()
    return any(_holds(part, wanted, depth - 1) for part in list(parts))


def _minds_workers(dataset: Any) -> bool:
    """Tell whether the code of a dataset asks which worker it is in."""
    try:
        source = inspect.getsource(type(dataset))
    except (OSError, TypeError):
        return True  # code that cannot be read may do so
    return "worker_info" in source or "initial_seed" in source
