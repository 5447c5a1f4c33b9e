"""What to do about attention that is one-hot: that of torch divides its scores by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ActivationMonitor, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1)).softmax(-1) @ v


def of_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool))


def unscaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class Own(nn.Module):
    def __init__(self, mix: Callable[..., Tensor]) -> None:
        super().__init__()
        self.qkv, self.mix = nn.Linear(16, 48), mix

    def forward(self, x: Tensor) -> Tensor:
        heads = (part.unflatten(-1, (2, 8)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.mix(*heads).transpose(1, 2).flatten(2)


class Multihead(nn.Module):
    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.attention, self.weights = nn.MultiheadAttention(16, 2, batch_first=True), weights

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]


class Reads(pl.LightningModule):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.head = attention, nn.Linear(16, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.head(self.attention(batch[0]).mean(1)), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-8)


CASES = {
    "by hand": (lambda: Own(by_hand), False),
    "torch's function": (lambda: Own(of_torch), True),
    "torch's function with a mask": (lambda: Own(masked), True),
    "torch's function with a scale of its own": (lambda: Own(unscaled), False),
    "torch's module": (lambda: Multihead(False), True),
    "torch's module, with weights": (lambda: Multihead(True), True),
}


@pytest.mark.parametrize("case", CASES)
def test_who_divides_already_is_told_to_normalise_what_enters(case: str, tmp_path: Path) -> None:
    build, divides = CASES[case]
    torch.manual_seed(0)
    data = DataLoader(TensorDataset(300 * torch.randn(512, 6, 16), torch.arange(512) % 3), batch_size=32)
    options = {**QUIET, "max_epochs": 4, "default_root_dir": tmp_path}
    pl.Trainer(callbacks=[ActivationMonitor()], **options).fit(Reads(build()), data)
    journal = read_journal(tmp_path / "debugkit")
    assert not journal.of_kind("trouble")
    (told,) = (finding for finding in journal.findings if finding.rule == "saturated-units")
    assert "is one-hot in" in told.message
    assert told.advice.startswith("Normalise what enters" if divides else "Divide the scores")
    assert math.isclose(told.evidence["share"], 1, abs_tol=0.2)
