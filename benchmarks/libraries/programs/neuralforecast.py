"""neuralforecast: models on a long table of series."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("neuralforecast", ("neuralforecast==3.3.0",), ("neuralforecast", "neuralforecast.models"))


def _table(scale: float = 1.0) -> Any:
    import numpy as np
    import pandas as pd

    make, parts = np.random.default_rng(0), []
    for item in range(5):
        t = np.arange(150)
        y = scale * (3 + np.sin(2 * np.pi * t / 12 + item) + 0.1 * make.normal(size=t.size))
        parts.append(
            pd.DataFrame({"unique_id": str(item), "ds": pd.date_range("2010-01-31", periods=150, freq="ME"), "y": y})
        )
    return pd.concat(parts, ignore_index=True)


def _fit(kind: str, table: Any = None, val_size: int = 0, **options: Any) -> Any:
    import neuralforecast.models
    from neuralforecast import NeuralForecast

    shape = {"h": 6, "input_size": 24, "max_steps": 60, "batch_size": 4, "windows_batch_size": 32}
    model = getattr(neuralforecast.models, kind)(**{**shape, **QUIET, **options})
    forecast = NeuralForecast(models=[model], freq="ME")
    forecast.fit(df=_table() if table is None else table, val_size=val_size)
    return forecast.models[0]


@LIBRARY.training()
def nhits() -> Any:
    return _fit("NHITS", mlp_units=[[32, 32]] * 3)


@LIBRARY.training()
def patch_tst() -> Any:
    return _fit("PatchTST", hidden_size=16, n_heads=2, linear_hidden_size=32, encoder_layers=1, patch_len=6, stride=6)


@LIBRARY.training()
def lstm() -> Any:
    return _fit("LSTM", encoder_hidden_size=16, decoder_hidden_size=16)


@LIBRARY.training()
def deep_ar() -> Any:
    return _fit("DeepAR", lstm_hidden_size=16, lstm_n_layers=1)


@LIBRARY.training()
def i_transformer() -> Any:
    return _fit("iTransformer", n_series=5, hidden_size=16, n_heads=2, e_layers=1, d_ff=32)


@LIBRARY.training()
def temporal_fusion_transformer() -> Any:
    return _fit("TFT", hidden_size=8, n_head=2)


@LIBRARY.training()
def tsmixer_with_validation() -> Any:
    return _fit(
        "TSMixer", n_series=5, n_block=1, ff_dim=16, val_size=12, val_check_steps=20, early_stop_patience_steps=3
    )


@LIBRARY.fault("input-not-normalized")
def unscaled() -> Any:
    return _fit("NHITS", _table(scale=1e6), mlp_units=[[32, 32]] * 3, scaler_type="identity")


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_one() -> Any:
    return _fit("PatchTST", hidden_size=16, n_heads=2, linear_hidden_size=32, encoder_layers=1, learning_rate=1.0)


@LIBRARY.fault("nonfinite-input")
def one_value_is_infinite() -> Any:
    table = _table()
    table.loc[200, "y"] = float("inf")
    return _fit("NHITS", table, mlp_units=[[32, 32]] * 3)


@LIBRARY.fault("learning-rate-schedule")
def rate_halved_at_each_step() -> Any:
    return _fit("NHITS", mlp_units=[[32, 32]] * 3, num_lr_decays=60)


@LIBRARY.fault("nonfinite-input")
def one_price_is_infinite() -> Any:
    import numpy as np

    table = _table()
    table["price"] = np.random.default_rng(1).normal(size=len(table))
    table.loc[310, "price"] = float("inf")
    return _fit("NHITS", table, mlp_units=[[32, 32]] * 3, hist_exog_list=["price"])
