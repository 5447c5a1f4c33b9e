"""finetuning-scheduler: a pretrained network that thaws by phases."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("finetuning-scheduler", ("finetuning-scheduler==2.14.1", "scikit-learn"), ("finetuning_scheduler",))

_THAWED = "batch norms of later phases follow the statistics of the batches although told not to"


def _digits(shuffled: bool = False) -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, TensorDataset

    x, y = load_digits(return_X_y=True)
    labels = torch.tensor(y)[torch.randperm(len(y))] if shuffled else torch.tensor(y)
    data = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), labels)
    train, val = torch.utils.data.random_split(data, [1500, 297])
    return DataLoader(train, batch_size=64, shuffle=True), DataLoader(val, batch_size=64)


def _fit(norm: bool, rate: float = 1e-3, epochs: int = 8, shuffled: bool = False, **schedule: Any) -> Any:
    import torch
    from finetuning_scheduler import FinetuningScheduler
    from lightning.pytorch import LightningModule, Trainer
    from torch import nn

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            between = [nn.BatchNorm1d(32)] if norm else []
            self.body = nn.Sequential(nn.Linear(64, 32), *between, nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
            self.head = nn.Linear(32, 10)

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], rate)

    model = Net()
    Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[FinetuningScheduler(**schedule)],
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(model, *_digits(shuffled))
    return model


@LIBRARY.training()
def default_schedule() -> Any:
    return _fit(norm=False, max_depth=1)


@LIBRARY.training(frozen_module_changed=_THAWED)
def with_a_batch_norm() -> Any:
    return _fit(norm=True, max_depth=1)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit(norm=False, rate=10.0, max_depth=0, epochs=3)


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    return _fit(norm=False, shuffled=True, max_depth=1)
