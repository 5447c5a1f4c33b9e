"""What `ErrorAnalysis` may be asked for, and what to say of what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_debugkit.core.arguments import Needs, is_listing
from lightning_debugkit.core.compat import Trainer, callbacks_of
from lightning_debugkit.evaluation.error_analysis.task import TASKS

_NEEDS = Needs("ErrorAnalysis")
_ASKED = ("task", "loaders", "predictions", "target", "adapter")  # what tells one analysis from another


def check_numbers(pictures: Any, max_samples: Any) -> None:
    """Raise unless the numbers say how many."""
    _NEEDS.whole("pictures", pictures, 0, "64 fill a page, 0 draws none")
    _NEEDS.whole("max_samples", max_samples, 1, "1000000 is usual and takes about 100 MB")


def check_choices(task: Any, training_dynamics: Any) -> None:
    """Raise unless both are among what there is."""
    known = task is None or task in TASKS
    _NEEDS.that("task", known, f"None or one of {', '.join(TASKS)}", task, "None tells it by the first batch")
    _NEEDS.switch("training_dynamics", training_dynamics, "True follows every training sample")


def check_selections(class_names: Any, slices: Any, loaders: Any) -> None:
    """Raise unless names are words, and loaders numbers."""
    numbered = isinstance(class_names, Mapping) and class_names and is_listing([*class_names], int)
    fits = class_names is None or is_listing(class_names, str) or numbered
    _NEEDS.that("class_names", fits, "as a list, or a mapping of class to name", class_names, "write ['cat', 'dog']")
    fits = slices is None or is_listing(slices, str)
    _NEEDS.that("slices", fits, "as a list of names", slices, "name entries of the batch, such as ['camera']")
    fits = loaders is None or (loaders and is_listing(loaders, int) and min(loaders) >= 0)
    _NEEDS.that("loaders", fits, "as a list of numbers >= 0", loaders, "[0] counts the first loader alone, None all")


def asked(callback: Any) -> str:
    """Return what a callback was asked to analyse, empty if it is whatever there is.

    The same in every process, so that a state that is saved under it is found again.
    """
    told = []
    for name in _ASKED:
        if (value := getattr(callback, name)) is not None:
            function = getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else ""
            told.append(f"{name}={function or repr(value)}")
    return f"({', '.join(told)})" if told else ""


def place_among_its_kind(callback: Any, trainer: Trainer) -> int:
    """Return which one of its kind in the Trainer a callback is, from 1 on."""
    callbacks = callbacks_of(trainer)
    return 1 + [one for one in callbacks if type(one) is type(callback) and not one.idle].index(callback)


def evaluation_step(trainer: Trainer) -> str:
    """Return the name of the evaluation step that is under way."""
    return "test_step" if trainer.testing else "validation_step"


def one_of_several(callback: Any, trainer: Trainer) -> tuple[int, str]:
    """Return which one of its kind in the Trainer a callback is, and what it was asked for, in words."""
    return place_among_its_kind(callback, trainer), f"{type(callback).__name__}{asked(callback)}"
