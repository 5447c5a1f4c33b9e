"""Does each epoch give the samples in an order of its own?"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.data.loaders import loaders_of, samplers_of

ORDER_REPEATS = Rule("order-repeats", Severity.WARNING, "{told}", "{remedy}", section="data")

# Of so many samples at the start of an epoch, no two random orders are the same by chance: one in 40,000 of 8 samples.
_SAMPLES, _MOST = 8, 256
_KEPT = 64  # epochs


class EpochOrders:
    """Compares the order in which epochs begin, of one loader whose indices are known."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []  # epoch, checksum, samples; earlier runs' first
        self._own = 0  # epochs of this run among them
        self._begun: list[Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"orders": [list(order) for order in self.orders]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.orders = [list(order) for order in state.get("orders", [])]

    def saw(self, entries: list[Any] | None, batch_idx: int) -> None:
        """Take note of a batch: of the first ones of an epoch that is seen from its start."""
        if batch_idx == 0:
            self._begun = []
        if self._begun is not None and len(self._begun) < _MOST:
            self._begun = None if entries is None else [*self._begun, *entries]

    def end_epoch(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        """Yield that the epoch which ends began as an earlier one, where it should not."""
        begun, self._begun = self._begun, None
        if begun is None or len(begun) < _SAMPLES or trainer.overfit_batches or _is_ascending(begun):  # type: ignore[attr-defined]  # set by a connector
            return
        order = [trainer.current_epoch, zlib.crc32(repr(begun[:_MOST]).encode()), len(begun[:_MOST])]
        same = next((epoch for epoch, *rest in self.orders if rest == order[1:] and epoch != order[0]), None)
        earlier = len(self.orders) - self._own
        found = None if same is None else self._found(trainer, where, order[0], same, earlier)
        self.orders = [*self.orders, order][-_KEPT:]
        self._own = min(self._own + 1, _KEPT)
        if found is not None:
            yield found

    def _found(self, trainer: Trainer, where: Where, epoch: int, same: int, earlier: int) -> Finding | None:
        loader = loaders_of(trainer.train_dataloader)[0]
        seen = [sampler for _, sampler in samplers_of(loader)]
        waits = next((one for one in seen if callable(getattr(one, "set_epoch", None))), None)
        told = f"epoch {epoch} gives the training samples in the order of epoch {same}"
        if self._own and waits is not None and getattr(waits, "shuffle", True) is not False:
            kind = type(waits).__name__
            return ORDER_REPEATS.found(
                where,
                told=f"{told}: {kind} shuffles by an epoch that nobody sets",
                remedy=f"Call set_epoch(self.current_epoch) of the {kind} in on_train_epoch_start: Lightning calls it "
                "of a loader's sampler and of its batch sampler's, no deeper.",
                sampler=kind,
                epochs=[same, epoch],
            )
        varied = len({tuple(rest) for _, *rest in self.orders}) == len(self.orders)
        if not self._own and earlier and (varied or earlier == 1):
            return ORDER_REPEATS.found(
                where,
                severity=Severity.INFO,
                told=f"{told}: the resumed run has begun to shuffle anew",
                remedy="Add ExactResume: shuffling goes on as if the run had never stopped.",
                sampler=type(seen[-1]).__name__ if seen else "",
                epochs=[same, epoch],
            )
        return None


def _is_ascending(entries: list[Any]) -> bool:
    try:
        return all(a <= b for a, b in pairwise(entries))
    except TypeError:
        return False
