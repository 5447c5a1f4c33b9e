"""Stand on the two ways that every checkpoint goes through a strategy: into a file, and out of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_debugkit.core.patching import StandIn

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

See = Callable[[dict[str, Any], Any], None]


class Saving(StandIn):
    """Stands before a strategy's ``save_checkpoint``: ``see`` may put something into the checkpoint.

    Lightning calls no callback for weights-only files: the strategy is the one way that all of them go.
    """

    name = "save_checkpoint"

    def __init__(self, owner: Any, see: See) -> None:
        super().__init__(owner, self.name, self._saved)
        self.usual = getattr(owner, self.name)
        self.see = see

    def _saved(self, checkpoint: dict[str, Any], filepath: Any, *args: Any, **options: Any) -> None:
        self.see(checkpoint, filepath)
        self.usual(checkpoint, filepath, *args, **options)


class Loading(StandIn):
    """Stands behind a strategy's ``load_checkpoint``: ``see`` is told before Lightning makes use of what was loaded.

    Weights that do not fit end the run before any callback is asked.
    """

    name = "load_checkpoint"

    def __init__(self, owner: Any, see: See) -> None:
        super().__init__(owner, self.name, self._loaded)
        self.usual = getattr(owner, self.name)
        self.see = see

    def _loaded(self, checkpoint_path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        checkpoint: dict[str, Any] = self.usual(checkpoint_path, *args, **options)
        self.see(checkpoint, checkpoint_path)
        return checkpoint


def install(trainer: Trainer, kind: type[Saving] | type[Loading], see: See) -> None:
    """Let ``see`` meet each checkpoint of ``trainer`` on its way; `remove` it, or leave it to the Trainer's end."""
    remove(trainer, kind)
    strategy = trainer.strategy
    strategy.__dict__[kind.name] = kind(strategy, see)


def remove(trainer: Trainer, kind: type[Saving] | type[Loading]) -> None:
    """Take away what `install` has put there."""
    own = trainer.strategy.__dict__
    standing = own.get(kind.name)
    if not isinstance(standing, kind):
        return
    if getattr(standing.usual, "__self__", None) is trainer.strategy:
        del own[kind.name]
    else:
        own[kind.name] = standing.usual  # someone else's, put there before us
