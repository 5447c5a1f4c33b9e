"""Answers of a detector: boxes that are matched with those of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.evaluation.error_analysis.batch_scores import NONE, BatchScores, blank_scores
from lightning_debugkit.stats.box_matching import Matches, match_boxes
from lightning_debugkit.stats.confusion import Confusion

# Stands for nothing until all classes are known.
NOTHING = 1 << 20


def score_detection(predictions: Sequence[Mapping[str, Any]], targets: Sequence[Mapping[str, Any]]) -> BatchScores:
    """Return the answers of a batch of ``detection``: a box that is missed or made up stands against background."""
    broken = [any(not bool(part.isfinite().all()) for part in _numbers(own)) for own in predictions]
    # An image whose boxes or scores are no numbers is left out.
    answers = zip(predictions, targets, broken, strict=True)
    found = [_unmatched() if bad else match_boxes(own, given, background=NOTHING) for own, given, bad in answers]
    sure = [_sure(own, matches) for own, matches in zip(predictions, found, strict=True)]
    # A box that is missed is as wrong as one that was made up without a doubt.
    badness = [
        torch.where(each.target != each.predicted, score.nan_to_num(1.0), 0.0)
        for each, score in zip(found, sure, strict=True)
    ]
    worst = [int(bad.argmax()) if len(bad) else NONE for bad in badness]
    size = torch.tensor([len(bad) for bad in badness])
    targets_of, predicted = torch.cat([each.target for each in found]), torch.cat([each.predicted for each in found])
    return BatchScores(
        target=torch.tensor([int(m.target[at]) if at >= 0 else NONE for m, at in zip(found, worst, strict=True)]),
        predicted=torch.tensor([int(m.predicted[at]) if at >= 0 else NONE for m, at in zip(found, worst, strict=True)]),
        wrong=torch.tensor([int((each.target != each.predicted).sum()) for each in found]),
        size=size,
        loss=torch.stack([bad.sum() for bad in badness]),
        confidence=blank_scores(size),
        given=blank_scores(size),
        broken=torch.tensor(broken),
        outside=torch.zeros_like(size),
        pairs=(targets_of, predicted),
        answers=(torch.cat(sure), targets_of == predicted),
    )


def _sure(predicted: Mapping[str, Any], matches: Matches) -> Tensor:
    """Return the score of each pair's prediction, nan where there is none."""
    rows = matches.predicted_box
    scores = predicted["scores"].detach().cpu().float() if "scores" in predicted else torch.full((0,), torch.nan)
    given = torch.full((len(rows),), torch.nan)
    known = (rows >= 0) & (rows < len(scores))
    given[known] = scores[rows[known]]
    return given


def _unmatched() -> Matches:
    none = torch.zeros(0, dtype=torch.int64)
    return Matches(none, none, none)


def _numbers(predicted: Mapping[str, Any]) -> list[Tensor]:
    return [predicted[name] for name in ("boxes", "scores") if name in predicted]


def settled_detection(confusion: Confusion) -> tuple[Confusion, int]:
    """Return counts with a number for background that is no class, and that number.

    It is 0 where no class is, as torchvision counts classes from 1.
    """
    targets, predictions, counts = confusion.cells()
    own = [number for number in {*targets.tolist(), *predictions.tolist()} if number != NOTHING]
    background = 0 if own and min(own) > 0 else max(own, default=-1) + 1
    cells = [part.copy() for part in (targets, predictions)]
    for part in cells:
        part[part == NOTHING] = background
    table = torch.from_numpy(np.stack([*cells, counts]))
    return Confusion.of({"classes": max([background, *own]) + 1, "outside": 0, "cells": table}), background
