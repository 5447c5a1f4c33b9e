"""What loggers and ``ckpt_path="best"`` read off a ``ModelCheckpoint``, made from the records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from lightning_debugkit.checkpointing.records import Record
from lightning_debugkit.checkpointing.retention_rules import Best, KeepRule
from lightning_debugkit.core.compat import ModelCheckpoint


@dataclass(frozen=True)
class ModelCheckpointView:
    """Where the files stand, in plain types that every rank can be sent."""

    last: str = ""  # path of the newest file
    best: str = ""  # path of the best by the first `Best`, of the newest if there is no such rule
    # its best files that exist, with their values, the best first
    best_k: dict[str, float] = field(default_factory=dict)
    current: float | None = None  # the metric of the newest file, if it has one
    step: int = 0  # step of the newest file


def first_best(rules: tuple[KeepRule, ...]) -> Best | None:
    """Return the rule that decides which file is called the best."""
    bests = [rule for rule in rules if isinstance(rule, Best)]
    return next((rule for rule in bests if rule.within is None), bests[0] if bests else None)


def model_checkpoint_view(
    place: Callable[[Record], str], history: list[Record], rules: tuple[KeepRule, ...]
) -> ModelCheckpointView:
    """Return where the files of a history stand; ``place`` tells where each is."""
    if not history:
        return ModelCheckpointView()
    newest = history[-1]
    rule = first_best(rules)
    last = place(newest)
    if rule is None:
        return ModelCheckpointView(last=last, best=last, step=newest.step)
    ranked = rule.ranked(history)[: rule.k]
    best_k = {place(record): record.metrics[rule.metric] for record in ranked}
    return ModelCheckpointView(last, next(iter(best_k), ""), best_k, newest.metrics.get(rule.metric), newest.step)


def show_to_loggers(callback: ModelCheckpoint, now: ModelCheckpointView) -> None:
    """Let ``callback`` say what is true."""
    known = callback.best_k_models  # a file's score does not change, and to make a tensor takes longer than all else
    scores = {path: known[path] if path in known else torch.tensor(score) for path, score in now.best_k.items()}
    current = scores.get(now.last) if now.current is not None else None
    values: dict[str, Any] = {
        "best_model_path": now.best,
        "best_model_score": scores.get(now.best),
        "best_k_models": scores,
        "kth_best_model_path": next(reversed(scores), ""),
        "last_model_path": now.last,
        "current_score": torch.tensor(now.current) if current is None and now.current is not None else current,
        "_last_checkpoint_saved": now.last,
        "_last_global_step_saved": now.step,
    }
    if scores:
        values["kth_value"] = next(reversed(scores.values()))
    for name, value in values.items():
        setattr(callback, name, value)
