"""Calls the rules of the order of samples, and of the files that Lightning's own checkpoint callbacks save."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lightning_debugkit.core.compat import Trainer, TrainerFn
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.monitors.epoch_orders import EpochOrders
from lightning_debugkit.monitors.stock_checkpoints import SavedCheckpoints


class OrderAndSaves:
    """Looks at the samplers and at Lightning's own checkpoint callbacks, which come after the kit's in each hook."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self._orders = EpochOrders()
        self._saved = SavedCheckpoints()

    def state_dict(self) -> dict[str, Any]:
        return self._orders.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._orders.load_state_dict(state)

    def before_batch(
        self, trainer: Trainer, where: Where, entries: list[Any] | None, batch_idx: int
    ) -> Iterator[Finding]:
        """Yield what is wrong with the saves behind the batch before; ``entries`` are those of the batch to come."""
        if self.wanted:
            self._orders.saw(entries, batch_idx)
            yield from self._saved.judge(trainer, where)

    def before_validation(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        """Yield what is wrong with the saves before a validation."""
        if self.wanted and not trainer.sanity_checking:
            yield from self._saved.judge(trainer, where)
            self._saved.validates(trainer)

    def end_epoch(self, trainer: Trainer, where: Where) -> Iterator[Finding]:
        """Yield what an epoch that ends tells, before it is saved."""
        if self.wanted:
            self._saved.end_epoch(trainer)
            yield from self._orders.end_epoch(trainer, where)

    def conclude(self, trainer: Trainer, where: Where, *, broken: bool = False) -> Iterator[Finding]:
        """Yield what can be said of the files when the run is over, ``broken`` by an exception or not."""
        if self.wanted and trainer.state.fn == TrainerFn.FITTING:
            yield from self._saved.judge(trainer, where)
            yield from self._saved.conclude(trainer, where, broken=broken)
