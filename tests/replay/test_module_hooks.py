"""Hooks on module outputs name the module that broke first, and break nothing themselves."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from replay.steps import Net, X
from torch import Tensor, nn

from lightning_debugkit.replay.module_hooks import ModuleHooks


def run(model: nn.Module, x: Tensor = X) -> ModuleHooks:
    hooks = ModuleHooks(model)
    model(x).square().mean().backward()
    return hooks


@pytest.mark.parametrize("inplace", [nn.ReLU(inplace=True), nn.Dropout(0.0, inplace=True), nn.SiLU(inplace=True)])
def test_in_place_layers_work_and_gradients_are_the_same(inplace: nn.Module) -> None:
    """Full backward hooks raise here."""
    alone = Net(nn.Sequential(nn.Linear(4, 4), inplace))
    watched = copy.deepcopy(alone)
    alone(X).square().mean().backward()
    run(watched)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(alone.parameters(), watched.parameters(), strict=True))


def test_a_healthy_step_has_no_bad_module() -> None:
    hooks = run(Net(nn.ReLU(inplace=True)))
    assert (hooks.first_bad_activation(), hooks.first_bad_gradient()) == (None, None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_module_with_a_bad_output_is_named(value: float) -> None:
    hooks = run(Net(lambda h: h * value))
    assert hooks.first_bad_activation() == "middle"


def test_the_first_module_whose_gradient_breaks_is_named() -> None:
    """sqrt at 0: the output of the middle has a finite gradient, what went into it has not."""
    hooks = run(Net(lambda h: torch.sqrt(h * 0)))
    assert hooks.first_bad_activation() is None
    assert hooks.first_bad_gradient() == "first"


def test_a_large_half_precision_output_is_not_called_bad() -> None:
    """Its sum overflows float16, itself it does not."""
    hooks = run(Net(lambda h: torch.full((8, 4), 6e4, dtype=torch.float16).float() * 1 + h * 0))
    half = nn.Sequential(nn.Identity())
    watch = ModuleHooks(half)
    half(torch.full((64,), 6e4, dtype=torch.float16))
    assert (hooks.first_bad_activation(), watch.first_bad_activation()) == (None, None)


def test_outputs_of_all_shapes_are_looked_into() -> None:
    class Deep(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return {"a": [x, (x / 0,)], "n": 3, "indices": torch.ones(2, dtype=torch.long)}

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.deep = Deep()

        def forward(self, x: Tensor) -> Tensor:
            return self.deep(x.requires_grad_())["a"][0]

    assert run(Model(), X.clone()).first_bad_activation() == "deep"


def test_what_runs_without_gradients_is_not_kept() -> None:
    model = Net()
    hooks = ModuleHooks(model)
    with torch.no_grad():
        model(X)
    assert hooks.activations == []


def test_clear_forgets_and_remove_takes_all_hooks_away() -> None:
    model = Net()
    hooks = run(model)
    assert hooks.activations
    assert hooks.gradients
    hooks.clear()
    assert (hooks.activations, hooks.gradients) == ([], [])
    hooks.remove()
    model(X)
    assert hooks.activations == []
    assert all(not part._forward_hooks for part in model.modules())


def test_no_graph_is_kept_alive() -> None:
    hooks = run(Net())
    assert all(not total.requires_grad for _, total in (*hooks.activations, *hooks.gradients))


class Strict(Tensor):
    """Knows a few operations, as quantities with units do, and refuses all others."""

    def __new__(cls, data: Tensor) -> Strict:
        return data.as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__ not in ("linear", "relu", "square", "mean", "backward", "__get__"):
            raise TypeError(f"{func.__name__} is not defined")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_class_that_refuses_other_operations_is_heard() -> None:
    hooks = run(Net(nn.ReLU()), Strict(X))
    assert hooks.error is None
    assert [name for name, _ in hooks.activations] == ["first", "middle", "head"]
    assert [name for name, _ in hooks.gradients] == ["head", "middle", "first"]
