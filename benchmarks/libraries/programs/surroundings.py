"""What a program of Lightning's is often run by or checked with: configurations, searches, type checkers, threads."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "lightning",
    (
        "lightning",
        "scikit-learn",
        "hydra-core==1.3.8",
        "optuna==5.0.0",
        "optuna-integration==5.0.0",
        "jaxtyping==0.3.11",
        "beartype==0.23.1",
        "tensordict==0.15.3",
        "mlflow==3.17.2",
    ),
    ("lightning.pytorch", "sklearn.datasets"),
)


def _digits() -> Any:
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import TensorDataset

    x, y = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))


def _loaders(**options: Any) -> tuple[Any, Any]:
    from torch.utils.data import DataLoader, random_split

    train, val = random_split(_digits(), [1500, 297])
    return DataLoader(train, 64, shuffle=True, **options), DataLoader(val, 64, **options)


def _classifier() -> Any:
    """Return a class, to be changed by its heirs: ``logits`` of inputs, ``pair`` of a batch."""
    from lightning.pytorch import LightningModule
    from torch import nn, optim
    from torch.nn.functional import cross_entropy

    class Classifier(LightningModule):
        def __init__(self, lr: float = 2e-3, width: int = 32) -> None:
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))

        def forward(self, x: Any) -> Any:
            return self.net(x)

        def pair(self, batch: Any) -> Any:
            return batch

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = self.pair(batch)
            loss = cross_entropy(self(x), y)
            self.log("train_loss", loss, batch_size=len(x))
            return loss

        def validation_step(self, batch: Any, _: int) -> None:
            x, y = self.pair(batch)
            logits = self(x)
            self.log("val_loss", cross_entropy(logits, y), batch_size=len(x))
            self.log("val_accuracy", (logits.argmax(1) == y).float().mean(), batch_size=len(x))

        def configure_optimizers(self) -> Any:
            return optim.Adam(self.parameters(), self.lr)

    return Classifier


def _composed(*overrides: str) -> Any:
    """Train what a configuration of Hydra names, as its templates do."""
    import hydra
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(
        name="train",
        node={
            "model": {"lr": 2e-3, "width": 32},
            "trainer": {"_target_": "lightning.pytorch.Trainer", "max_epochs": 4, **QUIET},
            "stopping": {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "val_loss", "patience": 3},
        },
    )
    with hydra.initialize(version_base=None):
        config = hydra.compose("train", overrides=list(overrides))
    model = _classifier()(**config.model)
    trainer = hydra.utils.instantiate(config.trainer, callbacks=[hydra.utils.instantiate(config.stopping)])
    trainer.fit(model, *_loaders())
    return model


@LIBRARY.training()
def composed_by_hydra() -> Any:
    return _composed()


@LIBRARY.fault("diverging-loss", "update-ratio-high")
def composed_by_hydra_with_a_high_rate() -> Any:
    return _composed("model.lr=10")


@LIBRARY.training()
def searched_and_pruned_by_optuna() -> Any:
    import optuna
    from lightning.pytorch import Trainer
    from optuna_integration import PyTorchLightningPruningCallback

    kind, models = _classifier(), []

    def objective(trial: Any) -> float:
        model = kind(trial.suggest_float("lr", 1e-4, 1e-2, log=True), trial.suggest_int("width", 8, 64))
        models.append(model)
        pruning = PyTorchLightningPruningCallback(trial, "val_loss")
        trainer = Trainer(max_epochs=3, callbacks=[pruning], **QUIET)
        trainer.fit(model, *_loaders())
        return float(trainer.callback_metrics["val_loss"])

    search = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna.pruners.MedianPruner(1, 0)
    )
    search.optimize(objective, 6)
    return models


@LIBRARY.training()
def types_checked_by_jaxtyping() -> Any:
    return _typed(softmax=False)


@LIBRARY.fault("double-softmax")
def types_checked_by_jaxtyping_probabilities() -> Any:
    return _typed(softmax=True)


def _typed(softmax: bool) -> Any:
    from beartype import beartype
    from jaxtyping import Float, jaxtyped
    from lightning.pytorch import Trainer
    from torch import Tensor

    images, scores = Float[Tensor, "batch 64"], Float[Tensor, "batch 10"]

    class Typed(_classifier()):  # type: ignore[misc]  # a class that is made where Lightning is
        def forward(self, x: Any) -> Any:
            return self.net(x).softmax(1) if softmax else self.net(x)

    Typed.forward.__annotations__ = {"x": images, "return": scores}
    Typed.forward = jaxtyped(typechecker=beartype)(Typed.forward)
    model = Typed()
    Trainer(max_epochs=4, **QUIET).fit(model, *_loaders())
    return model


def _of_tensordicts(bad: int | None) -> Any:
    """Train on a nested TensorDict whose rows a loader stacks."""
    import torch
    from lightning.pytorch import Trainer
    from tensordict import TensorDict
    from torch.utils.data import DataLoader

    x, y = _digits().tensors
    if bad is not None:
        x = x.clone()
        x[bad, 5] = float("nan")
    rows = TensorDict({"seen": {"pixels": x}, "label": y}, batch_size=[len(y)])

    class OfTensorDicts(_classifier()):  # type: ignore[misc]  # a class that is made where Lightning is
        def pair(self, batch: Any) -> Any:
            return batch["seen", "pixels"], batch["label"]

    model = OfTensorDicts()
    Trainer(max_epochs=4, **QUIET).fit(model, DataLoader(rows, 64, shuffle=True, collate_fn=torch.stack))
    return model


@LIBRARY.training()
def batches_of_tensordict() -> Any:
    return _of_tensordicts(None)


@LIBRARY.fault("nonfinite-loss", "nonfinite-gradient", "nonfinite-input")
def batches_of_tensordict_with_a_nan() -> Any:
    return _of_tensordicts(700)


@LIBRARY.training()
def logged_by_mlflow_autolog() -> Any:
    import mlflow
    from lightning.pytorch import Trainer

    mlflow.set_tracking_uri("sqlite:///runs.db")
    mlflow.pytorch.autolog(log_models=False)
    model = _classifier()()
    with mlflow.start_run():
        Trainer(max_epochs=3, **QUIET).fit(model, *_loaders())
    return model


@LIBRARY.training()
def folds_of_scikit_learn() -> Any:
    from lightning.pytorch import Trainer
    from sklearn.model_selection import StratifiedKFold
    from torch.utils.data import DataLoader, Subset

    data, kind, models = _digits(), _classifier(), []
    folds = StratifiedKFold(3, shuffle=True, random_state=0).split(*(each.numpy() for each in data.tensors))
    for train, val in folds:
        models.append(kind())
        loaders = DataLoader(Subset(data, train), 64, shuffle=True), DataLoader(Subset(data, val), 64)
        trainer = Trainer(max_epochs=3, **QUIET)
        trainer.fit(models[-1], *loaders)
        trainer.validate(models[-1], loaders[1], verbose=False)
    return models


@LIBRARY.training()
def fitted_in_a_thread_of_asyncio() -> Any:
    import asyncio

    from lightning.pytorch import Trainer

    model = _classifier()()
    asyncio.run(asyncio.to_thread(Trainer(max_epochs=3, **QUIET).fit, model, *_loaders()))
    return model


@LIBRARY.training()
def a_fit_within_a_fit() -> Any:
    from lightning.pytorch import Trainer

    kind, inner = _classifier(), []

    class Outer(kind):  # type: ignore[misc, valid-type]  # a class that is made where Lightning is
        def on_train_epoch_end(self) -> None:
            inner.append(kind())
            Trainer(max_epochs=1, **QUIET).fit(inner[-1], *_loaders())

    model = Outer()
    Trainer(max_epochs=3, **QUIET).fit(model, *_loaders())
    return [model, *inner]
