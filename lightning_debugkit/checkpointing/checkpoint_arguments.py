"""Arguments of the checkpoint callback, checked when it is made, each in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_debugkit.checkpointing.object_store import is_url, missing_package
from lightning_debugkit.checkpointing.retention_rules import Best, KeepRule, Latest
from lightning_debugkit.checkpointing.rule_text import as_rules
from lightning_debugkit.core.arguments import Needs, is_whole

_NEEDS = Needs("NestedCheckpoint")


def check_dirpath(dirpath: Any) -> None:
    """Raise if it is neither a folder on a disk nor the URL of an object store that can be reached from here."""
    fits = dirpath is None or (isinstance(dirpath, str | Path) and str(dirpath))
    _NEEDS.that("dirpath", fits, "as text or None", dirpath, "None takes the log folder")
    if dirpath is not None and is_url(dirpath) and (missing := missing_package(str(dirpath))):
        raise ValueError(f"NestedCheckpoint needs a package for dirpath={str(dirpath)!r}: {missing}.")


def check_saving(raise_after: Any, **switches: Any) -> None:
    """Raise unless the switches are True or False, and ``raise_after`` is a number of failures or ``None``."""
    for name, switch in switches.items():
        _NEEDS.switch(name, switch, "see its documentation")
    fits = raise_after is None or (is_whole(raise_after) and raise_after >= 1)
    _NEEDS.that("raise_after", fits, ">= 1 or None", raise_after, "3 is a good start")


def chosen_rules(rules: Any, monitor: Any, mode: Literal["min", "max"], top_k: int) -> tuple[KeepRule, ...]:
    """Return the rules that the arguments stand for."""
    _NEEDS.whole("top_k", top_k, 1, "Every(...) among the rules keeps all")
    _NEEDS.one_of("mode", mode, ("min", "max"), "'min' suits a loss")
    named = monitor is None or (isinstance(monitor, str) and monitor)
    _NEEDS.that("monitor", named, "as the name of a metric", monitor, "'val_loss' is one")
    best = () if monitor is None else (Best(monitor, k=top_k, mode=mode),)
    if rules is None:
        return *best, Latest()
    fits = isinstance(rules, Sequence) and not isinstance(rules, str) and len(rules) > 0
    fits = fits and all(isinstance(rule, KeepRule | str) for rule in rules)
    advice = "[Every(steps=5000), Latest()] is an example"
    _NEEDS.that("rules", fits, "as a list of Every, Best and Latest", rules, advice)
    return *best, *as_rules(rules)
