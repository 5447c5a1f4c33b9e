"""The small buffers of a model as they were before a step: a dropped update must leave no mark in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_SMALL = 65_536  # entries; statistics are smaller, tables and queues larger


class KeptBuffers:
    """Copies of the small buffers, made anew before each step."""

    def __init__(self) -> None:
        self._places: list[tuple[dict[str, Tensor | None], str, Tensor]] = []  # where the buffers stand
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep(self, module: nn.Module, is_new_epoch: bool) -> None:
        """Copy the buffers; the model is looked through for them once an epoch, and where one was replaced."""
        if not (is_new_epoch or self._places):
            return
        if is_new_epoch or not all(place.get(name) is here for place, name, here in self._places):
            self._places = [
                (part._buffers, name, buffer)
                for part in module.modules()
                for name, buffer in part._buffers.items()
                if buffer is not None and not is_lazy(buffer) and type(buffer) is Tensor and buffer.numel() <= _SMALL
            ]
        here = [buffer for _, _, buffer in self._places]
        if [id(buffer) for buffer in here] != [id(buffer) for buffer, _ in self._kept]:
            self._kept = [(buffer, buffer.detach().clone()) for buffer in here]
        elif here:
            torch._foreach_copy_([kept for _, kept in self._kept], here)

    def put_back(self) -> None:
        """Give the buffers what they held then, those that were replaced, too."""
        for (place, name, _), (buffer, kept) in zip(self._places, self._kept, strict=True):
            place[name] = buffer
            buffer.data.copy_(kept)
