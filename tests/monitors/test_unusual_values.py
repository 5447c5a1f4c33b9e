"""Parameters, buffers, losses and classes of tensors that are not the usual ones: no callback stumbles over them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Severity, TrainingAnomaly, debugkit, read_journal
from lightning_debugkit.core.journal import Events

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]
STEPS = 12


class Base(pl.LightningModule):
    """A regression; the parts that make it unusual are those of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
        self.head = nn.Linear(4, 1)
        self.breaks = -1

    def inner(self, x: Tensor) -> Tensor:
        return x

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = F.mse_loss(self.head(self.inner(self.net(batch[0]))), batch[1])
        return loss * (loss.detach() * 0 - 1).log() if batch_idx == self.breaks else loss

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-3)


class Spectral(Base):
    """A Fourier layer, as neural operators have it: its weights are complex."""

    def __init__(self, dtype: torch.dtype = torch.complex64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 3, dtype=dtype) * 0.5)

    def inner(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x).to(self.weight.dtype) @ self.weight, n=4).to(x.dtype)


class SpectralDouble(Spectral):
    def __init__(self) -> None:
        super().__init__(torch.complex128)


class ClippedByHand(Spectral):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        for parameter in self.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0)


class Buffers(Base):
    """Buffers of every kind that a state dict may hold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.arange(3))
        self.register_buffer("byte", torch.ones(3, dtype=torch.uint8))
        self.register_buffer("mask", torch.tensor([True]))
        self.register_buffer("wave", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.register_buffer("sparse", torch.eye(3).to_sparse())
        self.register_buffer("rows", torch.eye(3).to_sparse_csr())
        self.register_buffer("low", torch.ones(2).to(torch.float8_e4m3fn))
        self.register_buffer("codes", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8))


class Packed(Base):
    """Frozen weights as whole numbers, as quantised models hold them; one scalar, one empty parameter, one unused."""

    def __init__(self) -> None:
        super().__init__()
        self.packed = nn.Parameter(torch.randint(0, 255, (4, 4), dtype=torch.uint8), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.nothing = nn.Parameter(torch.zeros(0))
        self.without_inputs = nn.Linear(0, 0)  # never used, and there is nothing of it

    def inner(self, x: Tensor) -> Tensor:
        return x @ (self.packed.float() / 255) * self.scale + self.nothing.sum()


class Lazy(Base):
    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Sequential(nn.LazyLinear(4), nn.LazyBatchNorm1d())

    def inner(self, x: Tensor) -> Tensor:
        return self.late(x)


class MadeInInferenceMode(Base):
    """A frozen copy whose weights nobody may ask for their version."""

    def __init__(self) -> None:
        super().__init__()
        with torch.inference_mode():
            self.copy = nn.Linear(4, 4).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        with torch.no_grad():
            self.copy(batch[0])
        return super().training_step(batch, batch_idx)


class OneElement(Base):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx).reshape(1)}


class NoRate(Base):
    """An optimizer without a learning rate."""

    def configure_optimizers(self) -> Any:
        class Rateless(torch.optim.Optimizer):
            def __init__(self, parameters: Any) -> None:
                super().__init__(parameters, {})

            @torch.no_grad()
            def step(self, closure: Any = None) -> Any:
                with torch.enable_grad():
                    loss = closure()
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter -= 1e-3 * parameter.grad
                return loss

        return Rateless(self.parameters())


class Transformed(Base):
    """Per-sample gradients by torch.func, inside of the step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        weights = dict(self.head.named_parameters())

        def loss(weights: Any, x: Tensor, y: Tensor) -> Tensor:
            return F.mse_loss(torch.func.functional_call(self.head, weights, x), y)

        hidden = self.net(batch[0])
        torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weights, hidden.detach(), batch[1])
        return F.mse_loss(self.head(hidden), batch[1])


class Tangents(Base):
    """Forward mode inside of the step: gradients of 0 in it are tensors without memory."""

    def inner(self, x: Tensor) -> Tensor:
        value, tangent = torch.func.jvp(self.net[0].forward, (x,), (torch.ones_like(x),))
        return x + 0.1 * (value + tangent).reshape(len(x), 4, -1).mean(-1)


class OtherModes(Base):
    """Modes of the user's own around the step's parts."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            hidden = self.net(batch[0])
        self.flops = counter.get_total_flops()
        return F.mse_loss(self.head(hidden), batch[1])


class Jagged(Base):
    """A nested tensor inside of the step."""

    def inner(self, x: Tensor) -> Tensor:
        rows = torch.nested.nested_tensor([x[:3], x[3:]], layout=torch.jagged)
        return torch.cat([part * 1.0 for part in rows.unbind()]) * 0 + x


class Scripted(Base):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.jit.script(self.net)


def labelled() -> type[Base]:
    """A temporary of a class that dies under any dispatch mode."""

    class Labelled(Tensor):
        @staticmethod
        def __new__(cls: type, data: Tensor, names: Any) -> Any:
            return Tensor.__new__(cls, data)

        def __init__(self, data: Tensor, names: Any) -> None:
            self.names_ = names

    class Net(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x = Labelled(batch[0] * 1.0, list("abcd"))
            return super().training_step((x.as_subclass(Tensor), batch[1]), batch_idx)

    return Net


def plain_subclass() -> type[Base]:
    """A class of tensors with no constructor of its own, made anew in each step."""

    class Marked(Tensor):
        pass

    class Net(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            made: Any = Marked
            return super().training_step((made(batch[0]).as_subclass(Tensor), batch[1]), batch_idx)

    return Net


def wrapper() -> type[Base]:
    """A weight of a class that allows no operation but the one it is made for."""

    class Sealed(Tensor):
        held: Tensor

        @staticmethod
        def __new__(cls: type, held: Tensor) -> Any:
            made = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)
            made.held = held
            return made

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.detach.default:
                return cls(args[0].held)
            raise NotImplementedError(f"{cls.__name__} does not know {func}")

    class Net(Base):
        def __init__(self) -> None:
            super().__init__()
            self.sealed = nn.Parameter(Sealed(torch.ones(4)), requires_grad=False)

        def inner(self, x: Tensor) -> Tensor:
            return x * self.sealed.held

    return Net


def answering_wrapper() -> type[Base]:
    """A weight, as a quantised model holds it, of a class whose every answer is one of its own class."""

    class Answering(Tensor):
        held: Tensor

        @staticmethod
        def __new__(cls: type, held: Tensor) -> Any:
            made = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype)
            made.held = held
            return made

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            plain = tree_map(lambda part: part.held if isinstance(part, cls) else part, (args, kwargs or {}))
            return tree_map(lambda part: cls(part) if isinstance(part, Tensor) else part, func(*plain[0], **plain[1]))

    class Net(Base):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(Answering(torch.ones(4)), requires_grad=False)

        def inner(self, x: Tensor) -> Tensor:
            return x * self.weight.held

    return Net


class SparseGradients(Base):
    """An embedding whose gradients are sparse, and an optimizer of its own for them, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.rows = nn.Embedding(9, 4, sparse=True)

    def inner(self, x: Tensor) -> Tensor:
        return x + self.rows((x[:, 0].detach() * 2).long().clamp(-4, 4) + 4)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self) -> Any:
        dense = [*self.net.parameters(), *self.head.parameters()]
        return [torch.optim.SparseAdam(self.rows.parameters(), 1e-3), torch.optim.Adam(dense, 1e-3)]


class Layered(Base):
    """A weight that is made of two tensors like itself, and makes all that it meets so."""

    def __init__(self) -> None:
        super().__init__()
        held = self.head.weight.detach()
        self.head.weight = nn.Parameter(TwoTensor(held.clone(), held.clone()))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-2)


class LayeredLoss(Base):
    """Plain weights, of a loss that is made of two tensors: only their gradients are of that class."""

    def inner(self, x: Tensor) -> Tensor:
        return x * TwoTensor(torch.ones(4), torch.ones(4))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 1e-2, momentum=0.5)


KINDS: dict[str, Callable[[], type[Base]]] = {
    **{kind.__name__: lambda kind=kind: kind for kind in (
        Spectral, SpectralDouble, ClippedByHand, Buffers, Packed, Lazy, MadeInInferenceMode, OneElement, NoRate,
        Transformed, Tangents, OtherModes, Jagged, Scripted, SparseGradients, Layered, LayeredLoss,
    )},
    "labelled": labelled, "plain_subclass": plain_subclass, "wrapper": wrapper,
    "answering_wrapper": answering_wrapper,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _classes_go_with_their_test(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.ERROR)
    yield
    gc.collect()


def fit(kind: type[Base], folder: Path, *, breaks: int = -1, callbacks: Any = ()) -> Base:
    pl.seed_everything(3)
    x = torch.randn(STEPS * 6, 4)
    data = DataLoader(TensorDataset(x, x[:, :1] * x[:, 1:2] + x.sum(1, keepdim=True)), 6)
    module = kind()
    module.breaks = breaks
    trainer = pl.Trainer(
        default_root_dir=folder, callbacks=list(callbacks), logger=False, accelerator="cpu", max_epochs=2,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return module


def journal(folder: Path) -> Events:
    return read_journal(folder / "debugkit")


@pytest.mark.parametrize("name", KINDS)
def test_a_healthy_run_is_left_in_peace(name: str, tmp_path: Path) -> None:
    kind = KINDS[name]()
    alone = fit(kind, tmp_path / "alone")
    drawn = torch.rand(1)
    watched = fit(kind, tmp_path / "watched", callbacks=debugkit("thorough"))
    assert torch.equal(torch.rand(1), drawn)

    events = journal(tmp_path / "watched")
    assert events.of_kind("trouble") == []
    assert [f"{one.rule}: {one.message}" for one in events.findings if one.severity >= Severity.WARNING] == []
    both = zip(alone.named_parameters(), watched.named_parameters(), strict=True)
    plain = [(n, getattr(a, "held", a), getattr(b, "held", b)) for (n, a), (_, b) in both]
    assert [name for name, a, b in plain if not torch.equal(a, b)] == []


@pytest.mark.parametrize(
    "name",
    [
        "Spectral",
        "SpectralDouble",
        "Buffers",
        "Packed",
        "NoRate",
        "Tangents",
        "Layered",
        "LayeredLoss",
        "wrapper",
        "answering_wrapper",
        "labelled",
    ],
)
def test_what_breaks_in_the_midst_of_it_is_found(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        fit(KINDS[name](), tmp_path, breaks=8, callbacks=debugkit("standard"))
    assert raised.value.finding.rule == "nonfinite-loss"
    assert raised.value.finding.where.step == 8
    assert journal(tmp_path).of_kind("trouble") == []


def test_a_step_that_torch_refuses_under_instruments_says_what_makes_it_so(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        fit(labelled(), tmp_path, breaks=8, callbacks=debugkit("standard"))
    assert "could not be run again" in raised.value.finding.message
    assert "Labelled is made by Tensor.__new__" in raised.value.finding.message
    assert "RuntimeError" not in raised.value.finding.message


@pytest.mark.parametrize("make", [labelled, plain_subclass])
def test_what_is_left_out_is_said_once(make: Callable[[], type[Base]], tmp_path: Path) -> None:
    fit(make(), tmp_path, callbacks=debugkit("thorough"))
    measures = [one for one in journal(tmp_path).of_kind("measure") if one["name"] == "activations-unseen"]
    (why,) = [one["value"]["everything"] for one in measures]
    assert "is made by Tensor.__new__, which fails under any dispatch mode of torch" in why


def test_modes_of_the_user_count_what_they_would_count_alone(tmp_path: Path) -> None:
    alone = fit(OtherModes, tmp_path / "alone")
    watched = fit(OtherModes, tmp_path / "watched", callbacks=debugkit("thorough"))
    assert watched.flops == alone.flops > 0


def test_a_weight_that_gives_no_numbers_is_said_to_be_left_out(tmp_path: Path) -> None:
    fit(wrapper(), tmp_path, callbacks=debugkit("standard"))
    told = [one["value"]["why"] for one in journal(tmp_path).of_kind("measure") if one["name"] == "gradients-unseen"]
    assert told == ["parameters of class Sealed, which give no numbers"]
