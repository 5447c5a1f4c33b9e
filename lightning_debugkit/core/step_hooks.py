"""Two looks at a running step: what the module's forward returns, and what a loss function receives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lightning_debugkit.core.compat import is_transformed, unseen
from lightning_debugkit.core.loss_functions import BINARY_LOSSES, CLASS_LOSSES, INDEX_LOSSES, VALUE_LOSSES
from lightning_debugkit.core.loss_masks import LossMasks
from lightning_debugkit.core.patching import Hearing, StandIn

Call = tuple[str, Tensor, Tensor, int | None]


class _Here(threading.local):
    """What is on in this thread, as torch's modes are: two fits may run side by side.

    ``depth``: how many reruns we are inside of; a watch of the training or validation proper must not hear them.
    """

    depth = 0
    listener: _LossListener | None = None


_here = _Here()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Let what runs inside go unheard by the watches that are on already."""
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1


class _ForwardListener:
    """Hears what happens at the depth where it was made; one that is for a rerun, also below."""

    def __init__(self, below: bool = False) -> None:
        self._depth = _here.depth
        self._below = below

    @property
    def hears(self) -> bool:
        return self._depth == _here.depth or (self._below and self._depth < _here.depth)


class _LossListener(TorchFunctionMode):
    """The one mode of torch for all watches of a step: each mode costs at every call of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.watches: list[LossWatch] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        __tracebackhide__ = True
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        is_loss = name in CLASS_LOSSES or name in VALUE_LOSSES
        if is_loss:
            for watch in self.watches:
                unseen(watch.take)(name, args, kwargs)
        result = func(*args, **kwargs)
        for watch in self.watches:
            unseen(watch.follow)(name, func, args, kwargs, result, is_loss)
        return result


@contextlib.contextmanager
def _heard_by(watch: LossWatch) -> Iterator[None]:
    """Let a watch hear what runs inside; torch's modes are a stack, so nothing is entered that is not left inside."""
    if (on := _here.listener) is not None:
        on.watches.append(watch)
        try:
            yield
        finally:
            on.watches.remove(watch)
        return
    listener = _LossListener()
    listener.watches.append(watch)
    _here.listener = listener
    try:
        with listener:
            yield
    finally:
        _here.listener = None


class LossWatch(_ForwardListener):
    """Remember predictions and targets that loss functions are called with, however the step calls them.

    It hears what runs while it is entered, or, put around a step of a module, that step whenever it is called.
    """

    def __init__(self, below: bool = False) -> None:
        super().__init__(below)
        self.calls: list[Call] = []
        self.masks = LossMasks()
        self.is_unreduced = False  # numbers have a loss each, some of which may be left out
        self.error: Exception | None = None
        self._inside = contextlib.ExitStack()
        self._standing: StandIn | None = None

    def put_around(self, module: nn.Module, step: str) -> None:
        """Hear a step of the module, and nothing else, until `remove`."""
        usual = getattr(module, step)

        def heard(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            if not self.hears:
                return usual(*args, **kwargs)
            with _heard_by(self):
                return usual(*args, **kwargs)

        self._standing = StandIn(module, step, heard).stand()

    def remove(self) -> None:
        """Leave the module as it was; may be called twice."""
        if self._standing is not None:
            self._standing.leave()
            self._standing = None

    def take(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take note of a call; what fails is kept, as the step must not be ended by it."""
        if not self.hears or self.error is not None or is_transformed():
            return
        try:
            given = [*args[:2], *(kwargs[key] for key in ("input", "target") if key in kwargs)]
            ignored = kwargs.get("ignore_index", -100) if name in INDEX_LOSSES else None
            if len(given) == 2 and all(isinstance(part, Tensor) for part in given):
                self.calls.append((name, given[0].detach(), given[1].detach(), ignored))
        except Exception as error:
            self.error = error

    def follow(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, is_loss: bool
    ) -> None:
        """Follow the losses of single answers to what is left out of them."""
        if not (is_loss or self.masks.is_following):
            return
        if not self.hears or self.error is not None or is_transformed():
            return
        try:
            if is_loss and name in CLASS_LOSSES and self.calls:
                if name in BINARY_LOSSES:
                    self.masks.weighed(len(self.calls) - 1, func, args, kwargs)
                self.masks.begin(len(self.calls) - 1, result)
            elif is_loss:
                self.is_unreduced |= isinstance(result, Tensor) and result.dim() > 0
            else:
                self.masks.saw(name, func, args, kwargs, result)
        except Exception as error:
            self.error = error

    def __enter__(self) -> LossWatch:
        self._inside.enter_context(_heard_by(self))
        return self

    def __exit__(self, *error: Any) -> None:
        self._inside.close()


class ForwardWatch(_ForwardListener):
    """Remember what the module's own ``forward`` returns while this is entered, and detections of a part of it."""

    def __init__(self, module: nn.Module, below: bool = False, is_compiled: bool = False) -> None:
        super().__init__(below)
        self.outputs: list[Any] = []
        self.detections: list[Any] = []
        self._module = module
        self._handle: Hearing | None = None
        self._standing: StandIn | None = None
        if is_compiled:  # a hook for all modules would have its compiled parts compiled anew
            self._stand(module)
        else:
            self._handle = Hearing([module, *module.children()], self._heard)

    def _stand(self, module: nn.Module) -> None:
        usual = module.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            __tracebackhide__ = True
            output = usual(*args, **kwargs)
            self._saw(output)
            return output

        self._standing = StandIn(module, "forward", forward).stand()

    def _heard(self, module: nn.Module, args: Any, output: Any) -> None:
        if module is self._module:
            self._saw(output)
        else:
            self._saw_part(output)

    def _saw(self, output: Any) -> None:
        if self.hears:
            self.outputs.append(output)

    def _saw_part(self, output: Any) -> None:
        if self.hears and is_detections(output):
            self.detections.append(output)

    def remove(self) -> None:
        """Leave the module as it was; may be called twice."""
        if self._handle is not None:
            self._handle.remove()
        if self._standing is not None:
            self._standing.leave()

    def others(self, returned: Any) -> list[Any]:
        """Return the outputs that there were.

        Under DDP a step runs inside ``forward``: what it returned is no output of the model.
        """
        return [output for output in self.outputs if output is not returned]

    def only(self, returned: Any) -> Any:
        """Return the scores of the one output that there was, ``None`` if there was none or more than one."""
        found = self.others(returned) or self.detections
        scores = [part for part in map(scores_of, found) if part is not None]
        return scores[0] if len(scores) == 1 else None


def scores_of(output: Any) -> Any:
    """Return the scores in what a model returned: a tensor, its ``logits`` or ``out``, the first of a tuple, boxes."""
    if is_detections(output):
        return output
    for name in ("logits", "out"):
        scores = output.get(name) if isinstance(output, dict) else getattr(output, name, None)
        if isinstance(scores, Tensor):
            return scores.detach()
    first = output[0] if isinstance(output, tuple | list) and output else output
    return first.detach() if isinstance(first, Tensor) and first.ndim else None


@contextlib.contextmanager
def watching(module: nn.Module) -> Iterator[tuple[ForwardWatch, LossWatch]]:
    """Watch both while a step runs once more."""
    forward = ForwardWatch(module, below=True)
    try:
        with LossWatch(below=True) as losses:
            yield forward, losses
    finally:
        forward.remove()


def is_detections(value: Any) -> bool:
    """Tell whether ``value`` is a list with a mapping of boxes and labels for each image, as torchvision has them.

    >>> import torch
    >>> is_detections([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}]), is_detections([])
    (True, False)
    """
    return (
        isinstance(value, tuple | list)
        and bool(value)
        and all(isinstance(item, Mapping) and "boxes" in item and "labels" in item for item in value)
    )
