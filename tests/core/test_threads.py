"""Two fits in threads of one process, side by side, are those that they are alone."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import debugkit

pytestmark = pytest.mark.filterwarnings("ignore")


class Classes(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def trained(folder: Path, **kit: Any) -> tuple[list[list[Tensor]], list[BaseException]]:
    pl.seed_everything(3, verbose=False)
    y = torch.randint(3, (320,))
    data = TensorDataset(torch.randn(320, 8) + 2 * nn.functional.one_hot(y, 8), y)
    models, errors = [Classes(), Classes()], list[BaseException]()

    def fit(at: int) -> None:
        loader = DataLoader(data, 16, shuffle=True, generator=torch.Generator().manual_seed(at))
        callbacks = debugkit("thorough") if kit else []
        try:
            options: Any = {**QUIET, "max_epochs": 3}
            pl.Trainer(default_root_dir=folder, callbacks=callbacks, **options).fit(models[at], loader)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=fit, args=(at,)) for at in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [[tensor.clone() for tensor in model.state_dict().values()] for model in models], errors


def test_two_fits_in_threads_are_those_without_the_kit(tmp_path: Path) -> None:
    """Replays shadow methods of classes and mute prints: of this thread, and for as long as they last."""
    alone, _ = trained(tmp_path / "alone")
    streams = sys.stdout, sys.stderr
    watched, errors = trained(tmp_path / "watched", kit=True)
    assert errors == []
    assert (sys.stdout, sys.stderr) == streams
    assert all(
        torch.equal(a, b) for one, two in zip(alone, watched, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_of_two_threads_one_is_in_a_mode_at_a_time(tmp_path: Path) -> None:
    """torch counts modes in globals of the process, which two threads side by side leave wrong for good."""
    from torch.utils import _python_dispatch

    for _ in range(3):
        assert trained(tmp_path / "watched", kit=True)[1] == []
        assert not _python_dispatch.is_in_torch_dispatch_mode()
        assert not _python_dispatch.is_in_any_mode_without_ignore_compile_internals()
