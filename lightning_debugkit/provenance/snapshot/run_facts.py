"""What a Trainer and its module tell of a run: the command line, the configuration, the hyper-parameters."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lightning_debugkit.core.compat import LightningModule, Trainer, callbacks_of, datamodule_of, hparams_name
from lightning_debugkit.core.journal import strict
from lightning_debugkit.core.secrets import is_secret_name
from lightning_debugkit.provenance.capture.environment import without_secrets

_LONGEST = 500  # characters of a value: hyper-parameters may hold whole tables
_MOST, _SHORT = 100, 100  # hyper-parameters that a journal takes, and characters of one
_DEEPEST = 12  # of one that holds itself there is no end


def run_facts(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what was asked of the run, as plain types, without secrets; what cannot be told says why."""
    data = datamodule_of(trainer)
    asked: dict[str, Callable[[], Any]] = {
        "config": lambda: _config(trainer),
        "hyper_parameters": lambda: _plain(dict(module.hparams)) if module.hparams else {},
        "data": lambda: type(data).__name__ if data is not None else None,
        "seed": _seed,
        "world_size": lambda: trainer.world_size,
        "strategy": lambda: type(trainer.strategy).__name__,
        "precision": lambda: str(trainer.precision),
    }
    return {name: _told(tell) for name, tell in asked.items()}


def flat_hyper_parameters(held: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first hyper-parameters as short plain values without secrets, nested ones by dotted names.

    >>> flat_hyper_parameters({"net": {"drop": 0.1, "width": [8, 8]}, "api_key": "abc"})
    {'net.drop': 0.1, 'net.width': [8, 8], 'api_key': '***'}
    """
    found = {}
    for name, value in islice(_leaves(held, "", _DEEPEST), _MOST):
        told = without_secrets({name: _told(partial(_short, value, 2))})[name]
        is_long = isinstance(told, str | list | Mapping) and len(str(told)) > _SHORT
        found[name] = f"{str(told)[: _SHORT - 1]}…" if is_long else told
    return found


def _leaves(held: Mapping[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key in held:
        value = _told(partial(held.__getitem__, key))
        if isinstance(value, Mapping) and value and depth and not is_secret_name(str(key)):
            yield from _leaves(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}", value


def arguments_not_kept(module: LightningModule) -> dict[str, Any]:
    """Return the arguments of the module's class that its hyper-parameters, which checkpoints hold, do not have.

    Each with its default, ``inspect.Parameter.empty`` if it has none.
    """
    parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    named = {each.name: each.default for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    kept = set(module.hparams) | {hparams_name(module)}
    return {name: default for name, default in named.items() if name not in kept}


def _seed() -> int | None:
    seed = os.environ.get("PL_GLOBAL_SEED", "")
    return int(seed) if seed.isdigit() else None


def _told(tell: Callable[[], Any]) -> Any:
    try:
        return tell()
    except Exception as error:  # the user's own objects are asked
        return f"cannot be told: {type(error).__name__}"


def _config(trainer: Trainer) -> Any:
    """Return the configuration of LightningCLI, which its own callback holds, ``None`` without one."""
    for callback in callbacks_of(trainer):
        config = getattr(callback, "config", None)
        if hasattr(callback, "parser") and config is not None and hasattr(config, "as_dict"):
            return _plain(config.as_dict())
    return None


def _plain(value: Any) -> Any:
    return without_secrets(_short(value, _DEEPEST))


def _short(value: Any, depth: int) -> Any:
    """Return ``value`` as plain types; what cannot be written is told by its type."""
    if isinstance(value, Mapping | list | tuple) and not depth:
        return "..."
    if isinstance(value, Mapping):
        # A value that a configuration demands and lacks raises when it is asked for.
        return {str(key): _told(partial(_entry, value, key, depth - 1)) for key in value}
    if isinstance(value, list | tuple):
        return [_short(item, depth - 1) for item in value[:100]]
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"tensor of {list(value.shape)}"
    if value is None or isinstance(value, bool | int | float | str):
        return strict(value[:_LONGEST] if isinstance(value, str) else value)
    return str(value)[:_LONGEST] if isinstance(value, Path | torch.dtype | torch.device) else _named(value)


def _entry(value: Mapping[Any, Any], key: Any, depth: int) -> Any:
    return _short(value[key], depth)


def _named(value: Any) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    try:
        text = repr(value)
    except Exception:
        return name
    return text if len(text) <= _LONGEST and " at 0x" not in text else name
