"""Stand on the two ways that every checkpoint goes through a strategy: into a file, and out of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.core.patching import StandIn

See = Callable[[dict[str, Any], Any], None]


class Saving(StandIn):
    """Stands before a strategy's ``save_checkpoint``: ``see`` may put something into the checkpoint.

    Lightning calls no callback for weights-only files: the strategy is the one way that all of them go.
    """

    name = "save_checkpoint"

    def __init__(self, owner: Any, see: See) -> None:
        def saved(checkpoint: dict[str, Any], filepath: Any, *args: Any, **options: Any) -> None:
            see(checkpoint, filepath)
            self.usual(checkpoint, filepath, *args, **options)

        super().__init__(owner, self.name, saved)


class Loading(StandIn):
    """Stands behind a strategy's ``load_checkpoint``: ``see`` is told before Lightning makes use of what was loaded.

    Weights that do not fit end the run before any callback is asked.
    """

    name = "load_checkpoint"

    def __init__(self, owner: Any, see: See) -> None:
        def loaded(checkpoint_path: Any, *args: Any, **options: Any) -> dict[str, Any]:
            checkpoint: dict[str, Any] = self.usual(checkpoint_path, *args, **options)
            see(checkpoint, checkpoint_path)
            return checkpoint

        super().__init__(owner, self.name, loaded)


def install(trainer: Trainer, kind: type[Saving] | type[Loading], see: See) -> None:
    """Let ``see`` meet each checkpoint of ``trainer`` on its way; `remove` it, or leave it to the Trainer's end."""
    remove(trainer, kind)
    kind(trainer.strategy, see).stand()


def remove(trainer: Trainer, kind: type[Saving] | type[Loading]) -> None:
    """Take away what `install` has put there, whatever stands on it since."""
    standing = vars(trainer.strategy).get(kind.name)
    while isinstance(standing, StandIn):
        if isinstance(standing, kind):
            standing.leave()
        standing = standing.below
