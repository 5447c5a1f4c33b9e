"""What a Trainer and its module tell of a run: the command line, the configuration, the hyper-parameters."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_debugkit.journal import strict
from lightning_debugkit.provenance.environment import without_secrets

_LONGEST = 500  # characters of a value: hyper-parameters may hold whole tables


def run_facts(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what was asked of the run, as plain types, without secrets."""
    seed = os.environ.get("PL_GLOBAL_SEED", "")
    data = getattr(trainer, "datamodule", None)
    return {
        "config": _config(trainer),
        "hyper_parameters": _plain(dict(module.hparams)) if module.hparams else {},
        "data": type(data).__name__ if data is not None else None,
        "seed": int(seed) if seed.isdigit() else None,
        "world_size": trainer.world_size,
        "strategy": type(trainer.strategy).__name__,
        "precision": str(trainer.precision),
    }


def arguments_not_kept(module: LightningModule) -> list[str]:
    """Return the arguments of the module's class that its hyper-parameters, which checkpoints hold, do not have."""
    parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    named = [each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    kept = set(module.hparams) | {getattr(module, "_hparams_name", None)}
    return [name for name in named if name not in kept]


def _config(trainer: Trainer) -> Any:
    """Return the configuration of LightningCLI, which its own callback holds, ``None`` without one."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        config = getattr(callback, "config", None)
        if hasattr(callback, "parser") and config is not None and hasattr(config, "as_dict"):
            return _plain(config.as_dict())
    return None


def _plain(value: Any) -> Any:
    return without_secrets(_short(value))


def _short(value: Any) -> Any:
    """Return ``value`` as plain types; what cannot be written is told by its type."""
    if isinstance(value, Mapping):
        return {str(key): _short(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_short(item) for item in value[:100]]
    if isinstance(value, torch.Tensor) and value.ndim:
        return f"tensor of {list(value.shape)}"
    if value is None or isinstance(value, bool | int | float | str):
        return strict(value[:_LONGEST] if isinstance(value, str) else value)
    return str(value)[:_LONGEST] if isinstance(value, Path | torch.dtype | torch.device) else _named(value)


def _named(value: Any) -> str:
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    text = repr(value)
    kind = type(value)
    return text if len(text) <= _LONGEST and " at 0x" not in text else f"{kind.__module__}.{kind.__qualname__}"
