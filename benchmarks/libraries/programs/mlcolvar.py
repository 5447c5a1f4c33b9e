"""mlcolvar: collective variables of molecules, learned from two basins in eight descriptors."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("mlcolvar", ("mlcolvar==1.3.1",), ("mlcolvar.cvs", "mlcolvar.data"))


def _basins(count: int = 300, spoiled: float | None = None) -> tuple[Any, Any]:
    """Walks of a molecule in two basins of its descriptors, and which basin each point is of."""
    import torch

    x = torch.randn(2 * count, 8)
    labels = (torch.arange(2 * count) >= count).float()
    x[:, :3] += 2 * labels[:, None] - 1
    if spoiled is not None:
        x[77, 2] = spoiled
    return x, labels


def _fit(model: Any, columns: dict[str, Any], epochs: int = 30, batch: int = 100) -> Any:
    import torch
    from lightning.pytorch import Trainer
    from mlcolvar.data import DictDataset, DictModule

    torch.set_num_threads(1)
    data = DictModule(DictDataset(columns), lengths=[0.8, 0.2], batch_size=batch)
    Trainer(max_epochs=epochs, **QUIET).fit(model, data)
    return model


def _discriminant(rate: float = 1e-3, **basins: Any) -> Any:
    from mlcolvar.cvs import DeepTDA

    x, labels = _basins(**basins)
    options = {"nn": {"activation": "shifted_softplus"}, "optimizer": {"lr": rate}}
    centers = {"n_states": 2, "n_cvs": 1, "target_centers": [-7, 7], "target_sigmas": [0.2, 0.2]}
    return _fit(DeepTDA(layers=[8, 24, 12, 1], options=options, **centers), {"data": x, "labels": labels})


@LIBRARY.training()
def targeted_discriminant() -> Any:
    return _discriminant()


@LIBRARY.training()
def linear_discriminant() -> Any:
    from mlcolvar.cvs import DeepLDA

    x, labels = _basins()
    return _fit(DeepLDA([8, 24, 12, 2], n_states=2), {"data": x, "labels": labels})


@LIBRARY.training()
def autoencoder() -> Any:
    from mlcolvar.cvs import AutoEncoderCV

    return _fit(AutoEncoderCV([8, 16, 8, 2]), {"data": _basins()[0]})


@LIBRARY.training()
def variational_autoencoder() -> Any:
    from mlcolvar.cvs import VariationalAutoEncoderCV

    return _fit(VariationalAutoEncoderCV(2, [8, 16, 8]), {"data": _basins()[0]})


@LIBRARY.training()
def regression() -> Any:
    from mlcolvar.cvs import RegressionCV

    x, _ = _basins()
    return _fit(RegressionCV([8, 16, 8, 1]), {"data": x, "target": x[:, :3].square().sum(1)})


def _walk() -> Any:
    import torch

    steps = torch.randn(1000, 8)
    found = [steps[0]]
    for step in steps[1:]:
        found.append(found[-1] * 0.95 + 0.3 * step)
    return torch.stack(found)


@LIBRARY.training()
def slow_modes() -> Any:
    import torch
    from lightning.pytorch import Trainer
    from mlcolvar.cvs import DeepTICA
    from mlcolvar.data import DictModule
    from mlcolvar.utils.timelagged import create_timelagged_dataset

    torch.set_num_threads(1)
    data = DictModule(create_timelagged_dataset(_walk(), lag_time=5), batch_size=200)
    model = DeepTICA([8, 16, 8, 2], n_cvs=1)
    Trainer(max_epochs=20, **QUIET).fit(model, data)
    return model


@LIBRARY.fault("nonfinite-input")
def one_descriptor_is_nan() -> Any:
    # Missed: the mean and range of all data are buffers of the model, and NaN before its first step.
    return _discriminant(spoiled=float("nan"))


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _discriminant(rate=10.0)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    return _discriminant(rate=1e-12)


@LIBRARY.fault("input-not-normalized")
def energies_of_thousands() -> Any:
    from mlcolvar.cvs import RegressionCV

    x, _ = _basins()
    return _fit(RegressionCV([8, 16, 8, 1]), {"data": x, "target": 1e4 * x[:, :3].square().sum(1) + 1e5})
