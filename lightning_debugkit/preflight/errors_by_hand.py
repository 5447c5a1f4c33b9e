"""Differences of what the network says and what is wanted, followed to the mean of their squares or sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.preflight.loss_calls import LossCall, Made
from lightning_debugkit.preflight.operations import DIFFERENCES
from lightning_debugkit.preflight.origins import BOTH, Origin, Origins
from lightning_debugkit.replay.source_lines import SourceLine

Parts: TypeAlias = tuple[Tensor, Tensor, Made | None]  # prediction, target, how the first was made
REDUCTIONS = {"mean", "sum"}


class Differences:
    """The differences of one step, what each was made of, and the losses that are made of them."""

    def __init__(self) -> None:
        self.parts: TensorNotes[Parts] = TensorNotes()
        self._sizes: TensorNotes[tuple[str, Parts]] = TensorNotes()

    def follow(
        self,
        name: str,
        args: Sequence[Any],
        result: Tensor,
        made: Callable[[Any], Made | None],
        origins: Origins | None,
        place: Callable[[], SourceLine],
    ) -> LossCall | None:
        """Return the loss that one more operation completes, as the call of torch's function that it stands for.

        What is weighted on the way is not judged: a mask may hide what stands for "not measured".
        """
        one, other = (*args[:2], None)[:2]
        if name in DIFFERENCES:
            if isinstance(other, Tensor) and one.requires_grad != other.requires_grad and one.shape == other.shape:
                said, wanted = (one, other) if one.requires_grad else (other, one)
                parts = said.detach(), wanted.detach(), made(said)
                self.parts[result] = parts
                if origins is not None and origins.of(wanted) == Origin.BATCH and origins.of(said) == BOTH:
                    self._sizes[result] = "", parts
            return None
        held = self._sizes.get(one)
        function = _loss(name, other, held[0]) if held is not None else ""
        if held is None or not function:
            return None
        self._sizes[result] = function, held[1]
        if name not in REDUCTIONS or result.numel() != 1:
            return None
        said, wanted, how = held[1]
        return LossCall(function, said, wanted, {"reduction": name}, place(), how)


def _loss(name: str, other: Any, before: str) -> str:
    """Return the loss of torch that one more operation on a difference is part of, empty if of none."""
    if name in REDUCTIONS:
        return before
    is_square = name == "square" or (name in ("pow", "__pow__") and isinstance(other, int | float) and other == 2)
    return "" if before else "mse_loss" if is_square else "l1_loss" if name == "abs" else ""
