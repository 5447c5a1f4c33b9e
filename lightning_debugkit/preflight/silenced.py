"""Whether a step has an activation that is dead: it gives 0 for all that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_debugkit.stats.tensor_norms import unobserved

FLOORS = {"relu", "relu6"}


class Silenced(TorchFunctionMode):
    """Enter it around one step; `is_found` says whether one of its activations gave nothing but 0."""

    def __init__(self) -> None:
        super().__init__()
        self.is_found = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        if getattr(func, "__name__", "").rstrip("_") in FLOORS and isinstance(result, Tensor) and result.numel() > 1:
            with unobserved():
                self.is_found = self.is_found or bool((result == 0).all())
        return result
