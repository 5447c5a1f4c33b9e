"""Where on the way from a parameter to the loss the gradient is cut off or quenched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from replay.steps import Net, X, step_of
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_debugkit.replay.autograd_graph import Wiring, reached, wiring


def wired(model: nn.Module, loss: Callable[[nn.Module, Any], Tensor] | None = None, batch: Any = X) -> Wiring:
    """The wiring of one step; the loss is the mean square of the output unless another is given."""
    step = step_of(model, batch, loss or (lambda model, part: model(part).square().mean()))
    return wiring(step, list(model.parameters()))


def names(model: nn.Module, identities: Any) -> set[str]:
    return {name for name, p in model.named_parameters() if id(p) in identities}


FIRST = {"first.weight", "first.bias"}
HEAD = {"head.weight", "head.bias"}


def test_a_sound_network_is_reached_whole() -> None:
    model = Net(nn.ReLU(inplace=True))
    found = wired(model)
    assert names(model, found.reached) == names(model, found.used) == FIRST | HEAD
    assert (found.cuts, found.zeros) == ({}, {})


def test_reached_agrees_with_autograd() -> None:
    model = Net(lambda h: h.detach() + 1)
    loss = model(X).sum()
    grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    given = {name for (name, _), grad in zip(model.named_parameters(), grads, strict=True) if grad is not None}
    assert names(model, reached(loss)) == given == HEAD


def test_a_loss_without_a_graph_reaches_nothing() -> None:
    assert reached(torch.ones(())) == {}


def no_grad(h: Tensor) -> Tensor:
    with torch.no_grad():
        return h * 2


CUTS: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "detach": (lambda h: h.detach(), "detach", "h.detach()"),
    "data": (lambda h: h.data * 1, "data", "h.data"),
    "no_grad": (no_grad, "mul", "return h * 2"),
    "argmax": (lambda h: F.one_hot(h.argmax(1), 4).float(), "argmax", "h.argmax(1)"),
    "comparison": (lambda h: (h > 0).float(), "__gt__", "(h > 0)"),
    "integers": (lambda h: h.long().float(), "long", "h.long()"),
    "tolist": (lambda h: torch.tensor(h.tolist()), "tolist", "h.tolist()"),
    "numpy": (lambda h: torch.from_numpy(h.detach().numpy()), "detach", "h.detach()"),
}


@pytest.mark.parametrize("name", CUTS)
def test_what_cuts_the_graph_is_named_with_its_line(name: str) -> None:
    middle, function, line = CUTS[name]
    model = Net(middle)
    found = wired(model)
    assert names(model, found.reached) == HEAD
    assert names(model, found.cuts) == FIRST
    calls = set(found.cuts.values())
    assert {call.name for call in calls} in ({function}, {function.strip("_")})
    assert all(line in call.place.source and call.place.module == "middle" for call in calls)


def test_a_loss_made_of_numbers_is_cut_at_item() -> None:
    model = Net()

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        value = model(x).square().mean().item()
        return torch.tensor(value, requires_grad=True)

    found = wired(model, loss)
    assert names(model, found.cuts) == FIRST | HEAD
    assert {call.name for call in found.cuts.values()} == {"item"}


def test_what_metrics_do_is_not_blamed() -> None:
    """argmax, item and detach beside the way to the loss cut nothing."""
    model = Net()

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        out = model(x)
        accuracy = (out.argmax(1) == 0).float().mean()
        float(accuracy), out.detach().mean().item(), out.tolist()
        return out.square().mean()

    found = wired(model, loss)
    assert (found.cuts, found.zeros) == ({}, {})


def test_a_frozen_teacher_is_not_cut() -> None:
    model = Net()
    model.teacher = nn.Linear(3, 1).requires_grad_(False)

    def loss(model: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = model.teacher(x)
        return F.mse_loss(model(x), target)

    found = wired(model, loss)
    assert names(model, found.cuts) == set()
    assert names(model, found.used) == FIRST | HEAD | {"teacher.weight", "teacher.bias"}


def test_a_parameter_that_is_not_used_is_neither_reached_nor_cut() -> None:
    model = Net()
    model.idle = nn.Linear(2, 2)
    found = wired(model)
    assert names(model, found.reached) == FIRST | HEAD
    assert found.cuts == {}
    assert names(model, found.used) == FIRST | HEAD


@pytest.mark.parametrize("flat", [torch.floor, torch.ceil, torch.round, torch.trunc, torch.sign])
def test_a_flat_operation_quenches_always(flat: Callable[[Tensor], Tensor]) -> None:
    model = Net(lambda h: flat(h * 10))
    found = wired(model)
    assert names(model, found.zeros) == FIRST
    for op, place, always in found.zeros.values():
        assert (op, place.module, always) == (flat.__name__, "middle", True)
        assert "flat(h * 10)" in place.source


@pytest.mark.parametrize("saturated", [lambda h: torch.relu(h - 1e3), lambda h: torch.sigmoid(h - 1e3)])
def test_a_saturated_operation_quenches_now(saturated: Callable[[Tensor], Tensor]) -> None:
    model = Net(saturated)
    found = wired(model)
    assert names(model, found.zeros) == FIRST
    assert {always for _, _, always in found.zeros.values()} == {False}


def test_a_softmax_over_one_class_quenches() -> None:
    model = Net()
    found = wired(model, lambda model, x: torch.softmax(model(x), dim=1).sub(0.5).square().mean())
    assert names(model, found.zeros) == FIRST | HEAD
    assert {op for op, _, _ in found.zeros.values()} == {"softmax"}


@pytest.mark.parametrize(("places", "dim", "is_meant"), [(1, 1, True), (3, 2, False)])
def test_whether_a_softmax_over_size_1_was_to_choose_in_it(places: int, dim: int, is_meant: bool) -> None:
    """Of one place there is nothing to choose; of three, the weights that are summed are over another dimension."""

    def loss(model: Net, x: Tensor) -> Tensor:
        seen = x[:, None].repeat(1, places, 1)
        return (torch.softmax(model(seen), dim=dim) * seen).sum(dim=1).square().mean()

    model = Net()
    assert list(wired(model, loss).one_entry.values()) == [is_meant] * len(FIRST | HEAD)


def test_a_product_with_zero_is_the_values_doing() -> None:
    """LoRA's zero start and an expert that is not chosen are healthy."""
    assert wired(Net(lambda h: h * 0)).zeros == {}


def test_the_straight_through_trick_is_sound() -> None:
    model = Net(lambda h: h + (torch.round(h * 10) / 10 - h).detach())
    found = wired(model)
    assert names(model, found.reached) == FIRST | HEAD
    assert (found.cuts, found.zeros) == ({}, {})


def test_the_model_is_left_as_it_was() -> None:
    model = Net(nn.BatchNorm1d(4))
    model(X).sum().backward()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = [p.grad for p in model.parameters()]
    wired(model)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is grad for p, grad in zip(model.parameters(), grads, strict=True))
    assert not model.first._forward_hooks
