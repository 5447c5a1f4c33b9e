"""Hooks on the outputs of modules: the module where a gradient or an activation first broke, without a replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.replay.batch import leaves


class ModuleHooks:
    """Sum each module's outputs and the gradients of them, on their own device, without reading them.

    A forward hook with a tensor hook on each output is used: full backward hooks break in-place operations. A sum
    carries NaN and infinities. The gradients are this rank's own, from before they are averaged.

    Args:
        module: The model; hooks stay on all of its parts until `remove`.
    """

    def __init__(self, module: nn.Module) -> None:
        self.activations: list[tuple[str, Tensor]] = []
        self.gradients: list[tuple[str, Tensor]] = []
        self._handles = [
            part.register_forward_hook(self._forward(name)) for name, part in module.named_modules() if name
        ]

    def clear(self) -> None:
        """Forget the last step."""
        self.activations.clear()
        self.gradients.clear()

    def remove(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self.clear()

    def first_bad_activation(self) -> str | None:
        """Return the first module, in the order of the forward pass, whose output is not finite."""
        return _first_bad(self.activations)

    def first_bad_gradient(self) -> str | None:
        """Return the first module, in the order of the backward pass, whose output's gradient is not finite."""
        return _first_bad(self.gradients)

    def _forward(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            if not torch.is_grad_enabled():
                return
            for _path, tensor in leaves(output):
                if isinstance(tensor, Tensor) and tensor.is_floating_point():
                    self.activations.append((name, _sum(tensor)))
                    if tensor.requires_grad:
                        tensor.register_hook(lambda grad: self._backward(name, grad))

        return hook

    def _backward(self, name: str, grad: Tensor) -> None:
        self.gradients.append((name, _sum(grad)))


def _sum(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if hasattr(tensor, "to_local"):  # DTensor: a sum of the whole would wait for other ranks
        tensor = tensor.to_local()
    return tensor.sum(dtype=torch.float32)


def _first_bad(sums: list[tuple[str, Tensor]]) -> str | None:
    if not sums:
        return None
    device = sums[0][1].device
    finite = torch.isfinite(torch.stack([total.to(device) for _, total in sums])).tolist()
    return next((name for (name, _), sound in zip(sums, finite, strict=True) if not sound), None)
