"""pytorch-forecasting: several series in one table."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("pytorch-forecasting", ("pytorch-forecasting==1.8.0",), ("pytorch_forecasting",))


def _table() -> Any:
    import numpy as np
    import pandas as pd

    make, parts = np.random.default_rng(0), []
    for group in range(6):
        t = np.arange(80)
        value = 5 + np.sin(t / 5 + group) + 0.1 * make.normal(size=t.size)
        parts.append(pd.DataFrame({"time_idx": t, "group": str(group), "value": value, "price": make.normal(size=80)}))
    return pd.concat(parts, ignore_index=True)


def _data(table: Any, known: bool = True, encoder: int = 20, **options: Any) -> Any:
    from pytorch_forecasting import TimeSeriesDataSet

    reals = {"time_varying_known_reals": ["price"]} if known else {}
    return TimeSeriesDataSet(
        table,
        time_idx="time_idx",
        target="value",
        group_ids=["group"],
        time_varying_unknown_reals=["value"],
        max_encoder_length=encoder,
        max_prediction_length=5,
        min_encoder_length=encoder,
        **reals,
        **options,
    )


def _fit(
    kind: str,
    known: bool = True,
    table: Any = None,
    epochs: int = 8,
    clip: float = 0.1,
    of_data: Any = None,
    **options: Any,
) -> Any:
    import pytorch_forecasting
    from lightning.pytorch import Trainer

    table = _table() if table is None else table
    data = _data(table[table["time_idx"] < 65], known, **(of_data or {}))
    train = data.to_dataloader(train=True, batch_size=32, num_workers=0)
    validation = type(data).from_dataset(data, table, predict=True, stop_randomization=True)
    model = getattr(pytorch_forecasting, kind).from_dataset(data, **{"learning_rate": 0.01, **options})
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=clip,
        **QUIET,
    )
    trainer.fit(model, train, validation.to_dataloader(train=False, batch_size=32, num_workers=0))
    return model


@LIBRARY.training()
def temporal_fusion_transformer() -> Any:
    return _fit("TemporalFusionTransformer", hidden_size=8, attention_head_size=1, hidden_continuous_size=4)


@LIBRARY.training()
def nhits() -> Any:
    return _fit("NHiTS", hidden_size=32)


@LIBRARY.training()
def nbeats() -> Any:
    return _fit("NBeats", known=False, widths=[16, 32])


@LIBRARY.training()
def deep_ar() -> Any:
    return _fit("DeepAR", hidden_size=12)


@LIBRARY.training()
def recurrent() -> Any:
    return _fit("RecurrentNetwork", hidden_size=12)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit("DeepAR", hidden_size=12, learning_rate=10.0)


@LIBRARY.fault("input-not-normalized")
def unscaled() -> Any:
    from pytorch_forecasting.data import TorchNormalizer

    table = _table()
    table["value"] *= 1e6
    raw = {"target_normalizer": TorchNormalizer(method="identity")}
    return _fit("NHiTS", table=table, hidden_size=32, of_data=raw)


@LIBRARY.fault("clipping-always", "clipping-severe")
def clipped_to_next_to_nothing() -> Any:
    return _fit("NHiTS", hidden_size=32, clip=1e-7)
