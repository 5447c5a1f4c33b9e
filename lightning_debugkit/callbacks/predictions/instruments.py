"""Two looks at a running step: what the module's forward returns, and what a loss function receives."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Functions of torch.nn.functional that compare a prediction with its target, by name.
CLASS_LOSSES = {
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
}
VALUE_LOSSES = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "gaussian_nll_loss"}


class LossWatch(TorchFunctionMode):
    """Remember predictions and targets that loss functions are called with, however the step calls them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Tensor, Tensor, int | None]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in CLASS_LOSSES or name in VALUE_LOSSES:
            given = [*args[:2], *(kwargs[key] for key in ("input", "target") if key in kwargs)]
            ignored = kwargs.get("ignore_index", -100) if name in ("cross_entropy", "nll_loss") else None
            if len(given) == 2 and all(isinstance(part, Tensor) for part in given):
                self.calls.append((name, given[0].detach(), given[1].detach(), ignored))
                # What a loss function calls within itself is the same comparison once more.
                before = len(self.calls)
                result = func(*args, **kwargs)
                del self.calls[before:]
                return result
        return func(*args, **kwargs)


class ForwardWatch:
    """Remember what the module's own ``forward`` returns while this is entered."""

    def __init__(self, module: nn.Module) -> None:
        self.outputs: list[Any] = []
        self._handle = module.register_forward_hook(self._saw)

    def _saw(self, module: nn.Module, args: Any, output: Any) -> None:
        self.outputs.append(output)

    def remove(self) -> None:
        self._handle.remove()

    def only(self, returned: Any) -> Tensor | None:
        """Return the one output that there was, ``None`` if there was none or more than one.

        Under DDP a step runs inside ``forward``: what it returned is no output of the model.
        """
        found = [output for output in self.outputs if output is not returned]
        return scores_of(found[0]) if len(found) == 1 else None


def scores_of(output: Any) -> Tensor | None:
    """Return the scores in what a model returned: a tensor, its ``logits``, or the first of a tuple."""
    logits = output.get("logits") if isinstance(output, dict) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first.detach() if isinstance(first, Tensor) and first.ndim else None


@contextlib.contextmanager
def watching(module: nn.Module) -> Iterator[tuple[ForwardWatch, LossWatch]]:
    """Watch both while a step runs."""
    forward = ForwardWatch(module)
    try:
        with LossWatch() as losses:
            yield forward, losses
    finally:
        forward.remove()
