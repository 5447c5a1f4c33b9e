"""The same sample twice: within training, and in training and validation both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule

# What natural twins, as rows of a table with few values, do not explain: more in common between the splits than
# within one by this factor, and a share that no rounding makes.
EXCESS = 5.0
SHARE = 0.01
FEWEST = 3
# Validation on training data and on nothing else is often meant, in a trial or to see whether it can be fitted; a leak
# never is, and leaves samples that are new.
WHOLE = 0.95
# Twins within training from which on it is worth a word.
TWINS = 0.05

Prints = NDArray[np.uint64]

TRAIN_VAL_OVERLAP = Rule(
    "train-val-overlap",
    Severity.WARNING,
    "{count} of {seen} validation samples that were looked at are also in the training data, number for number "
    "({share:.0%}; {trained} training samples were looked at): the validation score partly measures memory",
    "Split before anything is copied or augmented, and by group where samples of one origin are alike.",
    on_data=True,
    section="data",
    cost="once",
)
DUPLICATE_SAMPLES = Rule(
    "duplicate-samples",
    Severity.INFO,
    "{count} of {seen} training samples that were looked at are copies of others ({share:.0%})",
    "Drop the copies from the dataset, unless they were meant to weigh more.",
    section="data",
    cost="once",
)


def judge(
    train: Prints, val: Prints, is_plain: bool, is_same: bool, is_rich: bool, where: Where, is_text: bool = False
) -> Iterator[Finding]:
    """Yield what the fingerprints of two splits have in common.

    Args:
        train: Fingerprints of training samples.
        val: Fingerprints of validation samples.
        is_plain: The training sampler gives each sample once: twins within training are of the data then, not drawn.
        is_same: Both splits are one dataset, on purpose.
        is_rich: A sample has so many values that two are equal by copying only; rows of a table may be by chance.
        is_text: A sample is a row of whole numbers, as words are: text repeats itself, within a split as between them.
    """
    kinds, first = np.unique(train, return_index=True)
    copies, twins = len(train) - len(kinds), _repeated(train, len(kinds))
    if is_plain and is_rich and copies >= FEWEST and twins >= TWINS:
        yield DUPLICATE_SAMPLES.found(where, count=copies, seen=len(train), share=twins)
    shared = np.flatnonzero(np.isin(val, kinds))
    share = len(shared) / len(val) if len(val) else 0.0
    within = max(twins, _repeated(val, len(np.unique(val)))) if is_plain else _by_chance(val, len(kinds))
    is_certain = is_rich and not is_text
    if not is_same and len(shared) >= FEWEST and share >= SHARE and (is_certain or share > EXCESS * within):
        places = first[np.searchsorted(kinds, val[shared[:3]])]
        pairs = [[int(at), int(of)] for at, of in zip(shared[:3], places, strict=True)]
        severity = Severity.INFO if share >= WHOLE else None
        seen = {"count": len(shared), "seen": len(val), "share": share, "trained": len(train)}
        yield TRAIN_VAL_OVERLAP.found(where, severity=severity, **seen, pairs=pairs)


def has_copies(prints: Prints) -> bool:
    """Tell whether so many of a split are copies of others that they may be meant, to balance it."""
    return _repeated(prints, len(np.unique(prints))) >= TWINS


def _by_chance(val: Prints, kinds: int) -> float:
    """Return the share of ``val`` that would stand among ``kinds`` others if they were drawn as it was, with twins.

    Of n samples of which two are equal with probability q, n q / 2 are copies of others, and of those others N q are
    met. One copy more is counted than there is: of few samples, none may be by luck.
    """
    copies = len(val) - len(np.unique(val)) + 1
    return 2 * copies * kinds / len(val) ** 2 if len(val) else 0.0


def _repeated(prints: Prints, kinds: int) -> float:
    """Return the share of samples that are copies of others."""
    return 1 - kinds / len(prints) if len(prints) else 0.0
