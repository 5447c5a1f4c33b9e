"""Lightning alone: a control of the runner that needs no library."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("lightning", ("lightning", "scikit-learn"), ("lightning.pytorch",))


def _fit(break_one: bool = False, rate: float = 1e-3) -> Any:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 10))

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), rate)

    x, y = load_digits(return_X_y=True)
    images = torch.tensor(x / 16, dtype=torch.float32)
    if break_one:
        images[700, 5] = float("nan")
    model = Net()
    loader = DataLoader(TensorDataset(images, torch.tensor(y)), batch_size=64, shuffle=True)
    Trainer(max_epochs=2, **QUIET).fit(model, loader)
    return model


@LIBRARY.training()
def digits() -> Any:
    return _fit()


@LIBRARY.fault("nonfinite-input")
def one_pixel_is_nan() -> Any:
    return _fit(break_one=True)
