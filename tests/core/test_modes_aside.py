"""A mode of torch around the whole fit sees what the program asks of torch, and nothing that the kit asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, Net, data, journal
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_debugkit import debugkit
from lightning_debugkit.core.compat import modes_aside


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[getattr(func, "__name__", str(func))] += 1
        return func(*args, **(kwargs or {}))


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


class ByHand(Net):
    """Clips in both ways, and calls its loss by name."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))
        torch.nn.utils.clip_grad_norm_(self.parameters(), 0.1)
        torch.nn.utils.clip_grad_value_(self.parameters(), 0.05)
        optimizer.step()


class Usual(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])


def counted(mode: Any, module: type[Net], folder: Path, callbacks: Any, **options: Any) -> Counter[str]:
    pl.seed_everything(4, verbose=False)
    trainer = pl.Trainer(default_root_dir=folder, max_epochs=1, callbacks=callbacks, **QUIET, **options)
    with mode:
        trainer.fit(module(), data(32), data(16))
    return mode.counts


@pytest.mark.parametrize("preset", ["standard", "thorough"])
@pytest.mark.parametrize("mode", [Functions, Operations])
@pytest.mark.parametrize(("module", "options"), [(ByHand, {}), (Usual, {"gradient_clip_val": 0.1})])
def test_it_counts_what_it_would_count_alone(
    mode: Any, module: Any, options: dict[str, Any], preset: str, tmp_path: Path
) -> None:
    alone = counted(mode(), module, tmp_path / "alone", [], **options)
    watched = counted(mode(), module, tmp_path / "watched", debugkit(preset), **options)
    assert watched == alone
    assert sum(alone.values()) > 100
    assert journal(tmp_path / "watched").of_kind("run")


def test_modes_come_back_in_their_order_and_the_device_stays() -> None:
    outer, inner = Functions(), Functions()
    with torch.device("meta"), outer, inner:
        before = torch._C._len_torch_function_stack()
        with modes_aside():
            assert torch.zeros(1).is_meta
        assert torch._C._len_torch_function_stack() == before
        assert not outer.counts
        torch.zeros(1)
    assert outer.counts == inner.counts == {"zeros": 1}
