"""Whether both splits number their classes alike: an encoder that is fitted on each of them may not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.data.labels import CLASS_SHIFT
from lightning_debugkit.data.neighbours import FEWEST, SAMPLES

# Of so many validation samples, a class lies where one of training does if that has most of their neighbours, and so
# many standard errors more than by chance. At least two lie where others do, and no two at one place: shuffled labels
# lie nowhere, and data of another kind may lie near one class.
QUERIES = 300
EACH = 10
MOST = 0.5
BEYOND = 4.0
SHOWN = 3

_MOVED = (
    "validation samples of class {shown} ({moved} of {classes} classes, {share:.0%} of their nearest): validation "
    "numbers its classes otherwise"
)
_ADVICE = "Fit the encoder of labels on the training data alone, or list the classes once, and use it for every split."


def judge(
    train: tuple[Tensor, NDArray[np.int64]], val: tuple[Tensor, NDArray[np.int64]], where: Where
) -> Iterator[Finding]:
    """Yield that classes of validation have the numbers of others, by inputs ``(n, d)`` and labels ``(n,)`` of each."""
    inputs, labels = train[0][:SAMPLES], train[1]
    others = val[0][:QUERIES]
    asked = val[1][: len(others)]
    if len(inputs) < FEWEST or inputs.shape[1] != others.shape[1]:
        return
    spread = inputs.std(0)
    one, other = (((x - inputs.mean(0)) / spread)[:, spread > 0] for x in (inputs, others))
    near = labels[torch.cdist(other, one).argmin(1).numpy()]
    found: dict[int, tuple[int, float]] = {}  # class of training whose place each class has, and its share there
    for kind in np.unique(asked).tolist():
        kinds, counts = np.unique(near[asked == kind], return_counts=True)
        if (count := int(counts.sum())) < EACH:
            continue
        place, share = int(kinds[counts.argmax()]), float(counts.max() / count)
        chance = float((labels[: len(inputs)] == place).mean())
        if share <= MOST or share - chance < BEYOND * (chance * (1 - chance) / count) ** 0.5:
            return
        found[kind] = place, share
    moved = {kind: place for kind, (place, _) in found.items() if place != kind}
    places = {place for place, _ in found.values()}
    if len(moved) < 2 or len(places) < len(found):
        return
    shown = [f"{kind} lie among training samples of class {place}" for kind, place in [*moved.items()][:SHOWN]]
    share = float(np.mean([found[kind][1] for kind in moved]))
    yield replace(CLASS_SHIFT, advice=_ADVICE).found(
        where,
        what=_MOVED.format(shown=", of ".join(shown), moved=len(moved), classes=len(found), share=share),
        classes=list(moved),
        places=list(moved.values()),
    )
