"""Inputs beside their targets: whether they belong together, and whether the one holds the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.trivial_answer import AgainstTrivial
from lightning_debugkit.data import duplicate_columns, label_mapping, neighbours, target_leak, target_relation
from lightning_debugkit.data.first_loss import FirstLoss
from lightning_debugkit.data.samples_seen import Seen
from lightning_debugkit.data.shared_windows import are_shifted
from lightning_debugkit.data.values import finite

# Of neighbouring columns: more on average, and they are steps of a series or pixels of a picture.
SMOOTH = 0.5

Labels: TypeAlias = NDArray[np.int64]
# What the end of training says where inputs and targets show no relation, by its losses, steps, answers in validation
# and place.
Unrelated: TypeAlias = Callable[[Sequence[float], int, AgainstTrivial | None, Where], Iterator[Finding]]


@dataclass
class InputTargetChecks:
    """The samples of both splits, with what they are to be told as."""

    train: Seen
    val: Seen
    first: FirstLoss
    where: Where
    unrelated: Unrelated | None = None  # set by `findings` where the end of training has the last word

    def findings(self, neighbours: bool) -> Iterator[Finding]:
        """Yield what is wrong with classes, or with numbers to be predicted, beside their inputs.

        Args:
            neighbours: Compare the targets of samples that are alike.
        """
        inputs, others = (finite(split.values) for split in (self.train, self.val))
        if inputs is None or not self.train.is_paired:
            return
        if not self.val.is_paired:
            others = None
        if self.train.is_float:
            yield from self._leaks(inputs)
            if len(self.train.shape) == 1:
                yield from duplicate_columns.judge(inputs, self.where)
        if not neighbours:
            return
        if (labelled := _labelled(self.train)) is not None:
            yield from self._classes(labelled, _labelled(self.val))
        elif self.train.is_float:
            yield from self._numbers(inputs, others)

    def mapped(self) -> Iterator[Finding]:
        """Yield that validation numbers its classes otherwise than training."""
        train, val = _labelled(self.train), _labelled(self.val)
        if train is not None and val is not None and self.train.is_measured and self.train.is_paired:
            yield from label_mapping.judge(train, val, self.where)

    def _leaks(self, inputs: Tensor) -> Iterator[Finding]:
        known, wanted = self.train.classes, self.train.wanted
        if known is None and wanted is not None:
            known = _classes(wanted)
        if known is not None and len(self.train.shape) == 1:
            yield from target_leak.judge_classes(inputs, known, self.where)
        elif wanted is not None:
            yield from target_leak.judge(inputs, self.train.shape, wanted, self.where)

    def _classes(self, train: tuple[Tensor, Labels], val: tuple[Tensor, Labels] | None) -> Iterator[Finding]:
        are_words = not self.train.is_float and len(self.train.shape) == 1
        for by_words in (False, True)[: 1 + are_words]:
            one, other = (None if split is None else neighbours.agreement(*split, by_words) for split in (train, val))
            if one is None:
                return
            # Numbers that are names, such as those of words, have no distance; who reads their order learns late.
            is_chance = one.is_chance and (self._shows_nothing(*train) if other is None else other.is_chance)
            if is_chance and self.train.is_measured:
                self.unrelated = partial(neighbours.judge_unlearned, self.first, one, train[1])
            found = [] if other is None else list(neighbours.judge(one, other, self.where))
            yield from found
            if found:
                return

    def _shows_nothing(self, inputs: Tensor, labels: Labels) -> bool:
        """Tell whether no class of a table hangs on the inputs, by the tests of numbers."""
        each = torch.as_tensor(labels)[:, None] == torch.as_tensor(np.unique(labels))
        found = target_relation.relation(inputs, each.float())
        return found is not None and found.shows_nothing and self._is_table(inputs)

    def _numbers(self, inputs: Tensor, others: Tensor | None) -> Iterator[Finding]:
        wanted, asked = self.train.wanted, self.val.wanted
        one = target_relation.relation(inputs, wanted) if wanted is not None else None
        if one is None or wanted is None:
            return
        other = target_relation.relation(others, asked) if others is not None and asked is not None else None
        if other is not None:
            yield from target_relation.judge(one, other, self.where)
        if all(each.shows_nothing for each in (one, other) if each is not None) and self._is_table(inputs):
            self.unrelated = partial(target_relation.judge_unlearned, self.first, wanted)

    def _is_table(self, inputs: Tensor) -> bool:
        """Tell whether columns have no order: what comes next in a series may hang on nothing that can be seen."""
        if len(self.train.shape) != 1 or are_shifted(inputs, self.train.shape):
            return False
        columns = inputs[:, inputs.std(0) > 0].double()
        columns = (columns - columns.mean(0)) / columns.std(0)
        return columns.shape[1] < 2 or float((columns[:, 1:] * columns[:, :-1]).mean()) < SMOOTH


def _labelled(split: Seen) -> tuple[Tensor, Labels] | None:
    """Return the inputs that were kept of samples that have a class, and the classes of all of those, in order."""
    inputs, labels, named = finite(split.values), split.classes, split.named
    if inputs is None or labels is None:
        return None
    return inputs[: len(named)][torch.from_numpy(named[: len(inputs)])], labels[named]


def _classes(wanted: Tensor) -> Labels | None:
    """Return targets ``(n, 1)`` that are two whole numbers as classes ``(n,)``, as losses of logits take them."""
    if wanted.shape[1] != 1 or len(wanted.unique()) != 2 or bool((wanted != wanted.round()).any()):
        return None
    return wanted[:, 0].numpy().astype(np.int64)
