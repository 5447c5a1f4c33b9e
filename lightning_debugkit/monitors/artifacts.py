"""What a broken step leaves in the run folder: its offending samples to look at, and a bundle to run again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer, datamodule_of, progress_of
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.secrets import secret_name, secret_text, secret_values
from lightning_debugkit.core.tensor_numbers import numbers
from lightning_debugkit.data.batches import batch_size, entry, leaves, take
from lightning_debugkit.monitors.step_stats import ObservedBatch
from lightning_debugkit.replay import bundle

_MOST = 8  # samples drawn in a report


def save_samples(
    folder: Path, seen: ObservedBatch, finding: Finding, *, epoch: int, step: int
) -> Iterator[dict[str, Any]]:
    """Write the offending samples as arrays and yield the artifact that names them."""
    samples, indices = finding.evidence.get("samples", []), finding.evidence.get("dataset_indices", [])
    way, known = next((one for one in seen.asked if ".".join(one[0]) == finding.evidence.get("part", "")), ((), None))
    own = entry(seen.batch, way)
    size = batch_size(own, known)
    if not samples or size is None:
        return
    shown = list(samples[:_MOST])
    arrays: dict[str, Any] = {}
    for path, leaf in leaves(take(own, size, shown)):
        plain = numbers(leaf) if isinstance(leaf, Tensor) and not leaf.is_nested and leaf.ndim else None
        if plain is not None and plain.ndim and plain.shape[0] == len(shown):
            plain = plain.detach().cpu()
            arrays[_name(path)] = plain.float().numpy() if plain.is_floating_point() else plain.numpy()
    if arrays:
        (folder / "samples").mkdir(exist_ok=True)
        file = folder / "samples" / f"step-{step}.npz"
        np.savez_compressed(file, **arrays)
        yield {
            "name": "samples",
            "path": f"samples/{file.name}",
            "epoch": epoch,
            "step": step,
            "samples": shown,
            "dataset_indices": list(indices[:_MOST]),
        }


def _name(path: str) -> str:
    """Return what the array of a place in the batch is called: attributes as entries."""
    return ".".join(filter(None, path.split("."))) or "batch"


def save_bundle(
    folder: Path, trainer: Trainer, module: LightningModule, seen: ObservedBatch, finding: Finding, max_bytes: int
) -> dict[str, Any]:
    """Write what is needed to run the step again in a new process; return the artifact."""
    assert seen.random is not None
    path = folder / "bundles" / f"step-{finding.where.step}-rank-{finding.where.rank}"
    plugin = trainer.precision_plugin
    facts = {
        "batch_idx": seen.batch_idx,
        "asked": [[list(way), samples] for way, samples in seen.asked],
        "precision": str(trainer.precision),
        "device": str(getattr(plugin, "device", "cpu")),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "batches": trainer.num_training_batches if math.isfinite(trainer.num_training_batches) else None,
        "epoch": trainer.current_epoch,
        "progress": {name: progress.state_dict() for name, progress in progress_of(trainer).items()},
    }
    holders = (module, datamodule_of(trainer))
    values = secret_values(*[dict(held) for each in holders if (held := getattr(each, "hparams", None))])

    def secret(name: str, data: bytes) -> str | None:
        known = next((f"holds the value of {each}" for value, each in values.items() if value.encode() in data), None)
        return secret_name(name) or secret_text(data, is_pickled=name.endswith((".pkl", ".pt"))) or known

    note = bundle.save(path, module, seen.batch, seen.random, finding, facts, max_bytes=max_bytes, secret=secret)
    return {"name": "bundle", "path": str(path.relative_to(folder)), "note": note}
