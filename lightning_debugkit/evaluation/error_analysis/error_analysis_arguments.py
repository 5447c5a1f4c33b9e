"""What `ErrorAnalysis` may be asked for, and what to say of what it may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning_debugkit.evaluation.error_analysis.task import TASKS
from lightning_debugkit.evaluation.predictions import sources

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_OWNER = "ErrorAnalysis"
_ASKED = ("task", "loaders", "predictions", "target", "adapter")  # what tells one analysis from another


def check_error_analysis(name: str, holds: bool, rule: str, value: Any, advice: str) -> None:
    """Raise the house's sentence unless ``holds``."""
    if not holds:
        raise ValueError(f"{_OWNER} needs {name} {rule}, got {value!r}; {advice}.")


def check_numbers(pictures: Any, max_samples: Any) -> None:
    """Raise unless the numbers say how many."""
    for name, value, least, advice in (
        ("pictures", pictures, 0, "64 fill a page, 0 draws none"),
        ("max_samples", max_samples, 1, "1000000 is usual and takes about 100 MB"),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool)
        check_error_analysis(name, whole and value >= least, f">= {least}", value, advice)


def check_choices(task: Any, training_dynamics: Any, on_missing: Any) -> None:
    """Raise unless each is among what there is."""
    known = task is None or task in TASKS
    check_error_analysis("task", known, f"None or one of {', '.join(TASKS)}", task, "None tells it by the first batch")
    is_switch = isinstance(training_dynamics, bool)
    check_error_analysis(
        "training_dynamics", is_switch, "True or False", training_dynamics, "True follows every training sample"
    )
    check_error_analysis(
        "on_missing", on_missing in ("raise", "warn"), "'raise' or 'warn'", on_missing, "'raise' says it at once"
    )


def check_names(class_names: Any, slices: Any, loaders: Any) -> None:
    """Raise unless names are words, and loaders numbers."""
    given = list(class_names) if isinstance(class_names, Mapping) else []
    fits = (
        class_names is None or _is_listing(class_names, str) or (given and all(isinstance(key, int) for key in given))
    )
    check_error_analysis(
        "class_names", bool(fits), "as a list, or a mapping of class to name", class_names, "write ['cat', 'dog']"
    )
    fits = slices is None or _is_listing(slices, str)
    check_error_analysis("slices", fits, "as a list of names", slices, "name entries of the batch, such as ['camera']")
    fits = loaders is None or bool(loaders and _is_listing(loaders, int) and all(number >= 0 for number in loaders))
    check_error_analysis(
        "loaders", fits, "as a list of numbers >= 0", loaders, "[0] counts the first loader alone, None all"
    )


def check_sources(predictions: Any, target: Any, adapter: Any) -> None:
    """Raise unless entries are named, and ``adapter`` is a function or the dotted path of one."""
    for name, value in (("predictions", predictions), ("target", target)):
        check_error_analysis(
            name, value is None or isinstance(value, str), "as the name of an entry", value, "leave it out to search"
        )
    known = adapter is None or callable(adapter)
    if isinstance(adapter, str):
        try:
            known = callable(sources.resolve(adapter))
        except ValueError:
            known = False
    rule = "to be a function or its dotted path"
    check_error_analysis(
        "adapter", known, rule, adapter, "it gets outputs and batch, and returns predictions and targets"
    )


def _is_listing(value: Any, kind: type) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, kind) for item in value)


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


def number_of(callback: Any, trainer: Trainer) -> int:
    """Return which one of its kind in the Trainer a callback is, from 1 on."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return 1 + [one for one in callbacks if type(one) is type(callback) and not one.idle].index(callback)


def step_of(trainer: Trainer) -> str:
    """Return the name of the evaluation step that is under way."""
    return "test_step" if trainer.testing else "validation_step"


def one_of_several(callback: Any, trainer: Trainer) -> tuple[int, str]:
    """Return which one of its kind in the Trainer a callback is, and what it was asked for, in words."""
    return number_of(callback, trainer), f"{type(callback).__name__}{asked(callback)}"
