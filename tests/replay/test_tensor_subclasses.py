"""A batch or loss of any tensor class, also of one on which operations raise, is diagnosed as any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.masked import masked_tensor

from lightning_debugkit import TrainingAnomaly, debugkit
from lightning_debugkit.core.tensor_numbers import held, numbers, plainly

pytestmark = [pytest.mark.filterwarnings("ignore:.*:UserWarning")]


class Particular(Tensor):
    """Refuses questions by ``__torch_function__``."""

    @staticmethod
    def __new__(cls, data: Tensor) -> Any:  # made by Tensor.__new__ it would keep dispatch modes away
        return data.as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.isfinite, Tensor.isfinite, torch.isnan, Tensor.sum):
            raise TypeError("is not asked that")
        return super().__torch_function__(func, types, args, kwargs or {})


class Sealed(Tensor):
    """Holds another tensor, and knows no operation at all."""

    @staticmethod
    def __new__(cls, inner: Tensor, is_known: bool = True) -> Any:
        return Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: Tensor, is_known: bool = True) -> None:
        self.within = inner if is_known else [inner]

    def __repr__(self) -> str:
        return "Sealed()"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"knows no {func}")

    __torch_function__ = torch._C._disabled_torch_function_impl


def masked(x: Tensor) -> Any:
    """Its mask leaves out the last column, where nothing is a number."""
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, -1] = False
    return masked_tensor(torch.where(mask, x, torch.nan), mask)


BATCHES: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor], bool]] = {
    "masked": (masked, lambda batch: batch.log().to_tensor(0.0), True),
    "refuses questions": (Particular, lambda batch: batch.log(), True),
    "knows no operation": (Sealed, lambda batch: batch.within.log(), False),
    "nobody knows its numbers": (lambda x: Sealed(x, False), lambda batch: batch.within[0].log(), False),
    "nested": (
        lambda x: torch.nested.nested_tensor([x[:3], x[3:]]),
        lambda batch: torch.cat([part.log() for part in batch.unbind()]),
        True,
    ),
}


class Logs(pl.LightningModule):
    def __init__(self, log: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.log_of, self.net = log, nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(self.log_of(batch)).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Batches:
    def __init__(self, wrap: Callable[[Tensor], Any], is_bad: bool) -> None:
        self.wrap, self.is_bad = wrap, is_bad

    def __iter__(self) -> Iterator[Any]:
        for step in range(6):
            x = torch.rand(8, 4, generator=torch.Generator().manual_seed(step)) + 0.1
            x[2, 1] = -1.0 if self.is_bad and step == 4 else x[2, 1]
            yield self.wrap(x)


def fit(kind: str, is_bad: bool, folder: Path) -> pl.Trainer:
    wrap, log, _ = BATCHES[kind]
    trainer = pl.Trainer(default_root_dir=folder, max_epochs=1, callbacks=debugkit("thorough"), **QUIET)
    trainer.fit(Logs(log), Batches(wrap, is_bad))
    return trainer


@pytest.mark.parametrize("kind", BATCHES)
def test_what_breaks_on_a_batch_of_its_own_class_has_its_place(kind: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly):
        fit(kind, True, tmp_path)
    (found,) = [finding for finding in journal(tmp_path).findings if finding.rule == "nonfinite-loss"]
    assert found.message.startswith("loss is nan at step 4: log of a negative number in ")
    assert bool(found.evidence["samples"]) == BATCHES[kind][2]


@pytest.mark.parametrize("kind", BATCHES)
def test_a_healthy_one_is_no_trouble(kind: str, tmp_path: Path) -> None:
    assert fit(kind, False, tmp_path).global_step == 6
    assert [finding.rule for finding in journal(tmp_path).findings if finding.rule.startswith("nonfinite")] == []


def test_numbers_are_those_of_the_tensor() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, torch.nan]])
    assert torch.equal(numbers(masked(x)), torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert held(masked(x).log().exp()) is not None
    assert numbers(Sealed(x)) is x
    assert numbers(Sealed(x, False)) is None
    plain, unknown = plainly([Particular(x), Sealed(x, False)])
    assert type(plain) is Tensor
    assert plain.data_ptr() == x.data_ptr()
    assert unknown.is_meta
