"""What the report shows of the data: some inputs, the range of their values, the classes of each split."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from lightning_debugkit.core.finding import Finding
from lightning_debugkit.data.samples_seen import Seen

SHOWN = 8  # inputs
LARGEST = 24  # pixels a side: all of it stays below 40 kB
FEATURES = 12  # columns of a table whose values are drawn
CLASSES = 30
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

Labels = NDArray[np.int64]


def sketch(
    train: Tensor | None, val: Tensor | None, shape: tuple[int, ...], known: Labels | None, told: Labels | None
) -> dict[str, Any]:
    """Return what there is to draw of two splits, plain types.

    Args:
        train: Training samples ``(n, d)``, ``None`` if they have no common shape.
        val: Validation samples.
        shape: Of one sample.
        known: Labels of training samples, in the same order.
        told: Those of validation samples.
    """
    made: dict[str, Any] = {}
    if train is not None and len(train):
        names = [str(label) for label in known[:SHOWN]] if known is not None and len(known) >= len(train) else []
        made["sheet"] = {"pictures": pictures(train[:SHOWN], shape), "labels": names}
        made["values"] = _values(train, val, shape)
    if known is not None:
        made["classes"] = _classes(known, told)
    return made


def pictures(samples: Tensor, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return samples ``(n, d)`` as small pictures, their pixels from 0 to 255; none where they are no pictures."""
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < 4:
        return []
    found = []
    for each in samples.reshape(-1, *shape).float():
        small = adaptive_avg_pool2d(each[None], (min(shape[1], LARGEST), min(shape[2], LARGEST)))[0]
        low, high = float(small.min()), float(small.max())
        pixels = ((small - low) / max(high - low, 1e-12) * 255).nan_to_num().round().to(torch.uint8)
        pixels = pixels.movedim(0, -1).contiguous()
        coded = base64.b64encode(pixels.numpy().tobytes()).decode()
        found.append({"size": list(pixels.shape), "pixels": coded, "range": [low, high]})
    return found


def pairs_of(found: Iterable[Finding], train: Seen, val: Seen) -> dict[str, Any]:
    """Return the pictures of the pairs that findings name, by rule."""
    made: dict[str, Any] = {}
    for finding in found:
        other = train if finding.evidence.get("split") == "training" else val
        sides = [(other.sample(at), train.sample(of)) for at, of in finding.evidence.get("pairs", ())]
        rows = [[*pictures(*one), *pictures(*two)] for one, two in sides if one is not None and two is not None]
        made |= {finding.rule: rows} if any(rows) else {}
    return made


def _values(train: Tensor, val: Tensor | None, shape: tuple[int, ...]) -> dict[str, Any]:
    is_picture = len(shape) == 3 and shape[0] in (1, 3, 4)
    splits = {"training": train} | ({"validation": val} if val is not None and val.shape[1] == train.shape[1] else {})
    count = shape[0] if is_picture else min(train.shape[1], FEATURES)
    word = "channel" if is_picture else "entry"
    names = [f"{word} {at}" for at in range(count)]
    quantiles: dict[str, Any] = {}
    for split, samples in splits.items():
        columns = (
            samples.reshape(len(samples), count, -1).movedim(1, 0).flatten(1) if is_picture else samples[:, :count].T
        )
        if len(samples) and bool(columns.isfinite().all()):  # all at once: a call takes as long as most columns
            quantiles[split] = np.quantile(columns.numpy(), QUANTILES, axis=1).T.tolist()
            continue
        finite = [column[column.isfinite()].numpy() for column in columns]
        quantiles[split] = [np.quantile(each, QUANTILES).tolist() if len(each) else [] for each in finite]
    return {"names": names, "of": count if is_picture else train.shape[1], "quantiles": quantiles}


def _classes(known: Labels, told: Labels | None) -> dict[str, Any]:
    kinds, counts = np.unique(known, return_counts=True)
    most = np.sort(np.argsort(-counts, kind="stable")[:CLASSES])
    kept = kinds[most]
    splits = {"training": counts[most].tolist()}
    if told is not None:
        splits["validation"] = [int((told == kind).sum()) for kind in kept]
    return {"labels": kept.tolist(), "of": len(kinds), "counts": splits}
