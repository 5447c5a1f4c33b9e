"""neuralprophet: decomposable forecasts, whose ``fit`` makes a Trainer and looks for a learning rate by itself."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("neuralprophet", ("neuralprophet==0.9.0", "pandas<3"), ("neuralprophet",))


def _days(scale: float = 1.0) -> Any:
    import numpy as np
    import pandas as pd

    make, t = np.random.default_rng(0), np.arange(400.0)
    y = 10 + 0.01 * t + 2 * np.sin(2 * np.pi * t / 7) + 0.3 * make.normal(size=t.size)
    return pd.DataFrame({"ds": pd.date_range("2023-01-01", periods=t.size, freq="D"), "y": scale * y})


def _fit(days: Any = None, validated: bool = False, **options: Any) -> Any:
    import torch
    from neuralprophet import NeuralProphet, set_random_seed

    torch.set_num_threads(1)
    set_random_seed(0)
    model = NeuralProphet(**{"epochs": 8, "batch_size": 32, "accelerator": "cpu", **options})
    train, val = model.split_df(_days() if days is None else days, freq="D", valid_p=0.2)
    held = {"validation_df": val} if validated else {}
    model.fit(train, freq="D", progress=None, minimal=not validated, **held)
    return model.model


@LIBRARY.training()
def trend_and_seasons() -> Any:
    return _fit(learning_rate=0.05)


@LIBRARY.training()
def autoregression_with_validation() -> Any:
    return _fit(validated=True, n_lags=7, learning_rate=0.05)


@LIBRARY.training()
def quantiles() -> Any:
    return _fit(quantiles=[0.1, 0.9], learning_rate=0.05)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_a_thousand() -> Any:
    return _fit(n_lags=7, learning_rate=1e3)
