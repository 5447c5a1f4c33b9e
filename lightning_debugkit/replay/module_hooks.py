"""Hooks on the outputs of modules: the module where a gradient or an activation first broke, without a replay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle, unserializable_hook

from lightning_debugkit.core.compat import DisableTorchFunction, is_functorch_wrapped, unseen
from lightning_debugkit.core.patching import Hearing
from lightning_debugkit.core.tensor_numbers import numbers
from lightning_debugkit.data.batches import leaves


class ModuleHooks:
    """Sum each module's outputs and the gradients of them, on their own device, without reading them.

    A forward hook with a tensor hook on each output is used: full backward hooks break in-place operations. A sum
    carries NaN and infinities. The gradients are this rank's own, from before they are averaged.

    What cannot be summed is passed over, and the first such error kept in ``error``: it must not end the step.
    """

    def __init__(self, module: nn.Module) -> None:
        self.activations: list[tuple[str, Tensor]] = []
        self.gradients: list[tuple[str, Tensor]] = []
        self.error: Exception | None = None
        self._names = {id(part): name for name, part in module.named_modules() if name}
        self._on_leaves: list[RemovableHandle] = []
        self._handle = Hearing([part for part in module.modules() if id(part) in self._names], self._heard)

    def clear(self) -> None:
        """Forget the last step."""
        self.activations.clear()
        self.gradients.clear()
        for handle in self._on_leaves:
            handle.remove()
        self._on_leaves.clear()

    def remove(self) -> None:
        """Hear no more."""
        self._handle.remove()
        self.clear()

    def first_bad_activation(self) -> str | None:
        """Return the first module, in the order of the forward pass, whose output is not finite."""
        return _first_bad(self.activations)

    def first_bad_gradient(self) -> str | None:
        """Return the first module, in the order of the backward pass, whose output's gradient is not finite."""
        return _first_bad(self.gradients)

    def _heard(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        try:
            for _path, tensor in leaves(output):
                if isinstance(tensor, Tensor):
                    with DisableTorchFunction():  # a class of the user's may refuse what it does not know
                        self._take(self._names[id(module)], tensor)
        except Exception as error:
            self.error = self.error or error

    def _take(self, name: str, tensor: Tensor) -> None:
        if not tensor.is_floating_point() or is_functorch_wrapped(tensor):
            return
        self.activations.append((name, _sum(tensor)))
        if tensor.requires_grad:
            handle = tensor.register_hook(self._gradient_of(name))
            if tensor.is_leaf:  # a parameter, or the batch: it outlives the step
                self._on_leaves.append(handle)

    def _gradient_of(self, name: str) -> Any:
        @unserializable_hook  # type: ignore[untyped-decorator]  # else torch warns where a tensor that has it is saved
        @unseen
        def hook(grad: Tensor) -> None:
            try:
                self.gradients.append((name, _sum(grad)))
            except Exception as error:
                self.error = self.error or error

        return hook


def _sum(tensor: Tensor) -> Tensor:
    plain = numbers(tensor)  # of DTensor this rank's: a sum of the whole would wait for others
    if plain is None:
        return torch.zeros((), device=tensor.device)
    return plain.detach().sum(dtype=torch.float32)


def _first_bad(sums: list[tuple[str, Tensor]]) -> str | None:
    if not sums:
        return None
    device = sums[0][1].device
    finite = torch.isfinite(torch.stack([total.to(device) for _, total in sums])).tolist()
    return next((name for (name, _), sound in zip(sums, finite, strict=True) if not sound), None)
