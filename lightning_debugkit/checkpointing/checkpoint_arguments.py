"""Arguments of the checkpoint callback, checked when it is made, each in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_debugkit.checkpointing.keep_rules import Best, KeepRule, Latest
from lightning_debugkit.checkpointing.object_store import is_url, missing_package
from lightning_debugkit.checkpointing.rule_text import as_rules


def check_dirpath(dirpath: Any) -> None:
    """Raise if it is neither a folder on a disk nor the URL of an object store that can be reached from here."""
    if dirpath is None:
        return
    if not isinstance(dirpath, str | Path) or not str(dirpath):
        raise ValueError(f"NestedCheckpoint needs dirpath as text or None, got {dirpath!r}; None takes the log folder.")
    if is_url(dirpath) and (missing := missing_package(str(dirpath))):
        raise ValueError(f"NestedCheckpoint needs a package for dirpath={str(dirpath)!r}: {missing}.")


def check_switches(**switches: Any) -> None:
    """Raise if one is neither True nor False."""
    for name, switch in switches.items():
        if not isinstance(switch, bool):
            raise ValueError(f"NestedCheckpoint needs {name} True or False, got {switch!r}; see its documentation.")


def check_raise_after(raise_after: Any) -> None:
    """Raise if it is no number of failures."""
    if raise_after is None:
        return
    if isinstance(raise_after, bool) or not isinstance(raise_after, int) or raise_after < 1:
        raise ValueError(f"NestedCheckpoint needs raise_after >= 1 or None, got {raise_after!r}; 3 is a good start.")


def chosen_rules(rules: Any, monitor: Any, mode: Literal["min", "max"], top_k: int) -> tuple[KeepRule, ...]:
    """Return the rules that the arguments stand for."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"NestedCheckpoint needs top_k >= 1, got {top_k!r}; Every(...) among the rules keeps all.")
    if mode not in ("min", "max"):
        raise ValueError(f"NestedCheckpoint needs mode 'min' or 'max', got {mode!r}; 'min' suits a loss.")
    if monitor is not None and (not isinstance(monitor, str) or not monitor):
        raise ValueError(f"NestedCheckpoint needs monitor as the name of a metric, got {monitor!r}; 'val_loss' is one.")
    best = () if monitor is None else (Best(monitor, k=top_k, mode=mode),)
    return (*best, *_listed(rules)) if rules is not None else (*best, Latest())


def _listed(rules: Any) -> tuple[KeepRule, ...]:
    good = isinstance(rules, Sequence) and not isinstance(rules, str) and len(rules) > 0
    if not good or not all(isinstance(rule, KeepRule | str) for rule in rules):
        raise ValueError(
            f"NestedCheckpoint needs rules as a list of Every, Best and Latest, got {rules!r}; "
            "[Every(steps=5000), Latest()] is an example."
        )
    return as_rules(rules)
