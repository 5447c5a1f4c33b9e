"""What is known of tensors while a step runs, by identity: none is kept alive for it."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

from torch import Tensor

V = TypeVar("V")


class TensorNotes(Generic[V]):
    """A value for each tensor that is still there; a new tensor in the place of a dead one has none.

    As `torch.utils.weak.WeakIdKeyDictionary`, which takes six times as long: each operation of a step asks several.
    """

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[Tensor], V]] = {}

    def __setitem__(self, tensor: Tensor, value: V) -> None:
        self._of[id(tensor)] = weakref.ref(tensor), value

    def get(self, tensor: Any) -> V | None:
        """Return the value of a tensor, ``None`` of one without and of all else."""
        held = self._of.get(id(tensor))
        return held[1] if held is not None and held[0]() is tensor else None
