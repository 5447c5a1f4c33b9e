"""Write programs of the forward beside the best and the last checkpoint of a fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_debugkit.core.run import current_run
from lightning_debugkit.provenance.snapshot.export_program import CannotExport, Example, export, program_weights, refuse
from lightning_debugkit.provenance.snapshot.run_end_commit import best_and_last
from lightning_debugkit.replay.step_replay import muted

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

_log = logging.getLogger("lightning_debugkit")


def write_programs(trainer: Trainer, module: LightningModule, example: Example) -> Iterator[dict[str, Any]]:
    """Export the forward with the weights of each file; yield what the journal keeps of it: files, or the reason."""
    checkpoints = [Path(path) for path in best_and_last(trainer)]
    try:
        refuse(trainer)
        files = [(path.with_suffix(".pt2"), program_weights(path)) for path in checkpoints]
        run = current_run(trainer)
        if not files and run is not None:
            files = [(run.folder / "code" / "model.pt2", None)]
        with muted(trainer, module):
            fixed = export(module, example, files)
    except CannotExport as error:
        _log.warning(f"CodeSnapshot(export=True) leaves no program: {error}")
        yield {"path": None, "reason": str(error)}
        return
    for path, _ in files:
        yield {"path": str(path), "bytes": path.stat().st_size, "fixed": fixed}
