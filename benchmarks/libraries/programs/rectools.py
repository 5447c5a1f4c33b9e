"""rectools: sequential recommenders, on pytorch_lightning 2.5.2."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("rectools", ("rectools[torch]==0.19.0",), ("rectools.models",))


def _interactions(users: int = 120, items: int = 30, length: int = 20) -> Any:
    """Walks over items in which the next one lies close to the last."""
    import numpy as np
    import pandas as pd
    from rectools.dataset import Dataset

    make, rows = np.random.default_rng(0), []
    for user in range(users):
        item = int(make.integers(items))
        for place in range(length):
            item = (item + int(make.integers(1, 4))) % items
            day = pd.Timestamp("2024-01-01") + pd.Timedelta(days=place)
            rows.append({"user_id": user, "item_id": item, "weight": 1.0, "datetime": day})
    return Dataset.construct(pd.DataFrame(rows))


def _fit(kind: str, **options: Any) -> Any:
    import rectools.models

    shape = {"n_factors": 16, "n_blocks": 1, "n_heads": 2, "session_max_len": 12, "epochs": 20, "batch_size": 32}
    model = getattr(rectools.models, kind)(**{**shape, "verbose": 0, **options})
    model.fit(_interactions())
    return model.lightning_model


@LIBRARY.training()
def sasrec() -> Any:
    return _fit("SASRecModel")


@LIBRARY.training()
def bert4rec() -> Any:
    return _fit("BERT4RecModel")


@LIBRARY.training()
def sasrec_with_sampled_negatives() -> Any:
    return _fit("SASRecModel", loss="BCE", n_negatives=4)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit("SASRecModel", lr=10.0)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    return _fit("SASRecModel", lr=1e-12)
