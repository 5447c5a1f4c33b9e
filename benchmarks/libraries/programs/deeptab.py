"""deeptab: deep models of tables in the manner of scikit-learn."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("deeptab", ("deeptab==2.1.0",), ("deeptab.models",))


def _table(rows: int = 500) -> tuple[Any, Any]:
    import numpy as np
    import pandas as pd

    make = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": make.normal(size=rows) for i in range(4)})
    frame["colour"] = make.choice(["red", "green", "blue"], size=rows)
    shift = frame["colour"].map({"red": -1.0, "green": 0.0, "blue": 1.0})
    return frame, (frame["x0"] * frame["x1"] + shift + 0.1 * make.normal(size=rows)).to_numpy()


def _fit(kind: str, x: Any = None, y: Any = None, config: Any = None, **options: Any) -> Any:
    import deeptab.models

    frame, values = _table()
    y = (values > 0).astype(int) if y is None and kind.endswith("Classifier") else (values if y is None else y)
    model = getattr(deeptab.models, kind)(model_config=config)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    model.fit(frame if x is None else x, y, **{"max_epochs": 4, "batch_size": 32, **quiet, **options})
    return model._task_model


def _config(kind: str, **options: Any) -> Any:
    import deeptab.configs

    return getattr(deeptab.configs, kind)(**options)


@LIBRARY.training()
def mlp_regressor() -> Any:
    return _fit("MLPRegressor", config=_config("MLPConfig", layer_sizes=[32, 16]))


@LIBRARY.training()
def mlp_classifier() -> Any:
    # At the library's own rate, four epochs leave it answering one class.
    return _fit("MLPClassifier", config=_config("MLPConfig", layer_sizes=[32, 16]), max_epochs=40)


@LIBRARY.training()
def ft_transformer_classifier() -> Any:
    return _fit("FTTransformerClassifier", config=_config("FTTransformerConfig", d_model=16, n_layers=1, n_heads=2))


@LIBRARY.training()
def distributional_mlp() -> Any:
    import deeptab.models

    frame, values = _table()
    model = deeptab.models.MLPLSS(model_config=_config("MLPConfig", layer_sizes=[32, 16]))
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False}
    model.fit(frame, values, family="normal", max_epochs=4, batch_size=32, **quiet)
    return model._task_model


@LIBRARY.fault("input-not-normalized")
def unscaled_targets() -> Any:
    return _fit("MLPRegressor", y=_table()[1] * 1e5 + 1e6, config=_config("MLPConfig", layer_sizes=[32, 16]))


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    # Missed: each column is encoded by pieces that hang together as a series does, and 100 rows of validation are few.
    import numpy as np

    y = np.random.default_rng(1).permutation((_table()[1] > 0).astype(int))
    return _fit("MLPClassifier", y=y, config=_config("MLPConfig", layer_sizes=[32, 16]), max_epochs=8)


@LIBRARY.fault("nonfinite-input")
def one_target_is_nan() -> Any:
    # Missed: the library refuses it before there is a Trainer.
    y = _table()[1].copy()
    y[77] = float("nan")
    return _fit("MLPRegressor", y=y, config=_config("MLPConfig", layer_sizes=[32, 16]))


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit("MLPRegressor", config=_config("MLPConfig", layer_sizes=[32, 16]), lr=10.0)
