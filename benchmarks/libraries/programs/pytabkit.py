"""pytabkit: RealMLP on tables, which steps by hand and trains several networks at once."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("pytabkit", ("pytabkit[models]==1.8.0",), ("pytabkit", "lightning.pytorch"))


def _numbers() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return x, y


def _wine() -> tuple[Any, Any]:
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)


def _fit(kind: str, x: Any, y: Any, epochs: int = 12, **options: Any) -> Any:
    import pytabkit

    model = getattr(pytabkit, kind)(n_epochs=epochs, device="cpu", random_state=0, n_threads=1, **options)
    model.fit(x, y)
    return [each.model for each in _modules(model)]


def _modules(model: Any) -> list[Any]:
    found = model.alg_interface_
    found = getattr(found, "sub_split_interfaces", None) or [found]
    return [each for each in found if hasattr(each, "model")]


@LIBRARY.training()
def real_mlp_regressor() -> Any:
    return _fit("RealMLP_TD_Regressor", *_numbers())


@LIBRARY.training()
def real_mlp_classifier() -> Any:
    return _fit("RealMLP_TD_Classifier", *_wine(), epochs=20)


@LIBRARY.training()
def real_mlp_of_three_splits() -> Any:
    return _fit("RealMLP_TD_Classifier", *_wine(), epochs=20, n_cv=3)


@LIBRARY.training()
def real_mlp_simple() -> Any:
    return _fit("RealMLP_TD_S_Regressor", *_numbers())


def _digits(shuffled: bool = False, **options: Any) -> Any:
    import numpy as np
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    y = np.random.default_rng(0).permutation(y) if shuffled else y
    return _fit("RealMLP_TD_Classifier", x, y, epochs=8, batch_size=64, **options)


@LIBRARY.training()
def real_mlp_of_digits() -> Any:
    return _digits()


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_a_thousand() -> Any:
    # Missed: told as nonfinite-activation, whose words say that the loss ran away, and at which rate.
    return _digits(lr=1000.0)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    # Missed: the rate rises and falls by a schedule, and the steps are those of an optimizer of the library's own.
    return _digits(lr=1e-10)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    # Missed: a batch holds the networks first and the samples second, and is taken for one sample.
    return _digits(shuffled=True)
