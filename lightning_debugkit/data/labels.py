"""Labels of a split: in which order they come, how often each, and whether training and validation agree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import percent
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.batches import leaves

Labels = NDArray[np.int64]
KINDS = 1000  # more kinds than this are no classes
# Ordered by label: half of the batches are of one class, and nine samples in ten are followed by one of their class.
# Samplers that put some of each class into a batch, as metric learning has them, do not come near the first.
SMALL_BATCH = 4
ONE_CLASS = 0.5
FOLLOWED = 0.9
BATCHES = 4
# A shift that matters: half of the summed differences of the shares (total variation), and beyond chance.
SHIFT = 0.3
CHANCE = 1e-6
EXPECTED = 5  # counts that chance would give everywhere, from which on the chi-square test holds (Cochran)
MAJORITY = 0.9
SAMPLES = 50

UNSHUFFLED = Rule(
    "unshuffled-training-data",
    Severity.WARNING,
    "{single} of {batches} training batches hold samples of one class alone, though there are {classes} classes: the "
    "data is ordered by label and not shuffled",
    "Pass shuffle=True to the training DataLoader; shuffle the files of a stream, or give it a shuffle buffer.",
    section="data",
    cost="once",
)
CLASS_SHIFT = Rule(
    "class-shift",
    Severity.WARNING,
    "{what}",
    "Split by a random, stratified choice, not by order; check that labels are mapped the same way in both splits.",
    section="data",
    cost="once",
)
CLASS_IMBALANCE = Rule(
    "class-imbalance",
    Severity.INFO,
    "class {label} makes up {share:.0%} of the training labels: always answering it is right as often",
    "Compare accuracy with that figure, or use balanced accuracy; weigh the loss by class if rare classes matter.",
    section="data",
    cost="once",
)
_ONE_CLASS = (
    "all {seen} training labels that were looked at are of class {label}: the loss can fall to 0 without the inputs"
)
_MADE = "Look at how labels are made: a fraction that is cut off, a comparison that never holds, a file of one class."


def judge_one_class(train: Labels, where: Where) -> Iterator[Finding]:
    """Yield that labels that a loss is given hold one class alone."""
    if len(train) >= SAMPLES and bool((train == train[0]).all()):
        yield _of_one_class(len(train), int(train[0]), where)


def _of_one_class(seen: int, label: int, where: Where) -> Finding:
    rule = replace(CLASS_IMBALANCE, severity=Severity.WARNING, says=_ONE_CLASS, advice=_MADE)
    return rule.found(where, seen=seen, label=label)


class Uniform:
    """Labels of more than one entry a sample, such as masks, that were of one class in all batches so far."""

    def __init__(self) -> None:
        # value, and whether all so far were that, by path in the batch; `None` before the first batch
        self._same: dict[str, tuple[Tensor, Tensor]] | None = None
        self._count = 0

    def take(self, batch: Any, is_given: Callable[[Tensor], bool]) -> None:
        """Compare one more batch; ``is_given`` tells of the first one which of its tensors a loss was given."""
        if self._same == {}:
            return
        parts = {path: leaf for path, leaf in leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 1}
        if self._same is None:
            given = {path: leaf for path, leaf in parts.items() if leaf.numel() and is_given(leaf)}
            alike = {path: (leaf.reshape(-1)[0], leaf == leaf.reshape(-1)[0]) for path, leaf in given.items()}
            self._same = {path: (value, same.all()) for path, (value, same) in alike.items() if bool(same.all())}
        else:
            known = {path: held for path, held in self._same.items() if path in parts}
            self._same = {path: (value, is_so & (parts[path] == value).all()) for path, (value, is_so) in known.items()}
        self._count += sum(parts[path].numel() for path in self._same)

    def judge(self, ignored: Collection[int], where: Where) -> Iterator[Finding]:
        """Yield that all of them are of one class, and of none that the loss leaves out."""
        labels = [int(value) for value, is_so in (self._same or {}).values() if bool(is_so)]
        for label in [label for label in labels if label not in ignored][:1]:
            yield _of_one_class(self._count, label, where)


def judge_order(batches: Sequence[Labels], where: Where) -> Iterator[Finding]:
    """Yield that the training batches come ordered by label."""
    full = [labels for labels in batches if len(labels) >= SMALL_BATCH]
    classes = len(np.unique(np.concatenate(full))) if full else 0
    single = sum(len(np.unique(labels)) == 1 for labels in full)
    if len(full) < BATCHES or classes < 2 or single < ONE_CLASS * len(full):
        return
    order = np.concatenate(full)
    if float((order[1:] == order[:-1]).mean()) < FOLLOWED:
        return
    # By chance, a batch is of one class with the sum over classes of share ** size: of imbalanced data that is much.
    _, counts = np.unique(order, return_counts=True)
    shares = counts / counts.sum()
    expected = sum(float((shares ** len(labels)).sum()) for labels in full)
    if single > 2 * expected + BATCHES / 2:
        yield UNSHUFFLED.found(where, single=single, batches=len(full), classes=classes)


def judge_counts(train: Labels, val: Labels | None, is_plain: bool, where: Where) -> Iterator[Finding]:
    """Yield how the labels of training and validation are distributed.

    Args:
        train: Labels of the training samples of an epoch, as far as they were kept.
        val: Those of a whole validation, ``None`` if there is none.
        is_plain: The training data give each sample once: else they may be balanced on purpose, by the sampler or by
            copies.
    """
    kinds, counts = np.unique(train, return_counts=True)
    # Where each stands once they are numbers of samples.
    if not 1 < len(kinds) <= KINDS or len(train) < SAMPLES or len(kinds) == len(train):
        return
    most = int(counts.argmax())
    if counts[most] >= MAJORITY * len(train):
        yield CLASS_IMBALANCE.found(where, label=int(kinds[most]), share=float(counts[most] / len(train)))
    if val is not None and len(val) and is_plain:
        yield from _shift(train, val, where)


def _shift(train: Labels, val: Labels, where: Where) -> Iterator[Finding]:
    from scipy import stats  # late: it takes a while to import

    kinds = np.unique(np.concatenate([train, val]))
    table = np.array([[(split == kind).sum() for kind in kinds] for split in (train, val)])
    if len(val) < SAMPLES and stats.contingency.expected_freq(table).min() < EXPECTED:
        return
    shares = table / table.sum(1, keepdims=True)
    new = [int(kind) for kind, (known, seen) in zip(kinds, table.T, strict=True) if not known and seen]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    # A class of validation that training lacks, beyond what a rare class makes by chance.
    unseen = float(table[1][np.isin(kinds, new)].sum() / table[1].sum()) if new else 0.0
    if new and unseen > 3 / len(train) and (1 - unseen) ** len(train) < CHANCE:
        shown = ", ".join(map(str, new[:5])) + (", ..." if len(new) > 5 else "")
        what = f"{percent(unseen, 0)} of the validation labels are of classes that training lacks: {shown}"
        yield CLASS_SHIFT.found(where, what=what, classes=new, distance=distance)
    elif distance >= SHIFT and float(stats.chi2_contingency(table).pvalue) < CHANCE:
        worst = int(np.abs(shares[0] - shares[1]).argmax())
        one, other = (percent(split[worst], 0) for split in shares)
        what = (
            f"training and validation differ in labels: class {kinds[worst]} is {one} of the one, {other} of the other"
        )
        yield CLASS_SHIFT.found(where, what=what, classes=[int(kinds[worst])], distance=distance)
