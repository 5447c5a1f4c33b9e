"""The names of Lightning that files other than callbacks need when they run, its two packages, and private names.

What the kit knows of ``lightning.pytorch`` holds for ``pytorch_lightning``, too: both hold the same code, but each
has classes of its own: an ``isinstance`` of one is blind to the other.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO as CheckpointIO
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO as TorchCheckpointIO
from lightning.fabric.utilities.apply_func import move_data_to_device as move_data_to_device
from lightning.pytorch import LightningDataModule as LightningDataModule
from lightning.pytorch import LightningModule as LightningModule
from lightning.pytorch import Trainer as Trainer
from lightning.pytorch.callbacks import BackboneFinetuning as BackboneFinetuning
from lightning.pytorch.callbacks import BaseFinetuning as BaseFinetuning
from lightning.pytorch.callbacks import Callback as Callback
from lightning.pytorch.callbacks import EarlyStopping as EarlyStopping
from lightning.pytorch.callbacks import ModelCheckpoint as ModelCheckpoint
from lightning.pytorch.callbacks import ModelPruning as ModelPruning
from lightning.pytorch.callbacks import StochasticWeightAveraging as StochasticWeightAveraging
from lightning.pytorch.core.optimizer import LightningOptimizer as LightningOptimizer
from lightning.pytorch.loggers.logger import DummyLogger as DummyLogger
from lightning.pytorch.loops.fetchers import _DataLoaderIterDataFetcher as _DataLoaderIterDataFetcher
from lightning.pytorch.plugins import MixedPrecision as MixedPrecision
from lightning.pytorch.plugins.io import AsyncCheckpointIO as AsyncCheckpointIO
from lightning.pytorch.strategies import DDPStrategy as DDPStrategy
from lightning.pytorch.strategies import DeepSpeedStrategy as DeepSpeedStrategy
from lightning.pytorch.strategies import FSDPStrategy as FSDPStrategy
from lightning.pytorch.strategies import ModelParallelStrategy as ModelParallelStrategy
from lightning.pytorch.strategies import SingleDeviceStrategy as SingleDeviceStrategy
from lightning.pytorch.strategies import Strategy as Strategy
from lightning.pytorch.trainer.states import TrainerFn as TrainerFn
from lightning.pytorch.utilities.combined_loader import CombinedLoader as CombinedLoader
from lightning.pytorch.utilities.data import extract_batch_size as extract_batch_size
from lightning.pytorch.utilities.exceptions import SIGTERMException as SIGTERMException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature as is_param_in_hook_signature
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as _BatchNorm
from torch.nn.modules.batchnorm import _NormBase as _NormBase
from torch.nn.modules.dropout import _DropoutNd as _DropoutNd
from torch.optim import Optimizer
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._python_dispatch import _get_current_dispatch_mode as _get_current_dispatch_mode
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torchmetrics import Metric as Metric

DisableTorchFunction = torch._C.DisableTorchFunction
OpOverload = torch._ops.OpOverload
current_autograd_node = torch._C._current_autograd_node
has_no_memory = torch._is_zerotensor  # a gradient of 0 in forward mode: reading its numbers crashes the process
next_sequence_number = torch._C._autograd._get_sequence_nr  # of the autograd nodes of this thread
is_functorch_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_dispatch_modes = torch._C._len_torch_dispatch_stack  # how many are on
_function_modes = torch._C._len_torch_function_stack

# `_DataLoaderIterDataFetcher`, `extract_batch_size` and `is_param_in_hook_signature`, which are not documented, and the
# attributes below were seen in Lightning 2.5 to 2.6, torch 2.6 to 2.13 and torchmetrics 1.6 to 1.8.

BUILDER = "_instantiator"  # of saved hyper-parameters: what LightningCLI makes the model by
# What a module refers to beyond itself: put back by other means, or never to be touched.
MODULE_OWNERS = frozenset({"_trainer", "_fabric", "_fabric_optimizers"})
WRAPPERS = frozenset({"_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
RUN_STAGE = "_run_stage"  # what a Trainer does between the setup and the teardown of callbacks

T = TypeVar("T")
P = ParamSpec("P")
_NOTHING = contextlib.nullcontext()
_OTHER = {"lightning.pytorch": "pytorch_lightning", "lightning.fabric": "lightning_fabric"}
_OTHERS = frozenset(_OTHER.values())


def both_packages(*kinds: type[T]) -> tuple[type[T], ...]:
    """Return ``kinds``, with the classes of the same names in the other package where that is in use.

    >>> from lightning.pytorch.strategies import DDPStrategy
    >>> isinstance(DDPStrategy(), both_packages(DDPStrategy))
    True
    """
    if sys.modules.keys().isdisjoint(_OTHERS):
        return kinds
    return (*kinds, *(other for other in map(_other, kinds) if other is not None))


def counterpart_of(kind: type[T], thing: Any) -> type[T]:
    """Return ``kind`` of the package that the class of ``thing`` comes from."""
    return (_other(kind) or kind) if is_of_other(thing) else kind


def is_of_other(thing: Any) -> bool:
    """Tell whether the class of ``thing``, or one that it is made from, is of ``pytorch_lightning``."""
    return any(base.__module__.partition(".")[0] in _OTHERS for base in type(thing).__mro__)


def belong_to_both(kind: type, parent: type) -> None:
    """Let ``kind``, which is made from ``parent``, be of the other package's class too, where that is in use.

    ``pytorch_lightning`` of 2.5 builds no Trainer with a callback that is no instance of its own class. Instances that
    are there already belong to both from then on.
    """
    other: type | None = _other(parent)
    if other is not None and other not in kind.__mro__:
        kind.__bases__ = (*kind.__bases__, other)


def callbacks_of(trainer: Trainer, *kinds: type[Any]) -> list[Any]:
    """Return the callbacks of a Trainer, the list itself; or those of some ``kinds``, of whichever package they are."""
    held: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    return [each for each in held if isinstance(each, both_packages(*kinds))] if kinds else held


def overrides(
    thing: LightningModule | LightningDataModule | Callback, name: str, kind: type[Any] = LightningModule
) -> bool:
    """Tell whether a module, or a thing of another ``kind``, has a method ``name`` in place of Lightning's."""
    return bool(is_overridden(name, thing, counterpart_of(kind, thing)))


def scale_of(scaler: Any) -> Tensor | float:
    """Return the loss scale of a ``GradScaler`` where it lies: asked by its public name, it is copied to the host.

    ``_scale`` was seen in torch 2.6 to 2.13.
    """
    held = getattr(scaler, "_scale", None)
    return held if isinstance(held, Tensor) else float(scaler.get_scale())


def is_unscaled(scaler: Any, optimizer: Optimizer) -> bool:
    """Tell whether a ``GradScaler`` has taken the scale out of the optimizer's gradients for the step to come.

    ``_per_optimizer_states`` was seen in torch 2.6 to 2.13.
    """
    states = getattr(scaler, "_per_optimizer_states", {})
    stage = states[id(optimizer)]["stage"] if id(optimizer) in states else None
    return getattr(stage, "name", "READY") != "READY"


def is_sigterm(error: BaseException) -> bool:
    """Tell whether Lightning raised ``error`` because the process was told to end (SIGTERM)."""
    return isinstance(error, both_packages(SIGTERMException))


def is_trial(trainer: Trainer) -> bool:
    """Tell whether the fit is a trial of a few batches, which leaves no files and teaches nothing."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set by a connector


def datamodule_of(trainer: Trainer) -> Any:
    """Return the data module, ``None`` if there is none; Lightning sets it without a type."""
    return getattr(trainer, "datamodule", None)


def is_search(trainer: Trainer) -> bool:
    """Tell whether what is loaded was saved by a search for rate or batch size, which is no resume."""
    return Path(str(trainer.ckpt_path)).name.startswith((".lr_find_", ".scale_batch_size_"))


def is_launched(trainer: Trainer) -> bool:
    """Tell whether the fit runs in a process that Lightning started for it alone."""
    return hasattr(trainer.strategy.launcher, "_start_method")


def in_training_step(trainer: Trainer) -> set[str]:
    """Return the metrics that are of one batch, logged in ``training_step`` and in no validation."""
    loop: Any = trainer.fit_loop.epoch_loop
    try:
        training, validation = ([item.meta for item in part._results.values()] for part in (loop, loop.val_loop))
    except AttributeError:  # a Lightning that keeps them elsewhere: nothing is said then
        return set()
    # The mean of an epoch is of no weights at all: its last batches are the nearest there is.
    of_steps = [meta for meta in training if meta.fx == "training_step" and meta.on_step]
    names = {f"{meta.name}_step" if meta.on_epoch else meta.name for meta in of_steps}
    return names - {meta.name for meta in validation}


def evaluation_arguments(trainer: Trainer, hook: str, place: Sequence[int]) -> tuple[Any, ...]:
    """Return what Lightning calls a step of validation or test with, after the batch, whatever its arguments are named.

    Args:
        place: Position of the batch, and of its loader.
    """
    loop: Any = trainer._active_loop
    several = loop._is_sequential and loop.num_dataloaders > 1
    given = loop._build_kwargs(None, place[0], place[1] if several else None)
    return tuple(loop._build_step_args_from_hook_kwargs(given, hook)[1:])


def skips_backward(trainer: Trainer) -> bool:
    """Tell whether Lightning calls no backward: `StochasticWeightAveraging` reads an epoch for batch norm alone."""
    return bool(getattr(trainer.fit_loop, "_skip_backward", False))


def steps_on_iterator(trainer: Trainer) -> bool:
    """Tell whether ``training_step`` takes ``dataloader_iter``, so that the end of the data is met within it."""
    return isinstance(trainer.fit_loop._data_fetcher, both_packages(_DataLoaderIterDataFetcher))


def is_in_counted_step(trainer: Trainer) -> bool:
    """Tell, under manual optimization, whether a step runs that Lightning counts: one of its own class's."""
    steps = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    return bool(steps.ready > steps.completed)


def progress_of(trainer: Trainer) -> dict[str, Any]:
    """Return the counts of a fit that the Trainer's epoch and step are read from."""
    fit, loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    return {
        "epoch": fit.epoch_progress,
        "batch": loop.batch_progress,
        "automatic": loop.automatic_optimization.optim_progress,
        "manual": loop.manual_optimization.optim_step_progress,
    }


def toggled_parameters(module: LightningModule) -> dict[Tensor, bool]:
    """Return the parameters whose flags ``toggle_optimizer`` has set aside, with the flags they had."""
    return getattr(module, "_param_requires_grad_state", None) or {}


def trainer_of(module: LightningModule) -> Trainer | None:
    """Return the Trainer that ``module`` belongs to at the moment."""
    return module._trainer


def hparams_name(module: LightningModule) -> str | None:
    """Return the argument that the module's hyper-parameters were all given by, if there is one."""
    return getattr(module, "_hparams_name", None)


def before_transfer(module: LightningModule, batch: Any) -> Any:
    """Return ``batch`` after the module's hook of that name."""
    return module._on_before_batch_transfer(batch, dataloader_idx=0)


def is_fit(trainer: Trainer) -> bool:
    """Tell whether the Trainer was asked for a fit; stages compare by code of their own, which takes long."""
    return trainer.state.fn is TrainerFn.FITTING or stage_of(trainer) == "fit"


def stage_of(trainer: Trainer) -> str:
    """Return what the Trainer was asked for: ``fit``, ``validate``, ``test`` or ``predict``."""
    return "" if trainer.state.fn is None else trainer.state.fn.value


def is_compiled(module: nn.Module) -> bool:
    """Tell whether ``module`` was compiled, by `torch.compile` or by its method ``compile``."""
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def is_compiled_as_a_whole(module: LightningModule) -> bool:
    """Tell whether Lightning was given the module by `torch.compile`: its steps are compiled, too."""
    return getattr(module, "_compiler_ctx", None) is not None


def is_compiled_function(function: Any) -> bool:
    """Tell whether ``function`` was made by `torch.compile`."""
    return hasattr(function, "_torchdynamo_orig_callable")


def is_transformed() -> bool:
    """Tell whether a transform of `torch.func` is at work: what it makes must not be kept until it is left."""
    return torch._C._functorch.peek_interpreter_stack() is not None


@contextlib.contextmanager
def modes_aside() -> Iterator[None]:
    """Let modes of torch that are on, such as a counter of operations, see nothing of what is asked inside."""
    held = [torch._C._pop_torch_function_stack() for _ in range(_function_modes())]
    # The default device is one, too: what is made, also by a step that is run again, is to be made there.
    devices = [mode for mode in reversed(held) if isinstance(mode, DeviceContext)]
    try:
        for mode in devices:
            torch._C._push_on_torch_function_stack(mode)
        with _disable_current_modes() if _dispatch_modes() else _NOTHING:
            yield
    finally:
        for _ in devices:
            torch._C._pop_torch_function_stack()
        for mode in reversed(held):
            torch._C._push_on_torch_function_stack(mode)


def unseen(call: Callable[P, T]) -> Callable[P, T]:
    """Let modes of the user's not see what ``call``, which is made within a call of the user's, asks of torch."""

    @functools.wraps(call)
    def unseen(*args: P.args, **kwargs: P.kwargs) -> T:
        if not (_dispatch_modes() or _function_modes()):
            return call(*args, **kwargs)
        with modes_aside():
            return call(*args, **kwargs)

    return unseen


def default_store() -> Any:
    """Return the store by which the processes of a job find each other."""
    return torch.distributed.distributed_c10d._get_default_store()


def divides_by_scale(optimizer: Optimizer) -> bool:
    """Tell whether a fused optimizer divides gradients by the loss scale in its own step."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def flat_parameters(wrapped: nn.Module) -> Iterator[tuple[Tensor, Any]]:
    """Yield each parameter that an FSDP module has made one flat one of, and its whole shape."""
    held = getattr(getattr(wrapped, "_handle", None), "flat_param", None)
    yield from zip(getattr(held, "_params", None) or (), getattr(held, "_shapes", ()), strict=False)


def is_flattened(parameter: Tensor) -> bool:
    """Tell whether ``parameter`` is a part of an FSDP module's flat one."""
    return bool(getattr(parameter, "_fsdp_flattened", False))


def reductions(metric: Metric) -> list[Any]:
    """Return how each state of a metric is brought together over ranks."""
    return list(metric._reductions.values())


def computed_value(metric: Metric) -> Any:
    """Return what a metric has computed of all that it has counted, ``None`` if nothing since its last update."""
    return metric._computed


def forget_computed(metric: Metric) -> None:
    """Let a metric compute anew."""
    metric._computed = None


def _other(kind: type[T]) -> type[T] | None:
    package = ".".join(kind.__module__.split(".")[:2])
    # Never imported from here: where nobody has, nothing is of it.
    there = sys.modules.get(kind.__module__.replace(package, _OTHER.get(package, package), 1))
    found = getattr(there, kind.__name__, None)
    return found if isinstance(found, type) and found is not kind else None
