"""gluonts: probabilistic forecasting with the torch estimators."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("gluonts", ("gluonts[torch]==0.17.0",), ("gluonts.torch",))

_QUIET = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def _series(scale: float = 1.0) -> list[dict[str, Any]]:
    import numpy as np
    import pandas as pd

    make = np.random.default_rng(0)
    t, found = np.arange(200.0), []
    for item in range(5):
        target = 3 + np.sin(2 * np.pi * t / 24 + item) + 0.1 * make.normal(size=t.size)
        found.append({"target": (scale * target).astype("float32"), "start": pd.Period("2024-01-01", freq="h")})
    return found


def _fit(kind: str, series: list[dict[str, Any]] | None = None, **options: Any) -> Any:
    import gluonts.torch
    from gluonts.dataset.common import ListDataset

    if not options.pop("has_no_freq", False):
        options["freq"] = "h"
    options = {"prediction_length": 6, "num_batches_per_epoch": 20, "trainer_kwargs": _QUIET, **options}
    estimator = getattr(gluonts.torch, kind)(**options)
    predictor = estimator.train(ListDataset(_series() if series is None else series, freq="h"))
    return predictor.prediction_net


@LIBRARY.training()
def deep_ar() -> Any:
    return _fit("DeepAREstimator", hidden_size=16, num_layers=1)


@LIBRARY.training()
def simple_feed_forward() -> Any:
    return _fit("SimpleFeedForwardEstimator", has_no_freq=True, hidden_dimensions=[16])


@LIBRARY.training()
def patch_tst() -> Any:
    shape = {"patch_len": 6, "stride": 6, "context_length": 24, "d_model": 16, "nhead": 2, "dim_feedforward": 32}
    return _fit("PatchTSTEstimator", has_no_freq=True, **shape)


@LIBRARY.training()
def d_linear() -> Any:
    return _fit("DLinearEstimator", has_no_freq=True, hidden_dimension=16)


@LIBRARY.training()
def temporal_fusion_transformer() -> Any:
    return _fit("TemporalFusionTransformerEstimator", hidden_dim=8, variable_dim=8, num_heads=2)


@LIBRARY.training()
def tide() -> Any:
    return _fit("TiDEEstimator", feat_proj_hidden_dim=4, encoder_hidden_dim=8, decoder_hidden_dim=8)


@LIBRARY.fault("nonfinite-input")
def one_value_is_infinite() -> Any:
    series = _series()
    series[2]["target"][100] = float("inf")
    return _fit("SimpleFeedForwardEstimator", series, has_no_freq=True, hidden_dimensions=[16])


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    return _fit("DeepAREstimator", hidden_size=16, num_layers=1, lr=5.0)


@LIBRARY.fault("clipping-always", "clipping-severe")
def clipped_to_next_to_nothing() -> Any:
    quiet = {**_QUIET, "gradient_clip_val": 1e-6}
    return _fit("DLinearEstimator", has_no_freq=True, hidden_dimension=16, trainer_kwargs=quiet)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    quiet = {**_QUIET, "max_epochs": 8}
    return _fit("SimpleFeedForwardEstimator", has_no_freq=True, hidden_dimensions=[16], lr=1e-12, trainer_kwargs=quiet)
