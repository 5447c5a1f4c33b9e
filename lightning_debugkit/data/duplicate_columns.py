"""The same column of a table twice: one that was put in again where another was meant."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.near_duplicates import KINDS, UNIQUE, kinds_of

SAMPLES = 50
SHOWN = 3

DUPLICATE_COLUMNS = Rule(
    "duplicate-columns",
    Severity.INFO,  # two sensors for one thing are a design, and their numbers look the same
    "columns {columns} of the input hold the same numbers in all of the {seen} training samples that were looked at: "
    "the second says nothing, and may stand where another was meant",
    "Look at the line that puts the columns together; drop the second, or put in the one that is missing.",
    on_data=True,
    section="data",
    cost="once",
)


def judge(inputs: Tensor, where: Where) -> Iterator[Finding]:
    """Yield the pairs of equal columns among the measurements of a table ``(n, d)``.

    Columns of few values are equal by chance, or by nature; one that stands there more than twice is repeated on
    purpose, as what does not change in a window of a series.
    """
    if len(inputs) < SAMPLES:
        return
    alike: dict[bytes, list[int]] = {}
    for place, column in enumerate(inputs.T.contiguous().numpy()):
        alike.setdefault(column.tobytes(), []).append(place)
    repeated = [places for places in alike.values() if len(places) > 1]
    first = inputs[:KINDS, [places[0] for places in repeated]]
    is_measured = kinds_of(first) >= UNIQUE * len(first)
    twice = [places for places, measured in zip(repeated, is_measured, strict=True) if measured]
    if twice and all(len(places) == 2 for places in twice):
        shown = "; ".join(f"{one} and {other}" for one, other in twice[:SHOWN])
        shown += f" and {len(twice) - SHOWN} more pairs" if len(twice) > SHOWN else ""
        yield DUPLICATE_COLUMNS.found(where, columns=shown, seen=len(inputs), pairs=twice)
