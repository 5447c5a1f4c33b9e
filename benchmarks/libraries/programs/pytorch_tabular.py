"""pytorch-tabular, on the older package and an older release of Lightning, which it asks for."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

# It imports requests without asking for it.
LIBRARY = Library(
    "pytorch-tabular",
    ("pytorch-tabular==1.2.0", "pytorch-lightning==2.5.6", "requests", "scikit-learn"),
    ("pytorch_tabular",),
)


def _table(rows: int = 600) -> Any:
    import numpy as np
    import pandas as pd

    make = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{i}": make.normal(size=rows) for i in range(4)})
    frame["colour"] = make.choice(["red", "green", "blue"], size=rows)
    shift = frame["colour"].map({"red": -1.0, "green": 0.0, "blue": 1.0})
    frame["size"] = frame["x0"] * frame["x1"] + shift + 0.1 * make.normal(size=rows)
    frame["kind"] = (frame["size"] > 0).astype(int).map({0: "no", 1: "yes"})
    return frame


def _fit(
    config: Any,
    frame: Any = None,
    target: str = "kind",
    task: str = "classification",
    first_of_validation: int = 480,
    is_scaled: bool = True,
    **trainer: Any,
) -> Any:
    from pytorch_tabular import TabularModel
    from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig

    frame = _table() if frame is None else frame
    options = {"auto_lr_find": False, "max_epochs": 6, "batch_size": 32, "accelerator": "cpu", "checkpoints": None}
    options |= {"early_stopping": None, "load_best": False, "progress_bar": "none", **trainer}
    model = TabularModel(
        data_config=DataConfig(
            target=[target],
            continuous_cols=[f"x{i}" for i in range(4)],
            categorical_cols=["colour"],
            num_workers=0,
            normalize_continuous_features=is_scaled,
        ),
        model_config=config(task=task),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(**options),
        verbose=False,
    )
    model.fit(train=frame[:480], validation=frame[first_of_validation:])
    return model.model


def _embedding(**options: Any) -> Any:
    from pytorch_tabular.models import CategoryEmbeddingModelConfig

    return lambda task: CategoryEmbeddingModelConfig(task=task, layers="32-16", **options)


@LIBRARY.training()
def category_embedding() -> Any:
    return _fit(_embedding(batch_norm_continuous_input=True))


@LIBRARY.training()
def regression() -> Any:
    return _fit(_embedding(), target="size", task="regression")


@LIBRARY.training()
def gandalf() -> Any:
    from pytorch_tabular.models import GANDALFConfig

    return _fit(lambda task: GANDALFConfig(task=task, gflu_stages=2))


@LIBRARY.training(no_gradient="the embedding layer builds a batch norm of the continuous columns that nothing uses")
def feature_tokens() -> Any:
    from pytorch_tabular.models import FTTransformerConfig

    return _fit(
        lambda task: FTTransformerConfig(task=task, num_heads=2, num_attn_blocks=1, input_embed_dim=8), max_epochs=3
    )


@LIBRARY.training()
def auto_int() -> Any:
    from pytorch_tabular.models import AutoIntConfig

    return _fit(lambda task: AutoIntConfig(task=task, attn_embed_dim=8, num_heads=2, num_attn_blocks=1), max_epochs=4)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    frame = _table()
    frame["kind"] = frame["kind"].sample(frac=1.0, random_state=1).to_numpy()
    return _fit(_embedding(), frame)


@LIBRARY.fault("nonfinite-input")
def one_cell_is_infinite() -> Any:
    frame = _table()
    frame.loc[123, "size"] = float("inf")
    return _fit(_embedding(), frame, target="size", task="regression")


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit(_embedding(learning_rate=10.0), target="size", task="regression")


@LIBRARY.fault("input-not-normalized")
def columns_of_thousands() -> Any:
    frame = _table()
    frame[[f"x{i}" for i in range(4)]] *= 1e4
    return _fit(_embedding(batch_norm_continuous_input=False), frame, is_scaled=False)


@LIBRARY.fault("input-not-normalized")
def targets_of_millions() -> Any:
    frame = _table()
    frame["size"] *= 1e6
    return _fit(_embedding(), frame, target="size", task="regression")


@LIBRARY.fault("train-val-overlap")
def validation_from_training() -> Any:
    return _fit(_embedding(), first_of_validation=240)
