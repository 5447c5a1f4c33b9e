"""Run the training step on batches of our own making and read what its loss is given, leaving no trace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import BuiltinFunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.held_state import OTHERS, cannot_undo
from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.core.loss_functions import CHECKED_LOSSES, INDEX_LOSSES
from lightning_debugkit.core.patching import Hearing, has_compiled_code
from lightning_debugkit.core.program_code import is_installed, names_reached
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.core.sharding import cannot_rerun
from lightning_debugkit.data.batches import batch_size, leaves, replaced, take
from lightning_debugkit.preflight.listener import StepListener
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.replay.diagnosis import Backward, ReplayStep
from lightning_debugkit.replay.trace import Silent

# Attributes that a step may change for good where it runs once more: what is none of these may hold a file, an
# environment, an iterator.
PLAIN = (Tensor, nn.Module, str, bytes, int, float, complex, bool, type(None), torch.device, torch.dtype, type, range)
FEWEST_STEPS = 50  # a shorter fit is a trial: it gets no extra passes
_MADE_IN_PYTHON = 1 << 9  # `Py_TPFLAGS_HEAPTYPE`, as `copyreg` reads it
LARGEST = 1 << 30  # entries of all parameters: what is isolated is copied to the host once


def _ignore(loss: Tensor, *args: Any, **kwargs: Any) -> None:
    """Take no step back."""


class NotProbed(RuntimeError):
    """The step raised, or cannot be run again without risk: what runs it raises this, and the message says why."""


@dataclass
class Probe:
    """What the checks may do: run the step in eval mode on a batch, as often as they like, and see what comes out."""

    step: ReplayStep  # the training step of the first batch
    muted: Callable[[], AbstractContextManager[None]]  # enters what keeps logging and stepping away
    draws: bool = False  # a run of the step in eval mode has drawn random numbers

    @property
    def batch(self) -> Any:
        return self.step.batch

    @property
    def size(self) -> int | None:
        """Samples in the batch, ``None`` if it cannot be told."""
        return batch_size(self.step.batch)

    def reordered(self, order: list[int]) -> Any:
        """Return the batch with other samples in the places of its own, or fewer: all of a sample goes with it.

        Raises:
            NotProbed: The batch cannot be split into samples.
        """
        try:
            return take(self.step.batch, self.size or len(order), order)
        except Exception as error:
            raise NotProbed("the batch cannot be split into samples") from error

    @property
    def names(self) -> dict[int, str]:
        """Dotted path of each module of the model, by ``id``."""
        return {id(part): name for name, part in self.step.module.named_modules()}

    def calls(self, batch: Any) -> list[LossCall]:
        """Return the loss calls of the step on ``batch``, with the random numbers of its first run; in eval mode."""
        listener = StepListener(self.names)
        self.run(batch, listener)
        return listener.calls

    def run(self, batch: Any, mode: AbstractContextManager[Any], backward: Backward = _ignore) -> None:
        """Run the step in eval mode, ``mode`` entered around it, with the random numbers of its first run.

        Args:
            batch: What the step is given.
            mode: What is entered around it.
            backward: Is given the loss in place of its ``backward``.
        """
        module = self.step.module
        self.step.random.restore()
        module.eval()
        try:
            with Silent(), mode:
                self.step.run(batch, backward)
        except Exception as error:
            raise NotProbed(f"the step raised {type(error).__name__} when it was run once more") from error
        if any(part.training for part in module.modules()):
            raise NotProbed("the step puts parts of the model into training mode itself")
        self.draws = self.draws or not self.step.random.is_as(RandomState.capture())

    def said(self, batch: Any, mode: AbstractContextManager[Any] | None = None) -> list[Tensor]:
        """Return what ``forward`` of the user's module returns in the step: matrices with a row a sample."""
        heard: list[Tensor] = []

        def hear(part: nn.Module, args: Any, output: Any) -> None:
            is_plain = isinstance(output, Tensor) and output.is_floating_point() and output.requires_grad
            if is_plain and output.ndim == 2 and len(output) == self.size != output.shape[1]:
                heard.append(output.detach().clone())

        with Hearing([self.step.module], hear):
            self.run(batch, mode or nullcontext())
        return heard

    @contextmanager
    def session(self) -> Iterator[None]:
        """Enter it around all runs: it puts back whatever they change."""
        with self.muted(), isolated(self.step.module):
            yield


def cannot_pass(trainer: Trainer, module: nn.Module) -> str:
    """Return why no extra passes are run, empty if they are."""
    if 0 <= trainer.estimated_stepping_batches < FEWEST_STEPS:  # -1 of a stream whose length nobody knows
        return f"a fit of fewer than {FEWEST_STEPS} steps gets none"
    if trainer.world_size > 1:
        return "the model is trained by several processes"
    if has_compiled_code(module):
        return "a part of the model is compiled, and would be compiled anew"
    return cannot_rerun(trainer) or cannot_probe(module)


def cannot_probe(module: nn.Module) -> str:
    """Return why the step of ``module`` should not be run more often than the Trainer does, empty if it may."""
    if sum(p.numel() for p in module.parameters() if not nn.parameter.is_lazy(p)) > LARGEST:
        return "the model is too large to be kept twice"
    libraries = {_library(type(part)) for part in module.modules()} - OTHERS
    for path, part in module.named_modules():
        if type(part).__module__.startswith(("torch.", "torchmetrics.", "torchvision.")):
            continue
        is_own = part is module and "training_step" not in vars(part)
        reached = names_reached(type(part), "training_step", "forward") if is_own else None
        for name, value in vars(part).items():
            if name.startswith("_") or (reached is not None and name not in reached):
                continue  # such as the tokenizer that a validation decodes with
            if not _is_plain(value, libraries, 3):
                at = f"{path}.{name}" if path else name
                return f"{at} is a {type(value).__name__}, which may change when the step runs once more"
    return cannot_undo(module)


def _is_plain(value: Any, libraries: Set[str], depth: int) -> bool:
    if isinstance(value, PLAIN):
        return True
    if hasattr(value, "__next__"):
        return False
    items: Iterable[Any]
    if isinstance(value, Mapping):
        items = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        items = value
    elif _is_settings(value, libraries):
        items = vars(value).values()
    else:
        return _is_function(value)
    return depth > 0 and all(_is_plain(item, libraries, depth - 1) for item in items)


def _is_function(value: Any) -> bool:
    if isinstance(value, BuiltinFunctionType):  # of a module, and no method of an object
        return value.__self__ is None or isinstance(value.__self__, ModuleType)
    return callable(value) and (hasattr(value, "__code__") or hasattr(value, "__wrapped__") or hasattr(value, "func"))


def _is_settings(value: Any, libraries: Set[str]) -> bool:
    """Tell whether all that an object is lies in its attributes, which are put back, and its methods reach no further.

    So it is with what a library keeps beside its own modules, such as a configuration, and with a class of the
    program's own that has no methods. A client of another library would send what it is told once more.
    """
    kind = type(value)
    if hasattr(value, "__dataclass_fields__") or kind.__name__ in ("Namespace", "SimpleNamespace"):
        return True
    is_python = next(base for base in kind.__mro__ if not base.__flags__ & _MADE_IN_PYTHON) is object
    if not is_python or not hasattr(value, "__dict__") or isinstance(value, Dataset):
        return False
    return _library(kind) in libraries if is_installed(_file(kind)) else not any(map(_has_methods, kind.__mro__[:-1]))


def _has_methods(kind: type) -> bool:
    return any(callable(found) and not name.startswith("__") for name, found in vars(kind).items())


def _file(kind: type) -> str:
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or ""


def _library(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def inputs_of(batch: Any, calls: list[LossCall]) -> list[tuple[str, Tensor]]:
    """Return the tensors of a batch that are no targets of these calls, by path."""
    targets = {call.target.untyped_storage().data_ptr() for call in calls}
    return [
        (path, leaf)
        for path, leaf in leaves(batch)
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided and leaf.ndim
        if leaf.untyped_storage().data_ptr() not in targets
    ]


def changed(batch: Any, parts: Mapping[str, Tensor]) -> Any:
    """Return ``batch`` with some of its tensors replaced, by path; nothing is written to."""
    for path, part in parts.items():
        batch = replaced(batch, path.split("."), part) if path else part
    return batch


def distance(one: Tensor, other: Tensor) -> Tensor:
    """Return how far two predictions ``(N, ...)`` lie apart, sample by sample ``(N,)``, in their own spread."""
    spread = one.float().std(correction=0).clamp_min(1e-12)
    return (one.float() - other.float()).abs().reshape(len(one), -1).amax(1) / spread


def is_by_sample(call: LossCall, size: int) -> bool:
    """Tell whether each row of the prediction is one sample's, and has a target of its own.

    As many classes as samples is a comparison of pairs within the batch, as contrastive losses make it; so are more,
    where targets name places: the first of each row, or its own.
    """
    prediction = call.prediction
    if prediction.ndim == 0 or prediction.shape[0] != size or call.function not in CHECKED_LOSSES:
        return False
    target = call.target
    if target.ndim == 0 or target.shape[0] != size:
        return False
    if call.function not in INDEX_LOSSES or prediction.ndim != 2 or prediction.shape[1] < size:
        return True
    return prediction.shape[1] > size and not (target.ndim == 1 and bool((target.diff() == int(target[-1] > 0)).all()))
