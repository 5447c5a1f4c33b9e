"""The first bad number is found where it was born, and what is meant to be infinite is not blamed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from replay.steps import Net, X, diagnosed, step_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.replay.diagnosis import Diagnosis, diagnose


def told(found: Diagnosis | None) -> tuple[str, str, str]:
    assert found is not None
    return found.origin, found.op, found.module


def with_row(row: int, value: float) -> Tensor:
    x = X.clone()
    x[row] = value
    return x


# --- born in the loss ---------------------------------------------------------------------------------------------


def test_log_of_zero_in_the_step() -> None:
    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return (model(x).squeeze(1) - torch.log(x.abs().sum(1))).abs().mean()

    found = diagnosed(Net(), with_row(5, 0), loss)
    assert told(found) == ("loss", "aten.log.default", "")
    assert (found.value, found.samples, found.note, found.loss) == ("inf", [5], "", math.inf)
    line = loss.__code__.co_firstlineno + 1
    text = "return (model(x).squeeze(1) - torch.log(x.abs().sum(1))).abs().mean()"
    assert found.source == f"replay/test_diagnosis.py:{line}: {text}"


def test_zero_by_zero_in_the_step() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        x, mask = batch
        return ((model(x) * mask).sum(1) / mask.sum(1)).mean()

    mask = torch.ones(8, 1)
    mask[2] = 0
    found = diagnosed(Net(), (X, mask), loss)
    assert told(found) == ("loss", "aten.div.Tensor", "")
    assert (found.value, found.samples) == ("nan", [2])
    assert found.loss is not None
    assert math.isnan(found.loss)


def test_a_healthy_step_has_no_diagnosis() -> None:
    assert diagnosed(Net(nn.ReLU(inplace=True))) is None


# --- born in a module's forward -----------------------------------------------------------------------------------


class Attention(nn.Module):
    """Scores of each row with each, masked by -inf."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        scores = (x @ x.T).masked_fill(self.mask, float("-inf"))
        return torch.softmax(scores, dim=1) @ x


def test_a_fully_masked_row_is_born_in_softmax_not_in_the_mask() -> None:
    mask = torch.eye(8, dtype=torch.bool)
    mask[3] = True
    found = diagnosed(Net(Attention(mask)))
    assert told(found) == ("activation", "aten._softmax.default", "middle")
    assert "torch.softmax(scores, dim=1)" in found.source


@pytest.mark.parametrize("kind", ["masked_fill", "buffer", "batch", "constant"])
def test_a_mask_of_infinities_is_not_blamed_for_what_breaks_elsewhere(kind: str) -> None:
    """Only the last line is wrong; the -inf is put there on purpose in four ways."""
    causal = torch.ones(8, 8, dtype=torch.bool).triu(1)
    infinite = torch.zeros(8, 8).masked_fill(causal, float("-inf"))

    class Masked(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", infinite if kind == "buffer" else torch.zeros(1))

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            h = self.first(x)
            scores = h @ h.T
            if kind == "masked_fill":
                scores = scores.masked_fill(causal, -math.inf)
            else:
                scores = scores + {"buffer": self.mask, "batch": mask, "constant": infinite}[kind]
            return self.head(torch.softmax(scores, 1) @ h)

    def healthy(model: nn.Module, batch: Any) -> Tensor:
        return model(*batch).square().mean()

    def wrong(model: nn.Module, batch: Any) -> Tensor:
        return torch.sqrt(-model(*batch).square()).mean()

    batch = (X, infinite if kind == "batch" else torch.zeros(8, 8))
    assert diagnosed(Masked(), batch, healthy) is None
    assert told(diagnosed(Masked(), batch, wrong)) == ("loss", "aten.sqrt.default", "")


@pytest.mark.parametrize(
    "gives_infinity",
    [lambda x: x * math.inf, lambda x: x.masked_fill(x > 0, -math.inf)],
    ids=["factor", "fill"],
)
def test_an_infinity_by_name_that_a_layer_multiplies_is_no_mask(gives_infinity: Callable[[Tensor], Tensor]) -> None:
    """The layer that makes NaN of it is sound."""
    found = diagnosed(Net(gives_infinity))
    assert found is not None
    assert (found.module, found.value, found.cause) == ("middle", "inf", "infinity")


def test_a_mask_that_a_product_adds_is_not_blamed_for_its_overflow() -> None:
    """The scores of the masked pairs overflow: inf - inf."""
    mask = torch.zeros(1, 8, 8).masked_fill(torch.ones(8, 8).triu(1).bool(), -math.inf)

    def scores(model: nn.Module, x: Tensor) -> Tensor:
        large = 1e30 * torch.ones(1, 8, 1) * model(x).square().mean().clamp(min=1)
        return torch.baddbmm(mask, large, large.transpose(1, 2)).softmax(-1).sum()

    found = diagnosed(Net(), X, scores)
    assert found is not None
    assert found.op.startswith("aten.baddbmm")


def test_overflow_is_named_by_its_product() -> None:
    model = Net(lambda h: h * 1e30 * 1e30)
    found = diagnosed(model)
    assert told(found) == ("activation", "aten.mul.Tensor", "middle")
    assert found.value == "inf"


def test_in_place_operations_are_followed() -> None:
    def middle(h: Tensor) -> Tensor:
        h = h.clone()
        h[:, 0].sub_(h[:, 0]).log_()
        h.add_(1).mul_(2)
        return h

    assert told(diagnosed(Net(middle))) == ("activation", "aten.log_.default", "middle")


def test_a_value_overwritten_before_it_is_used_is_not_blamed() -> None:
    """The buffer once held NaN; what counts is what it holds when it is read."""

    def middle(h: Tensor) -> Tensor:
        store = torch.log(-h.abs() - 1)
        store.copy_(h)
        return h / (store - h)

    assert told(diagnosed(Net(middle))) == ("activation", "aten.div.Tensor", "middle")


def test_uninitialised_memory_is_not_blamed() -> None:
    """What lay in the memory may be NaN: nobody made it so."""

    def middle(h: Tensor) -> Tensor:
        torch.full((8, 4), math.nan)  # freed at once: the next tensor of that size may be given its memory
        store = torch.empty(8, 4)
        return torch.rsqrt(store.copy_(h.detach()) * 0) + h

    assert told(diagnosed(Net(middle))) == ("activation", "aten.rsqrt.default", "middle")


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_batch_norm_is_not_blamed_for_the_batch_that_spoiled_its_statistics(value: float) -> None:
    """Its running mean holds NaN once the batch has gone through, and is not what broke the output."""
    model = Net(nn.BatchNorm1d(4))
    x = with_row(6, value)
    model(x)  # the run's own step, before the replay
    assert not model.middle.running_mean.isfinite().all()
    found = diagnosed(model, x)
    assert (found.origin, found.samples) == ("input", [6])


def test_statistics_that_are_read_are_blamed() -> None:
    model = Net(nn.BatchNorm1d(4).eval())
    model.middle.running_mean[1] = math.nan
    found = diagnosed(model)
    assert (found.origin, found.module, found.path) == ("parameter", "middle.running_mean", "buffer")


# --- brought along ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_input_is_named_by_path_and_sample(value: float) -> None:
    batch = {"x": [with_row(4, value)], "y": torch.zeros(8, 1)}
    found = diagnosed(Net(), batch, lambda model, part: F.mse_loss(model(part["x"][0]), part["y"]))
    assert (found.origin, found.path, found.samples) == ("input", "x.0", [4])


def test_a_broken_target_is_named_by_path_and_sample() -> None:
    y = torch.zeros(8, 1)
    y[7] = math.nan
    found = diagnosed(Net(), (X, y), lambda model, part: F.mse_loss(model(part[0]), part[1]))
    assert (found.origin, found.path, found.samples) == ("input", "1", [7])


def test_a_broken_weight_is_named() -> None:
    model = Net()
    with torch.no_grad():
        model.head.weight[0, 2] = math.nan
    found = diagnosed(model)
    assert (found.origin, found.module, found.path, found.samples) == ("parameter", "head.weight", "parameter", ())


@pytest.mark.parametrize("which", ["weight_norm", "spectral_norm", "orthogonal"])
def test_a_healthy_parametrized_model_is_left_in_peace(which: str) -> None:
    model = Net()
    getattr(parametrizations, which)(model.first)
    assert diagnosed(model) is None


def test_a_parametrization_that_breaks_is_named() -> None:
    """Weight norm of a row of zeros divides by its norm."""
    model = Net()
    parametrizations.weight_norm(model.first)
    with torch.no_grad():
        model.first.parametrizations.weight.original1[0] = 0
    found = diagnosed(model)
    assert found is not None
    assert found.module.startswith("first")
    assert found.origin != "parameter"


# --- born in the backward -----------------------------------------------------------------------------------------


def test_sqrt_at_zero_breaks_backwards_only() -> None:
    def loss(model: nn.Module, x: Tensor) -> Tensor:
        return (
            model(torch.ones(3)).sum() + torch.sqrt((model.first.weight * x[:, :1, None]).square().sum((1, 2))).mean()
        )

    found = diagnosed(Net(), with_row(2, 0), loss)
    assert told(found) == ("gradient", "aten.sqrt.default", "")
    assert (found.backward, found.parameters, found.samples) == ("SqrtBackward0", ("first.weight",), [2])
    assert "torch.sqrt(" in found.source
    assert math.isfinite(found.loss)


def test_the_branch_that_where_does_not_take_is_named() -> None:
    """The forward never uses log(0): its gradient is 0 * inf all the same."""

    def middle(h: Tensor) -> Tensor:
        positive = h * (h > 0)
        return torch.where(positive > 0, torch.log(positive), positive)

    found = diagnosed(Net(middle))
    assert told(found) == ("gradient", "aten.log.default", "middle")
    assert "torch.log(positive)" in found.source


class Broken(torch.autograd.Function):
    """Wrong in forward or in backward."""

    forwards = False

    @staticmethod
    def forward(ctx: Any, h: Tensor, forwards: bool) -> Tensor:
        return torch.log(h * 0 - 1) if forwards else h.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.div(grad * 0, 0.0), None


def test_a_custom_function_that_breaks_forwards_is_named_by_its_line() -> None:
    found = diagnosed(Net(lambda h: Broken.apply(h, True)))
    assert told(found) == ("activation", "aten.log.default", "middle")
    assert "torch.log(h * 0 - 1)" in found.source


def test_a_custom_function_that_breaks_backwards_is_named_by_its_call_and_its_line() -> None:
    found = diagnosed(Net(lambda h: Broken.apply(h, False)))
    assert told(found) == ("gradient", "Broken", "middle")
    assert "Broken.apply(h, False)" in found.source
    assert "torch.div(grad * 0, 0.0)" in found.backward_source


def test_a_hook_that_breaks_a_gradient_is_not_blamed_on_an_operation_elsewhere() -> None:
    def middle(h: Tensor) -> Tensor:
        h.register_hook(lambda grad: grad * math.nan)
        return h

    found = diagnosed(Net(middle))
    assert found is not None
    assert (found.origin, set(found.parameters)) == ("gradient", {"first.weight", "first.bias"})
    assert "sqrt" not in found.op


@pytest.mark.parametrize("break_it", [torch.log, torch.sqrt])
def test_activation_checkpointing_is_seen_through(break_it: Callable[[Tensor], Tensor]) -> None:
    """log(0) breaks in forward; sqrt at 0 in the backward of what is computed a second time."""

    class Inner(nn.Module):
        def forward(self, h: Tensor) -> Tensor:
            return break_it(h * 0)

    class Checkpointed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.head(checkpoint(self.middle, self.first(x), use_reentrant=False))

    found = diagnosed(Checkpointed(Inner()))
    assert (found.origin, found.module) == ("activation" if break_it is torch.log else "gradient", "middle")
    assert found.op == f"aten.{break_it.__name__}.default"
    assert "break_it(h * 0)" in found.source


# --- the random numbers of the step -------------------------------------------------------------------------------


def test_dropout_draws_what_it_drew_in_the_run() -> None:
    """The fault strikes for one mask in a thousand: with another one it would not be found."""

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        kept = F.dropout(torch.ones(10), 0.5)
        return model(x).square().mean() / (kept * torch.arange(10)).sum().sub(18.0)

    for seed in range(10_000):
        torch.manual_seed(seed)
        if float((F.dropout(torch.ones(10), 0.5) * torch.arange(10)).sum()) == 18:
            break
    torch.manual_seed(seed)
    model = Net()
    torch.manual_seed(seed)
    state = RandomState.capture()
    torch.rand(1000)
    step = step_of(model, X, loss)
    found = diagnose(type(step)(step.module, step.batch, state, step.run))
    assert told(found) == ("loss", "aten.div.Tensor", "")


# --- nothing is left behind ---------------------------------------------------------------------------------------


def test_a_diagnosis_leaves_model_and_generators_as_they_were() -> None:
    model = Net(nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5)))
    model(X).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [p.grad for p in model.parameters()]
    random = torch.get_rng_state()
    assert diagnosed(model, with_row(0, math.nan)) is not None
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), random)


def test_what_the_step_raises_is_raised() -> None:
    def loss(model: nn.Module, x: Tensor) -> Tensor:
        raise ZeroDivisionError("no")

    with pytest.raises(ZeroDivisionError, match="no"):
        diagnosed(Net(), X, loss)


def test_a_batch_that_cannot_be_split_says_so() -> None:
    batch = (torch.ones(4, 3), torch.ones(5))
    found = diagnosed(Net(), batch, lambda model, part: torch.log(model(part[0]).mean() * 0))
    assert found.samples == []
    assert found.note == "the batch cannot be split into samples: batch[0] has 4 entries and batch[1] has 5"
