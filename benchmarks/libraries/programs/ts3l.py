"""ts3l: tables learned without labels first and with few of them then, as its quick starts do."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("ts3l", ("ts3l==0.70",), ("ts3l.pl_modules", "sklearn.datasets"))


def _table(scale: float = 1.0) -> tuple[Any, Any, list[str]]:
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    names = [f"x{i}" for i in range(x.shape[1])]
    frame = pd.DataFrame((x - x.mean(0)) / x.std(0) * scale, columns=names)
    return frame, pd.Series(y), names


def _fit(kind: str, frame: Any = None, y: Any = None, rate: float = 1e-3, **options: Any) -> Any:
    """Both phases of a method, each by a Trainer of its own."""
    import importlib

    import torch
    from ts3l import pl_modules
    from ts3l.utils.backbone_utils import MLPBackboneConfig
    from ts3l.utils.embedding_utils import IdentityEmbeddingConfig

    torch.set_num_threads(1)
    table, known, names = _table()
    frame, y = table if frame is None else frame, known if y is None else y
    utils = importlib.import_module(f"ts3l.utils.{kind.lower()}_utils")
    embedding = IdentityEmbeddingConfig(input_dim=len(names))
    config = getattr(utils, f"{kind}Config")(
        task="classification", loss_fn="CrossEntropyLoss", metric="accuracy_score", metric_hparams={},
        embedding_config=embedding, backbone_config=MLPBackboneConfig(input_dim=embedding.output_dim, hidden_dims=32),
        output_dim=2, optim_hparams={"lr": rate}, **options,
    )  # fmt: skip
    module = getattr(pl_modules, f"{kind}Lightning")(config)
    _phase(module, kind, utils, config, frame, y, names, is_second=False)
    module.set_second_phase()
    _phase(module, kind, utils, config, frame, y, names, is_second=True)
    return module


def _phase(module: Any, kind: str, utils: Any, config: Any, x: Any, y: Any, names: Any, is_second: bool) -> None:
    from pytorch_lightning import Trainer
    from ts3l.utils import TS3LDataModule

    columns = {"continuous_cols": names, "category_cols": []}
    # Options are named as the datasets of each method name them.
    options = columns if kind == "DAE" else {**columns, "config": config, "is_second_phase": is_second}
    collate = {}
    if kind == "DAE" and not is_second:
        collate = {"train_collate_fn": utils.DAECollateFN(config), "valid_collate_fn": utils.DAECollateFN(config)}
    make = getattr(utils, f"{kind}Dataset")
    unlabeled = {} if is_second and kind == "SCARF" else {"unlabeled_data": x[100:450]}
    labels = [{"Y": part.to_numpy()} if is_second else {} for part in (y[:100], y[450:])]
    train = make(X=x[:100], **labels[0], **unlabeled, **options)
    val = make(X=x[450:], **labels[1], **options)
    sampler = "weighted" if is_second else "random"
    data = TS3LDataModule(train, val, 32, train_sampler=sampler, n_jobs=0, **collate)
    Trainer(max_epochs=8, **QUIET).fit(module, data)


def _cardinality() -> dict[str, Any]:
    return {"cat_cardinality": [], "num_continuous": 30}


@LIBRARY.training()
def scarf() -> Any:
    return _fit("SCARF", pretraining_head_dim=32, head_depth=2, dropout_rate=0.04, corruption_rate=0.6)


@LIBRARY.training(
    frozen_module_changed="set_second_phase freezes the backbone, whose batch norms go on in training mode"
)
def denoising_autoencoder() -> Any:
    return _fit("DAE", noise_type="Swap", noise_ratio=0.3, **_cardinality())


@LIBRARY.fault("nonfinite-input")
def one_cell_is_infinite() -> Any:
    frame = _table()[0]
    frame.iloc[77, 3] = float("inf")
    return _fit("DAE", frame, noise_type="Swap", noise_ratio=0.3, **_cardinality())


@LIBRARY.fault("input-not-normalized")
def columns_of_thousands() -> Any:
    return _fit("DAE", _table(5000.0)[0] + 10000, noise_type="Swap", noise_ratio=0.3, **_cardinality())


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit("DAE", rate=10.0, noise_type="Swap", noise_ratio=0.3, **_cardinality())
