"""Samples whose label is likely wrong, by confident learning from a short record of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lightning_debugkit.stats.arrays import Flags, Floats, Integers, floats, integers
from lightning_debugkit.stats.confident_learning import EQUAL, Prune, guesses, thresholds, to_prune, unnamed
from lightning_debugkit.stats.intervals import Interval, wilson
from lightning_debugkit.stats.sample_records import Records, RecordTable


@dataclass(frozen=True)
class ClassShare:
    """The issues of one class."""

    label: int
    support: int  # its samples
    issues: int  # those whose label is likely wrong
    share: Interval


@dataclass(frozen=True)
class LabelIssues:
    """Samples whose label is likely wrong, the likeliest first.

    Args:
        indices: Of the samples in the dataset.
        labels: Of them.
        suggested: The class that the model takes them for.
        scores: Label quality: low where the label is likely wrong.
        probability: Of the suggested class.
        by_class: The classes that have issues, the largest share first.
        rate: Share of all samples that are issues.
        noise: Share of all labels that is wrong by the confident joint, whichever they are.
        uncertain: Samples that the classes of the records leave open.
        is_exact: Whether all probabilities would have given the same: no sample is uncertain.
    """

    indices: Integers
    labels: Integers
    suggested: Integers
    scores: Floats
    probability: Floats
    by_class: list[ClassShare]
    rate: Interval
    noise: float
    uncertain: int

    @property
    def is_exact(self) -> bool:
        return self.uncertain == 0

    def __len__(self) -> int:
        return len(self.indices)


def label_issues(records: Records) -> LabelIssues:
    """Return the samples whose label is likely wrong, equal to ``cleanlab.filter.find_label_issues``.

    Of each label and each other class as many samples are taken as the joint of labels and classes holds, by margin;
    the least probable label is named first. Of ten classes or fewer the records hold all; of more they hold three,
    which may leave a few samples open. Probabilities have to be out of sample: of samples that the model was not
    trained on.

    References:
        Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021, section 3.2.
    """
    table, width = records.table(), records.classes
    guess = guesses(table, thresholds(table, width))
    is_rival = table.confidence > floats(table.probability) + EQUAL  # the model prefers another class
    prunes = list(to_prune(table, guess, width))
    flagged, unsure = _pruned(table, prunes, is_rival)
    unsure |= guess.is_open  # the joint may lack them
    rows = np.flatnonzero(flagged & is_rival)
    issues = table.take(rows)
    scores = floats(issues.probability)
    order = np.argsort(scores, kind="stable")
    rows, issues, n = rows[order], issues.take(order), len(table)
    return LabelIssues(
        indices=issues.index,
        labels=integers(issues.label),
        suggested=integers(issues.predicted),
        scores=scores[order],
        probability=floats(issues.confidence),
        by_class=_shares(table, rows, width),
        rate=wilson(len(rows), n),
        noise=sum(int(prune.counts.sum()) for prune in prunes) / n if n else math.nan,
        uncertain=int((unsure & is_rival).sum()),
    )


def _shares(table: RecordTable, rows: Integers, classes: int) -> list[ClassShare]:
    support = np.bincount(table.label, minlength=classes)
    issues = np.bincount(table.label[rows], minlength=classes)
    found = [
        ClassShare(label, n := int(support[label]), k := int(issues[label]), wilson(k, n))
        for label in np.flatnonzero(issues).tolist()
    ]
    return sorted(found, key=lambda item: -item.share.value)


def _pruned(table: RecordTable, prunes: list[Prune], is_rival: Flags) -> tuple[Flags, Flags]:
    """Samples that are flagged, and those of which the record does not tell."""
    order = np.argsort(table.label, kind="stable")
    ends = np.searchsorted(table.label[order], np.arange(len(table) and int(table.label.max()) + 2))
    flagged, unsure = np.zeros(len(table), np.bool_), np.zeros(len(table), np.bool_)
    for prune in prunes:
        rows = order[ends[prune.label] : ends[prune.label + 1]]
        near = _near(table, rows, is_rival)
        group = _Group(table.take(near), is_rival[near])
        flagged[near], unsure[near] = group.chosen(prune)
    return flagged, unsure


def _near(table: RecordTable, rows: Integers, is_rival: Flags) -> Integers:
    """The samples of a label that the model takes for another class, and those that one of them could be behind of.

    No margin of the former is below minus the largest probability of their label.
    """
    rivals = is_rival[rows]
    if not rivals.any():
        return rows[:0]
    own = floats(table.probability[rows])
    # What another class has is at most what the label leaves.
    lowest = -own[rivals].max()
    near: Integers = rows[rivals | (1 + EQUAL - 2 * own >= lowest)]
    return near


class _Group:
    """The samples of one label."""

    def __init__(self, table: RecordTable, is_rival: Flags) -> None:
        self.own = floats(table.probability)
        self.is_whole, self.names = table.is_whole, table.classes
        self.numbers = floats(table.probabilities)
        self.is_rival = is_rival
        self.reach = unnamed(table) - self.own  # the largest margin of a class that a record does not name
        self.highest = float(self.reach.max(initial=-2.0))
        self.highest_rival = float(self.reach[is_rival].max(initial=-2.0))

    def chosen(self, prune: Prune) -> tuple[Flags, Flags]:
        """The samples of largest margin for each other class, and those of which the record does not tell."""
        sure, flagged, unsure = (np.zeros(len(self.own), np.bool_) for _ in range(3))
        for count, known, margin in self._named(prune):
            if len(known) > count:
                part = np.argpartition(-margin, count - 1)[:count]
                known_in, margin_in, cut = known[part], margin[part], float(margin[part].min())
            else:
                known_in, margin_in = known, margin
                cut = float(margin.min(initial=2.0)) if len(known) == count else -2.0
            flagged[known_in] = True
            doubt = self._doubt(known, known_in, margin_in, cut)
            unsure |= doubt
            inside = np.zeros(len(self.own), np.bool_)
            inside[known_in] = True
            sure |= inside & ~doubt
        return flagged, unsure & ~sure

    def _named(self, prune: Prune) -> Iterator[tuple[int, Integers, Floats]]:
        """For each other class: samples wanted, the samples whose record names it, their margins."""
        if self.is_whole:
            every = np.arange(len(self.own))
            for other, count in zip(prune.others.tolist(), prune.counts.tolist(), strict=True):
                yield count, every, self.numbers[:, other] - self.own
            return
        wanted = np.zeros(int(max(prune.others.max(initial=0), self.names.max(initial=0))) + 1, np.int64)
        wanted[prune.others] = prune.counts
        flat = self.names.reshape(-1)
        place = np.flatnonzero(wanted[flat])
        place = place[np.argsort(flat[place], kind="stable")]
        starts, ends = (np.searchsorted(flat[place], prune.others, side=side) for side in ("left", "right"))
        for count, start, end in zip(prune.counts.tolist(), starts.tolist(), ends.tolist(), strict=True):
            part = place[start:end]
            rows = part // self.names.shape[1]
            yield count, rows, self.numbers.reshape(-1)[part] - self.own[rows]

    def _doubt(self, known: Integers, known_in: Integers, margin_in: Floats, cut: float) -> Flags:
        """Samples that are in or out only if the class has less, or more, of a record that does not name it."""
        doubt = np.zeros(len(self.own), np.bool_)
        rival_in = self.is_rival[known_in]
        weakest = float(margin_in[rival_in].min(initial=2.0))
        if self.highest_rival < cut and self.highest < weakest:
            return doubt
        unknown = self.reach >= cut
        unknown[known] = False
        others = int(unknown.sum())
        if others:
            doubt |= unknown
            weak = np.argsort(margin_in, kind="stable")[:others]
            doubt[known_in[weak[margin_in[weak] <= self.reach[unknown].max()]]] = True
        return doubt & self.is_rival
