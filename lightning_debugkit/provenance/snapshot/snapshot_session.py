"""What a fit in progress holds of its snapshot: what goes into the next checkpoint, and what has drifted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.journal import strict
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.data.loaders import class_mapping
from lightning_debugkit.provenance.capture.capture import Capture
from lightning_debugkit.provenance.capture.drift import DriftWatch
from lightning_debugkit.provenance.capture.project_modules import main_file, project_modules
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.comparison import CodeComparison
from lightning_debugkit.provenance.diff.disk_comparison import compare_with_disk, imported, places_of


class SnapshotSession:
    """The snapshot of the fit in progress."""

    def __init__(self, taken: Capture) -> None:
        self.taken = taken
        self.source = taken.source
        self.has_ended = False
        self._places = places_of(taken.manifest, taken.root)
        hashes = {str(file["path"]): str(file["sha256"]) for file in taken.manifest.files}
        self._watch = DriftWatch({place: hashes[path] for path, place in self._places.items()})
        self._imported = {module.name for module in project_modules(taken.root, main_file())}

    def manifest_for(self, trainer: Trainer) -> Manifest:
        """Return the manifest with the facts of the checkpoint that is being written."""
        facts = {"epoch": trainer.current_epoch, "step": steps_taken(trainer), "metrics": metrics_of(trainer)}
        facts |= {"class_mapping": kept} if (kept := class_mapping(trainer)) else {}
        return self.taken.manifest.with_checkpoint({**facts, "drifted": self._drifted()})

    def drift(self) -> tuple[list[str], list[str]]:
        """Return which files differ from what was captured, and which of them were imported since."""
        changed = self._drifted()
        if not changed:  # then no look at all that is imported is needed
            return [], []
        now = project_modules(self.taken.root, main_file())
        late = {module.path for module in now if module.name not in self._imported}
        return changed, [path for path in changed if self._places[path] in late]

    def _drifted(self) -> list[str]:
        gone = set(self._watch.look())
        return [path for path, place in self._places.items() if place in gone]


def metrics_of(trainer: Trainer) -> dict[str, Any]:
    """Return what has been logged for callbacks, as plain numbers."""
    return {name: strict(float(value)) for name, value in trainer.callback_metrics.items()}


def compared_with_now(manifest: Manifest, source: bytes | None, session: SnapshotSession | None) -> CodeComparison:
    """Compare the code of a checkpoint with what is on disk now."""
    root = session.taken.root if session is not None else Path(str(manifest["source"].get("root", "")))
    return compare_with_disk(manifest, source, imported(manifest, root))
