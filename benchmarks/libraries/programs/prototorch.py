"""prototorch-models: prototypes learned by Lightning, with the parameters and loaders of its examples."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "prototorch-models",
    ("prototorch-models==0.7.1", "torchvision==0.28.0", "scikit-learn", "setuptools<81"),
    ("benchmarks.libraries.torchvision_operators", "prototorch.models", "sklearn.datasets"),
)


def _fit(kind: str, scale: float = 1.0, shuffled: bool = False, spoiled: float | None = None, **parameters: Any) -> Any:
    import prototorch as pt
    import pytorch_lightning as pl
    import torch
    from sklearn.datasets import load_iris
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    x, y = load_iris(return_X_y=True)
    values, labels = torch.tensor(x * scale, dtype=torch.float32), torch.tensor(y)
    if shuffled:
        labels = labels[torch.randperm(len(labels))]
    data = TensorDataset(values, labels)
    model = getattr(pt.models, kind)(
        {"distribution": {"num_classes": 3, "per_class": 2}, "lr": 0.01, **parameters},
        optimizer=torch.optim.Adam,
        prototypes_initializer=pt.initializers.SMCI(data),
    )
    if spoiled is not None:
        values[77, 1] = spoiled
    model.example_input_array = torch.zeros(4, 4)
    pl.Trainer(**{**QUIET, "max_epochs": 20}).fit(model, DataLoader(data, batch_size=32, shuffle=True))
    return model


@LIBRARY.training()
def glvq() -> Any:
    return _fit("GLVQ")


@LIBRARY.training()
def a_metric_that_is_learned() -> Any:
    return _fit("GMLVQ", input_dim=4, latent_dim=2, bb_lr=0.01, proto_lr=0.01)


@LIBRARY.training()
def relevances() -> Any:
    return _fit("GRLVQ", input_dim=4)


@LIBRARY.training()
def robust_soft() -> Any:
    return _fit("RSLVQ", variance=1.0)


@LIBRARY.fault("nonfinite-input")
def one_petal_is_nan() -> Any:
    return _fit("GLVQ", spoiled=float("nan"))


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    # Missed: 150 flowers are fewer than neighbours are looked for among, and the loss is none that is known.
    return _fit("GLVQ", shuffled=True)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_a_hundred() -> Any:
    return _fit("RSLVQ", variance=1.0, lr=100.0)
