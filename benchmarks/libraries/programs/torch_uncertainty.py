"""torch-uncertainty: classifiers and regressions that say how sure they are, trained by its routines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "torch-uncertainty",
    ("torch-uncertainty[cpu]==0.13.0", "torchvision==0.28.0", "scikit-learn"),
    ("benchmarks.libraries.torchvision_operators", "torch_uncertainty.routines", "torch_uncertainty.models.mlp"),
)
Change = Callable[[Any, Any], tuple[Any, Any]]


def _digits() -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 8 - 1, dtype=torch.float32), torch.tensor(y)


def _diabetes() -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    targets = torch.tensor(y, dtype=torch.float32)
    return 20 * torch.tensor(x, dtype=torch.float32), (targets - targets.mean()) / targets.std()


def _fit(routine: Any, x: Any, y: Any, epochs: int) -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torch_uncertainty import TUTrainer

    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    train, val = TensorDataset(x[:-300], y[:-300]), TensorDataset(x[-300:], y[-300:])
    loaders = DataLoader(train, 32, shuffle=True), DataLoader(val, 100)
    TUTrainer(max_epochs=epochs, inference_mode=False, **QUIET).fit(routine, *loaders)
    return routine


def _classify(model: Any, loss: Any, change: Change | None = None, rate: float = 2e-3, **options: Any) -> Any:
    import torch
    from torch_uncertainty.routines import ClassificationRoutine

    x, y = _digits()
    x, y = change(x, y) if change is not None else (x, y)
    recipe = torch.optim.Adam(model.parameters(), lr=rate)
    routine = ClassificationRoutine(model, num_classes=10, loss=loss, optim_recipe=recipe, **options)
    return _fit(routine, x, y, epochs=3)


def _mlp(**options: Any) -> Any:
    from torch_uncertainty.models.mlp import mlp

    return mlp(64, 10, [64, 32], **options)


def _plain(change: Change | None = None, rate: float = 2e-3) -> Any:
    from torch import nn

    return _classify(_mlp(), nn.CrossEntropyLoss(), change, rate)


@LIBRARY.training()
def classifier() -> Any:
    return _plain()


@LIBRARY.training()
def packed_ensemble() -> Any:
    from torch import nn
    from torch_uncertainty.models.mlp import packed_mlp
    from torch_uncertainty.transforms import RepeatTarget

    model = packed_mlp(64, 10, [64, 32], num_estimators=4)
    repeat = RepeatTarget(num_repeats=4)
    return _classify(model, nn.CrossEntropyLoss(), is_ensemble=True, format_batch_fn=repeat)


# Known of evidence by ReLU: Pandey and Yu, Learn to Accumulate Evidence from All Training Samples, 2023.
@LIBRARY.training(class_never_predicted="the evidence of three classes is 0 for all samples, after 15 epochs, too")
def evidential_classifier() -> Any:
    from torch_uncertainty.losses import DECLoss

    return _classify(_mlp(), DECLoss(10, reg_weight=1e-2))


@LIBRARY.training()
def dropout_samples() -> Any:
    from torch import nn
    from torch_uncertainty.methods import mc_dropout

    return _classify(mc_dropout(_mlp(dropout_rate=0.2), 4), nn.CrossEntropyLoss(), is_ensemble=True)


@LIBRARY.training()
def bayesian_classifier() -> Any:
    from torch import nn
    from torch_uncertainty.losses import ELBOLoss
    from torch_uncertainty.models.mlp import bayesian_mlp

    model = bayesian_mlp(64, 10, [32], num_samples=4)
    loss = ELBOLoss(model, nn.CrossEntropyLoss(), kl_weight=1 / 50_000, num_samples=2)
    return _classify(model, loss, is_ensemble=True)


def _regress(change: Change | None = None) -> Any:
    import torch
    from torch_uncertainty.losses import DistributionNLLLoss
    from torch_uncertainty.models.mlp import mlp
    from torch_uncertainty.routines import RegressionRoutine

    x, y = _diabetes()
    x, y = change(x, y) if change is not None else (x, y)
    model = mlp(10, 1, [32], dist_family="normal")
    recipe = torch.optim.Adam(model.parameters(), lr=5e-3)
    loss = DistributionNLLLoss()
    routine = RegressionRoutine(model, output_dim=1, loss=loss, dist_family="normal", optim_recipe=recipe)
    return _fit(routine, x, y, epochs=15)


@LIBRARY.training()
def mean_and_variance() -> Any:
    return _regress()


@LIBRARY.fault("nonfinite-input")
def one_pixel_is_nan() -> Any:
    def change(x: Any, y: Any) -> tuple[Any, Any]:
        x[700, 20] = float("nan")
        return x, y

    return _plain(change)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _plain(rate=10.0)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    import torch

    return _plain(lambda x, y: (x, y[torch.randperm(len(y))]))


@LIBRARY.fault("input-not-normalized")
def targets_of_millions() -> Any:
    # Missed: the likelihood is a distribution's, whose targets are not looked at.
    return _regress(lambda x, y: (x, 1e6 * (y + 3)))
