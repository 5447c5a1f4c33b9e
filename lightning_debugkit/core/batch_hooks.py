"""Hooks of batches with nothing to do are left out of a Trainer's calls, each of which costs more than most hooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lightning_debugkit.core.compat import Callback

NAMES = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
    *(f"on_{stage}_batch_{moment}" for stage in ("validation", "test", "predict") for moment in ("start", "end")),
)


def unused(kind: type[Callback]) -> Iterator[str]:
    """Yield the hooks that a class of callbacks does not have of its own."""
    return (name for name in NAMES if getattr(kind, name) is getattr(Callback, name))


def rest(callback: Callback, hooks: Iterable[str]) -> None:
    """Let a Trainer pass over ``hooks``, as it does over what is not callable (seen in Lightning 2.5 to 2.6).

    What somebody else has put in the place of a hook stays.
    """
    for name in hooks:
        vars(callback).setdefault(name, None)


def wake(callback: Callback, hooks: Iterable[str]) -> None:
    """Let a Trainer call ``hooks`` again."""
    for name in hooks:
        if vars(callback).get(name, callback) is None:
            delattr(callback, name)
