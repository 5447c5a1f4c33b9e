"""What a checkpoint lacks of a run that prunes with Lightning's `ModelPruning`.

It saves pruned weights as zeros, without their masks, and goes back to the weights that it copied when it was set up
(the lottery ticket hypothesis, by default): in a resumed run those are of a model that was made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.nn.utils.prune import is_pruned

from lightning_debugkit.checkpointing.resume.fingerprints import fingerprint
from lightning_debugkit.checkpointing.resume.inexact_causes import ORIGINALS, PRUNED, InexactCause
from lightning_debugkit.core.compat import LightningModule, ModelPruning, Trainer, callbacks_of

# Lightning 2.5.0 writes them where the next forward pass overwrites them: there a resume is exact.
GOES_BACK = "_orig" in ModelPruning._copy_param.__code__.co_consts


def state(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what tells whether a resume from here is exact, nothing if the run does not prune."""
    pruning = callbacks_of(trainer, ModelPruning)
    if not pruning:
        return {}
    copies = [held["data"].state_dict() for each in pruning for held in (each._original_layers or {}).values()]
    return {"pruned": is_pruned(module), "originals": fingerprint(copies)}


def causes(saved: dict[str, Any], now: dict[str, Any]) -> Iterator[InexactCause]:
    """Yield why pruning goes on otherwise, by the `state` of then and of now."""
    if saved.get("pruned") and now:
        yield PRUNED
    if GOES_BACK and saved and now and saved["originals"] != now["originals"]:
        yield ORIGINALS
