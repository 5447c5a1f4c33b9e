"""Count the wrong answers of a classifier: exactly, by class, and with what its uncertainty is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.evaluation.predictions.wrong_samples import Scored
from lightning_debugkit.stats.bootstrap import bootstrap_groups
from lightning_debugkit.stats.intervals import Interval, clopper_pearson, wilson

Method = Literal["wilson", "exact"]
Integers = NDArray[np.int64]
_EVERY = 64  # batches counted on the device before they are copied to the host together
_MOST_BITS = 1_000_000
_NO_CLASS = -1


@dataclass
class Counts:
    """The answers of one set of samples."""

    wrong: int = 0  # wrong answers in all
    size: int = 0  # answers in all
    rows: int = 0
    broken: int = 0  # samples with predictions that are not finite
    # samples and wrong samples of each class, `(2, classes)`
    by_class: Integers = field(default_factory=lambda: np.zeros((2, 0), dtype=np.int64))
    # wrong answers and answers of each sample or group, `(2, n)`, where answers come in clusters
    clusters: Integers | None = None
    bits: NDArray[np.bool_] | None = None  # whether each sample was wrong, in the order of the data, if that is known

    @property
    def classes(self) -> int:
        """How many classes the targets are of."""
        return int((self.by_class[0] > 0).sum())

    def estimate(self, method: Method = "wilson") -> Interval:
        """Return the error and its interval; ``n`` counts answers.

        Answers in clusters (pixels of an image, images of a patient) say less than as many of their own: their
        interval is bootstrapped over the clusters. Where all clusters are alike there is nothing to draw from: the
        interval is then that of as many single answers as there are clusters.
        """
        rate = clopper_pearson if method == "exact" else wilson
        if self.clusters is None:
            return rate(self.wrong, self.size)
        totals, sizes = self.clusters
        if self.wrong in (0, self.size):
            found = rate(len(totals) if self.wrong else 0, len(totals))
        else:
            found = bootstrap_groups(totals, sizes)
        return replace(found, n=self.size)


class ErrorCounts:
    """Take up batches; give what was counted, to be merged over ranks."""

    def __init__(self) -> None:
        self.pending: list[Tensor] = []
        self.counts = Counts()
        self.clustered = False
        self.groups: dict[str, list[int]] = {}
        self.rows: list[Integers] = []  # places, wrong, size of each sample

    def add(self, scored: Scored, counted: Tensor | None, groups: Any = None, places: Tensor | None = None) -> None:
        """Take up a batch.

        Args:
            scored: Which answers are wrong.
            counted: Samples that count, all if ``None``.
            groups: Group of each sample, such as the patient, if samples of a group are not independent.
            places: Place of each sample in the order of the data.
        """
        self.clustered = self.clustered or scored.target is None or groups is not None
        length, device = len(scored.wrong), scored.wrong.device
        if places is not None and len(places) != length:  # not the rows of the batch
            places = counted = None
        blank = torch.full((length,), _NO_CLASS, device=device)
        target = blank if scored.target is None else scored.target
        place = blank if places is None else places.to(device)
        table = torch.stack([scored.wrong, scored.size, target, place, scored.broken.long()])
        if counted is not None:
            keep = counted.to(device)
            table = table[:, keep]
            groups = _chosen(groups, keep)
        if groups is not None:
            self._group(groups, table)
        self.pending.append(table)
        if len(self.pending) >= _EVERY:
            self.flush()

    def _group(self, groups: Any, table: Tensor) -> None:
        names = groups.tolist() if isinstance(groups, Tensor) else list(groups)
        wrong, size = table[:2].tolist()
        for name, bad, all_ in zip(names, wrong, size, strict=True):
            held = self.groups.setdefault(str(name), [0, 0])
            held[0] += bad
            held[1] += all_

    def flush(self) -> None:
        """Count what has been taken up, on the host."""
        if not self.pending:
            return
        table: Integers = torch.cat(self.pending, dim=1).cpu().numpy()
        self.pending = []
        wrong, size, target, place, broken = table
        counts = self.counts
        counts.wrong += int(wrong.sum())
        counts.size += int(size.sum())
        counts.rows += len(wrong)
        counts.broken += int(broken.sum())
        classed = (target >= 0) & (size > 0)
        counts.by_class = _added(
            counts.by_class, np.bincount(target[classed]), np.bincount(target[classed & (wrong > 0)])
        )
        if self.clustered or counts.rows <= _MOST_BITS:
            self.rows.append(np.stack([place, wrong, size]))
        else:
            self.rows = []

    def payload(self) -> dict[str, Any]:
        """Return all that was counted, as plain data to be merged with that of other ranks."""
        self.flush()
        rows = np.concatenate(self.rows, axis=1) if self.rows else np.zeros((3, 0), dtype=np.int64)
        return {"counts": self.counts, "groups": self.groups, "rows": rows, "clustered": self.clustered}


def merged(payloads: Sequence[dict[str, Any]]) -> Counts:
    """Return the counts of all ranks together."""
    total = Counts()
    for counts in (payload["counts"] for payload in payloads):
        total.wrong += counts.wrong
        total.size += counts.size
        total.rows += counts.rows
        total.broken += counts.broken
        total.by_class = _added(total.by_class, *counts.by_class)
    groups: dict[str, list[int]] = {}
    for payload in payloads:
        for name, (wrong, size) in payload["groups"].items():
            held = groups.setdefault(name, [0, 0])
            held[0] += wrong
            held[1] += size
    place, wrong, size = np.concatenate([payload["rows"] for payload in payloads], axis=1)
    if groups:
        total.clusters = np.array(list(groups.values()), dtype=np.int64).T
    elif any(payload["clustered"] for payload in payloads):
        total.clusters = np.stack([wrong, size])[:, size > 0]
    elif len(place) == total.rows and (place >= 0).all():
        total.bits = (wrong > 0)[np.argsort(place, kind="stable")]
    return total


def _added(table: Integers, supports: Integers, wrong: Integers) -> Integers:
    """Add counts by class to a table that grows with the classes seen."""
    grown = np.zeros((2, max(table.shape[1], len(supports), len(wrong))), dtype=np.int64)
    grown[:, : table.shape[1]] += table
    grown[0, : len(supports)] += supports
    grown[1, : len(wrong)] += wrong
    return grown


def _chosen(groups: Any, keep: Tensor) -> Any:
    if groups is None or isinstance(groups, Tensor):
        return groups if groups is None else groups[keep.to(groups.device)]
    return [group for group, is_kept in zip(groups, keep.tolist(), strict=True) if is_kept]
