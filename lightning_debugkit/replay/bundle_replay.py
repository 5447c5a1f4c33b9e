"""Run the step of a bundle once more, in a process that has nothing but the bundle."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from lightning_debugkit.core.compat import (
    CombinedLoader,
    LightningModule,
    MixedPrecision,
    Trainer,
    counterpart_of,
    progress_of,
)
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.replay import bundle
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances
from lightning_debugkit.replay.nonfinite_rules import finding
from lightning_debugkit.replay.step_raised import explained
from lightning_debugkit.replay.step_replay import replay_step

_COMPARED = ("op", "source", "samples", "backward", "input")


def replay_bundle(folder: Path, trust_code: bool = False) -> tuple[Finding, Finding | None]:
    """Return the finding that a bundle was left for, and that of its step run again (``None``: it did not break).

    Args:
        trust_code: Let the code in it run.

    Raises:
        FileNotFoundError: ``folder`` is no bundle.
        ValueError: The model is not in the bundle, or its code is not trusted.
        NotReplayable: The step raised an error of another kind.
    """
    kept = bundle.load(folder, trust_code)
    with bundle.importing(folder):  # a step may import as late as it runs
        return kept.finding, _again(kept)


def _again(kept: bundle.Bundle) -> Finding | None:
    module = cast("LightningModule", kept.module)
    batch_idx = int(kept.facts["batch_idx"])
    trainer = _trainer(kept.facts, module)
    before = kept.finding.evidence
    raised = str(before.get("exception", "")).partition(":")[0]
    asked = [(tuple(way), samples) for way, samples in kept.facts.get("asked", ())]
    found = replay_step(trainer, module, kept.batch, batch_idx, kept.random, asked, Exception if raised else None)
    if found is None:
        return None
    is_low = str(kept.facts["precision"]).startswith("16")
    when = Circumstances(batch_idx, before.get("dataset_indices", []), low_precision=is_low)
    if raised:
        return explained(kept.finding.where, found, when, error=raised)
    seen = kept.finding.message.partition(" at step ")[0]
    return finding(kept.finding.where, found, when, seen=seen, loss=found.loss, parameters=found.parameters)


def same(kept: Finding, again: Finding | None) -> bool:
    """Tell whether the step broke in the same place, in the same way, by the same samples."""
    if again is None or (kept.rule, kept.where) != (again.rule, again.where):
        return False
    return all(kept.evidence.get(name) == again.evidence.get(name) for name in _COMPARED)


def _trainer(facts: Mapping[str, Any], module: LightningModule) -> Trainer:
    """Return a Trainer that is just enough for the step: precision, epoch and step, lengths, optimizers."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    precision = facts["precision"]
    how: dict[str, Any] = {"precision": precision}
    if precision == "16-mixed":  # Lightning would take bfloat16 on a CPU
        how = {"plugins": [counterpart_of(MixedPrecision, module)("16-mixed", "cpu")]}
    trainer = counterpart_of(Trainer, module)(
        accelerator="cpu",
        devices=1,
        max_epochs=facts["max_epochs"],
        max_steps=facts.get("max_steps", -1),
        accumulate_grad_batches=facts["accumulate_grad_batches"],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **how,
    )
    module.trainer = trainer
    trainer.strategy.connect(module)
    trainer.fit_loop.epoch_progress.current.processed = facts["epoch"]  # type: ignore[attr-defined]  # typed as its base
    for name, progress in progress_of(trainer).items():
        if name in facts.get("progress", ()):  # older bundles have none
            progress.load_state_dict(facts["progress"][name])
    if batches := facts.get("batches"):
        # Asked for the number of steps, Lightning would look for the loaders of a fit.
        trainer.fit_loop._combined_loader, trainer.fit_loop.max_batches = CombinedLoader([]), batches
    with contextlib.suppress(Exception):  # optimizers that need a loader to be set up: the step may do without
        trainer.strategy.setup_optimizers(trainer)
    return trainer
