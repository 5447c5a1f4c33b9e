"""What the run already does against bias and variance, read off the module, its optimizers and its Trainer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_debugkit.core.compat import (
    EarlyStopping,
    LightningModule,
    Trainer,
    _DropoutNd,
    _NormBase,
    callbacks_of,
)
from lightning_debugkit.core.sharding import parameter_sizes
from lightning_debugkit.data.batches import leaves
from lightning_debugkit.data.drawing import drawing
from lightning_debugkit.data.loaders import loaders_of

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_TRIES = 3


@dataclass(frozen=True)
class TrainingFacts:
    """What is known of a run; ``None`` where it is not."""

    dropout: float = 0.0  # largest probability of dropout
    weight_decay: float = 0.0  # largest weight decay of an optimizer
    norms: int = 0
    augmentation: bool | None = None  # whether a training sample comes out otherwise when it is read again
    early_stopping: bool = False  # whether the run stops early
    parameters: int = 0
    samples: int | None = None
    epochs: int = 0
    frozen: float = 0.0  # share of the parameters that are frozen

    def to_dict(self) -> dict[str, Any]:
        """Return plain types that survive a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> TrainingFacts:
        """Return the facts of a checkpoint; what an older version did not know keeps its default."""
        return cls(**{name: value for name, value in held.items() if name in cls.__dataclass_fields__})


def training_facts_of(trainer: Trainer, module: LightningModule) -> TrainingFacts:
    """Read the facts; call it while the Trainer has its training loader and optimizers."""
    parts = list(module.modules())
    parameters = parameter_sizes(trainer, module)
    trainable = sum(size for p, size in parameters if p.requires_grad)
    total = sum(size for _, size in parameters)
    decays = [float(group.get("weight_decay") or 0.0) for o in trainer.optimizers for group in o.param_groups]
    loaders = loaders_of(trainer.train_dataloader)
    dataset = loaders[0].dataset if len(loaders) == 1 and isinstance(loaders[0], DataLoader) else None
    return TrainingFacts(
        dropout=max((_dropout(part) for part in parts), default=0.0),
        weight_decay=max(decays, default=0.0),
        norms=sum(isinstance(part, _NORMS) or type(part).__name__.endswith("Norm") for part in parts),
        augmentation=is_augmented(dataset),
        early_stopping=bool(callbacks_of(trainer, EarlyStopping)),
        parameters=trainable,
        samples=len(dataset) if dataset is not None and hasattr(dataset, "__len__") else None,
        epochs=trainer.current_epoch + 1,
        frozen=1 - trainable / total if total else 0.0,
    )


def _dropout(part: nn.Module) -> float:
    if isinstance(part, _DropoutNd):
        return float(part.p)
    own = getattr(part, "dropout", None)
    # Recurrent layers, attention and transformers hold the probability as a number.
    return float(own) if isinstance(own, float) and isinstance(part, nn.RNNBase | nn.MultiheadAttention) else 0.0


def is_augmented(dataset: Any) -> bool | None:
    """Tell whether one sample, read several times, comes out differently; ``None`` if it cannot be read so."""
    if dataset is None or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or not len(dataset):
        return None
    try:
        with drawing([dataset]):
            first = _tensors(dataset[0])
            return any(not _alike(first, _tensors(dataset[0])) for _ in range(_TRIES))
    except Exception:  # a data set that takes other keys
        return None


def _tensors(sample: Any) -> list[Tensor]:
    found = []
    for _, leaf in leaves(sample):
        with contextlib.suppress(TypeError, ValueError, RuntimeError):
            found.append(torch.as_tensor(leaf))
    return found


def _alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all()) for a, b in zip(one, other, strict=True)
    )
