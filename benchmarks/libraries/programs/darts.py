"""darts: forecasting models on a series with trend and season."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("darts", ("darts==0.48.1",), ("darts.models",))

_QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def _series(scaled: bool = True) -> Any:
    import numpy as np
    from darts import TimeSeries

    t = np.arange(300.0)
    noise = np.random.default_rng(0).normal(size=t.size)
    values = np.sin(t / 6) + 0.002 * t + 0.1 * noise
    return TimeSeries.from_values((values if scaled else 50_000 + 20_000 * values).astype(np.float32))


def _fit(kind: str, series: Any = None, trainer: Any = None, fitted: Any = None, **options: Any) -> Any:
    import darts.models

    lengths = {"input_chunk_length": 24, "output_chunk_length": 6}
    arguments = {**lengths, "n_epochs": 4, "batch_size": 16, "random_state": 1, **options}
    model = getattr(darts.models, kind)(pl_trainer_kwargs={**_QUIET, **(trainer or {})}, **arguments)
    model.fit(_series() if series is None else series, **(fitted or {}))
    return model.model


@LIBRARY.training()
def nbeats() -> Any:
    return _fit("NBEATSModel", num_stacks=4, num_blocks=1, layer_widths=32)


@LIBRARY.training()
def nhits() -> Any:
    return _fit("NHiTSModel", layer_widths=32)


@LIBRARY.training()
def tcn() -> Any:
    return _fit("TCNModel", num_filters=8, dropout=0.1)


@LIBRARY.training()
def tide() -> Any:
    return _fit("TiDEModel", hidden_size=16, dropout=0.1, use_reversible_instance_norm=True)


@LIBRARY.training()
def tft() -> Any:
    return _fit("TFTModel", hidden_size=8, num_attention_heads=2, add_relative_index=True, n_epochs=2)


@LIBRARY.training()
def transformer() -> Any:
    return _fit("TransformerModel", d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=32)


@LIBRARY.training()
def tsmixer_with_validation() -> Any:
    from darts.models import TSMixerModel

    train, val = _series().split_before(0.7)
    model = TSMixerModel(24, 6, hidden_size=16, n_epochs=4, batch_size=16, random_state=1, pl_trainer_kwargs=_QUIET)
    model.fit(train, val_series=val)
    return model.model


@LIBRARY.training()
def rnn_with_likelihood() -> Any:
    from darts.utils.likelihood_models import GaussianLikelihood

    likelihood = GaussianLikelihood()
    return _fit("RNNModel", model="LSTM", hidden_dim=12, training_length=30, likelihood=likelihood)


@LIBRARY.fault("nonfinite-input")
def one_value_is_nan() -> Any:
    series = _series()
    values = series.values().copy()
    values[120] = float("nan")
    return _fit("NHiTSModel", series.with_values(values), layer_widths=32)


@LIBRARY.fault("input-not-normalized")
def unscaled() -> Any:
    return _fit("TransformerModel", _series(scaled=False), d_model=16, nhead=2, dim_feedforward=32)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_one() -> Any:
    return _fit("NBEATSModel", num_stacks=4, num_blocks=1, layer_widths=32, optimizer_kwargs={"lr": 1.0})


@LIBRARY.fault("nonfinite-input")
def one_covariate_is_infinite() -> Any:
    import numpy as np
    from darts import TimeSeries

    values = np.random.default_rng(1).normal(size=300).astype(np.float32)
    values[150] = float("inf")
    return _fit("NHiTSModel", layer_widths=32, fitted={"past_covariates": TimeSeries.from_values(values)})


@LIBRARY.fault("learning-rate-schedule")
def rate_of_a_thousandth_after_each_epoch() -> Any:
    import torch

    decay = {"lr_scheduler_cls": torch.optim.lr_scheduler.ExponentialLR, "lr_scheduler_kwargs": {"gamma": 1e-3}}
    return _fit("NBEATSModel", num_stacks=4, num_blocks=1, layer_widths=32, n_epochs=8, **decay)
