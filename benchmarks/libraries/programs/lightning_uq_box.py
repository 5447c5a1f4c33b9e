"""lightning-uq-box: uncertainty of predictions, on its toy regression with noise that varies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "lightning-uq-box",
    ("lightning-uq-box==0.2.0", "torchvision==0.28.0"),
    ("benchmarks.libraries.torchvision_operators", "lightning_uq_box.uq_methods", "lightning_uq_box.datamodules"),
)


def _fit(method: Any, change: Callable[[Any], None] | None = None, **options: Any) -> Any:
    import torch
    from lightning.pytorch import Trainer
    from lightning_uq_box.datamodules import ToyHeteroscedasticDatamodule

    torch.set_num_threads(1)
    data = ToyHeteroscedasticDatamodule(n_points=600, batch_size=50)
    if change is not None:
        change(data)
    Trainer(**{**QUIET, "max_epochs": 20, **options}).fit(method, datamodule=data)
    return method


def _net(outputs: int, dropout: float = 0.0) -> Any:
    from lightning_uq_box.models import MLP
    from torch import nn

    return MLP(n_inputs=1, n_hidden=[50, 50], n_outputs=outputs, dropout_p=dropout, activation_fn=nn.Tanh())


def _adam(rate: float = 1e-2) -> Any:
    import torch

    return partial(torch.optim.Adam, lr=rate)


@LIBRARY.training()
def mean_and_variance() -> Any:
    from lightning_uq_box.uq_methods import MVERegression

    return _fit(MVERegression(_net(2), optimizer=_adam(), burnin_epochs=5))


@LIBRARY.training()
def quantiles() -> Any:
    from lightning_uq_box.uq_methods import QuantileRegression

    return _fit(QuantileRegression(model=_net(3), optimizer=_adam(), quantiles=[0.1, 0.5, 0.9]))


@LIBRARY.training()
def evidential() -> Any:
    from lightning_uq_box.uq_methods import DER

    return _fit(DER(_net(4), optimizer=_adam()))


@LIBRARY.training()
def dropout_samples() -> Any:
    from lightning_uq_box.uq_methods import MCDropoutRegression
    from torch import nn

    return _fit(
        MCDropoutRegression(_net(1, 0.1), num_mc_samples=5, loss_fn=nn.MSELoss(), burnin_epochs=0, optimizer=_adam())
    )


@LIBRARY.training()
def variational_weights() -> Any:
    from lightning_uq_box.uq_methods import BNN_VI_ELBO_Regression
    from torch import nn

    return _fit(
        BNN_VI_ELBO_Regression(
            _net(1), criterion=nn.MSELoss(), burnin_epochs=5, num_mc_samples_train=3, num_mc_samples_test=3,
            optimizer=_adam(),
        )
    )  # fmt: skip


@LIBRARY.fault("input-not-normalized")
def targets_of_millions() -> Any:
    from lightning_uq_box.uq_methods import MVERegression

    def scale(data: Any) -> None:
        for name in ("Y_train", "Y_val"):
            setattr(data, name, getattr(data, name) * 1e6 + 3e6)

    return _fit(MVERegression(_net(2), optimizer=_adam(), burnin_epochs=5), scale)


@LIBRARY.fault("nonfinite-input")
def one_target_is_nan() -> Any:
    from lightning_uq_box.uq_methods import QuantileRegression

    def spoil(data: Any) -> None:
        data.Y_train[7] = float("nan")

    return _fit(QuantileRegression(model=_net(3), optimizer=_adam(), quantiles=[0.1, 0.5, 0.9]), spoil)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_targets() -> Any:
    # Missed: the reason is not known.
    import torch
    from lightning_uq_box.uq_methods import MVERegression

    def shuffle(data: Any) -> None:
        for name in ("Y_train", "Y_val"):
            held = getattr(data, name)
            setattr(data, name, held[torch.randperm(len(held))])

    return _fit(MVERegression(_net(2), optimizer=_adam(), burnin_epochs=5), shuffle)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    from lightning_uq_box.uq_methods import MVERegression

    return _fit(MVERegression(_net(2), optimizer=_adam(5.0), burnin_epochs=5))
