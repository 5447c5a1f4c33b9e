"""Stochastic weight averaging in an epoch that a run resumes within.

`StochasticWeightAveraging` puts its schedule in place in ``on_train_epoch_start``, which Lightning does not call again
there: the rate would miss its step at the end of that epoch, and the schedule of the program go on instead.
"""

from __future__ import annotations

from lightning_debugkit.core.compat import LightningModule, StochasticWeightAveraging, Trainer, callbacks_of


def begin(trainer: Trainer, module: LightningModule) -> None:
    """Let the averaging that has begun go on in the epoch that is resumed; it knows that it has counted this one."""
    if not trainer.fit_loop.restarted_mid_epoch:
        return
    for callback in callbacks_of(trainer, StochasticWeightAveraging):
        if callback.swa_start <= trainer.current_epoch <= callback.swa_end:
            groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
            rates = [group["lr"] for group in groups]
            callback.on_train_epoch_start(trainer, module)
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate  # its new scheduler sets one, as at the start of an epoch
