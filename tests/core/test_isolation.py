"""What a replay could change is put back, also when it raises."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor, nn

from lightning_debugkit.core.isolation import isolated


class Model(nn.Module):
    """Everything that a user's module may keep."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.count = 0
        self.losses = [1.0, 2.0]
        self.cache = {"a": 1, "deep": {"list": [1, 2]}}
        self.recent = deque([1, 2, 3], maxlen=3)
        self.seen = {1, 2}
        self.hidden = torch.zeros(4)
        self.states = [torch.zeros(2), torch.zeros(2)]
        self.metric = torchmetrics.MeanMetric()
        self.accuracy = torchmetrics.CatMetric()
        self.metric.update(torch.tensor(3.0))
        self.accuracy.update(torch.tensor([1.0]))


def bn(model: Model) -> None:
    model.net(torch.randn(8, 3))


def backward(model: Model) -> None:
    model.net(torch.randn(8, 3)).sum().backward()


def weights(model: Model) -> None:
    with torch.no_grad():
        model.net[0].weight.mul_(2)


def in_place(name: str) -> Callable[[Model], None]:
    return {
        "count": lambda model: setattr(model, "count", model.count + 1),
        "list": lambda model: model.losses.append(3.0),
        "list cleared": lambda model: model.losses.clear(),
        "dict": lambda model: model.cache.update(b=2),
        "deep list": lambda model: model.cache["deep"]["list"].append(3),
        "deque": lambda model: model.recent.append(4),
        "set": lambda model: model.seen.add(3),
        "hidden state in place": lambda model: model.hidden.add_(1),
        "hidden state anew": lambda model: setattr(model, "hidden", torch.ones(4)),
        "states in a list": lambda model: model.states[1].add_(1),
        "states exchanged": lambda model: model.states.__setitem__(0, torch.ones(2)),
        "metric": lambda model: model.metric.update(torch.tensor(9.0)),
        "metric's computed value": lambda model: model.metric.compute(),
        "metric with a list": lambda model: model.accuracy.update(torch.tensor([2.0])),
        "metric reset": lambda model: model.metric.reset(),
        "added attribute": lambda model: setattr(model, "extra", 1),
        "added buffer": lambda model: model.register_buffer("late", torch.ones(1)),
        "added module": lambda model: model.add_module("new", nn.Linear(2, 2)),
        "deleted attribute": lambda model: delattr(model, "losses"),
        "modes": lambda model: model.eval(),
        "one mode": lambda model: model.net[1].eval(),
        "frozen": lambda model: model.requires_grad_(False),
        "parameter exchanged": lambda model: setattr(model.net[0], "weight", nn.Parameter(torch.zeros(4, 3))),
        "batch norm": bn,
        "gradients": backward,
        "weights": weights,
    }[name]


CHANGES = [
    "count",
    "list",
    "list cleared",
    "dict",
    "deep list",
    "deque",
    "set",
    "hidden state in place",
    "hidden state anew",
    "states in a list",
    "states exchanged",
    "metric",
    "metric's computed value",
    "metric with a list",
    "metric reset",
    "added attribute",
    "added buffer",
    "added module",
    "deleted attribute",
    "modes",
    "one mode",
    "frozen",
    "parameter exchanged",
    "batch norm",
    "gradients",
    "weights",
]


def plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [plain(item) for item in value]
    return value


def portrait(model: Model) -> dict[str, Any]:
    """All that can be seen of the model."""
    parts = {}
    for name, part in model.named_modules():
        shown = {key: plain(value) for key, value in vars(part).items() if not callable(value)}
        parts[name] = {key: value for key, value in shown.items() if key not in ("_modules", "_parameters")}
        parts[name]["children"] = list(part._modules)
        for key, p in part._parameters.items():
            grad = None if p is None or p.grad is None else p.grad.tolist()
            parts[name][key] = None if p is None else (id(p), p.tolist(), p.requires_grad, grad, id(p.grad))
    return parts


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("raises", [False, True], ids=["", "and raises"])
def test_a_change_is_put_back(name: str, raises: bool) -> None:
    model = Model()
    model.net(torch.ones(8, 3)).sum().backward()
    before = portrait(model)
    try:
        with isolated(model):
            in_place(name)(model)
            if name != "gradients":
                assert portrait(model) != before
            if raises:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert raises
    assert portrait(model) == before


def test_gradients_are_absent_within_and_the_same_objects_after() -> None:
    model = Model()
    model.net(torch.ones(8, 3)).sum().backward()
    kept = [p.grad for p in model.parameters()]
    with isolated(model):
        assert [p.grad for p in model.parameters()] == [None] * len(kept)
    assert all(p.grad is grad for p, grad in zip(model.parameters(), kept, strict=True))


def test_a_graph_that_waits_for_its_backward_stays_valid() -> None:
    """The replay runs between forward and step: version counters must not move."""
    model = Model()
    loss = model.net(torch.ones(8, 3)).square().sum()
    versions = [tensor._version for tensor in (*model.parameters(), *model.buffers())]
    with isolated(model):
        weights_changed = model.net[0].weight
        weights_changed.data.mul_(2)
        model.net[1].running_mean.data.add_(1)
    assert [tensor._version for tensor in (*model.parameters(), *model.buffers())] == versions
    loss.backward()


def test_nan_in_a_buffer_is_put_back_as_it_was() -> None:
    model = Model()
    model.net[1].running_mean.fill_(float("nan"))
    with isolated(model):
        model.net[1].running_mean.zero_()
    assert model.net[1].running_mean.isnan().all()


def test_a_negative_zero_is_put_back_as_it_was() -> None:
    """The weights are the same to the bit: 0 and -0 are not."""
    model = Model()
    with torch.no_grad():
        model.net[0].bias.copy_(torch.full((4,), -0.0))
    with isolated(model), torch.no_grad():
        model.net[0].bias.zero_()
    assert model.net[0].bias.signbit().all()


class Labelled(Tensor):
    """Has a name for each column, and refuses a shape that they do not fit, as those of some libraries do."""

    def __new__(cls, numbers: Tensor) -> Labelled:
        # Classes made by Tensor's own __new__ keep the kit from entering any mode in this process.
        return numbers.as_subclass(cls)

    def reshape(self, *shape: Any) -> Tensor:
        raise ValueError("two labels do not fit this shape")

    def clone(self, *args: Any, **kwargs: Any) -> Tensor:
        raise ValueError("labels are not copied")


def test_a_tensor_of_a_class_that_refuses_other_shapes_is_put_back() -> None:
    model = nn.Linear(2, 1)
    model.points = Labelled(torch.ones(3, 2))
    plain = model.points.as_subclass(Tensor)
    with isolated(model):
        plain.zero_()
    assert torch.equal(plain, torch.ones(3, 2))
    assert type(model.points) is Labelled


def test_random_numbers_go_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    with isolated(Model()) as _:
        pass
    torch.manual_seed(0)
    model = Model.__new__(Model)
    nn.Module.__init__(model)
    with isolated(model):
        torch.rand(100)
    assert torch.rand(2).tolist() == expected


def test_prints_and_warnings_are_heard_once_only(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with isolated(Model()):
            print("step")
            print("step", file=sys.stderr)
            warnings.warn("step", stacklevel=1)
    assert (capsys.readouterr(), caught) == (("", ""), [])
    print("after")
    assert capsys.readouterr().out == "after\n"


def test_what_a_step_logs_is_not_logged_again_and_other_threads_go_on(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def say(who: str) -> None:
        print(who)
        sys.stderr.writelines([who])
        logging.getLogger("of.the.program").warning(who)

    with isolated(Model()):
        say("step")
        thread = threading.Thread(target=say, args=("other",))
        thread.start()
        thread.join()
    say("after")
    assert caplog.messages == ["other", "after"]
    assert capsys.readouterr() == ("other\nafter\n", "otherafter")


def test_gradients_are_on_within_no_grad() -> None:
    with torch.no_grad():
        with isolated(Model()):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()


def test_synchronised_batch_norm_works_on_its_own_batch_and_is_itself_again() -> None:
    forward = nn.SyncBatchNorm.forward
    model = nn.Sequential(nn.SyncBatchNorm(3))
    with isolated(model):
        assert nn.SyncBatchNorm.forward is not forward
        assert model(torch.randn(8, 3)).shape == (8, 3)
    assert nn.SyncBatchNorm.forward is forward


def test_the_trainer_of_a_module_is_not_copied_or_touched() -> None:
    model = Model()
    model.__dict__["_trainer"] = trainer = {"step": 0}
    with isolated(model):
        trainer["step"] = 1
    assert trainer == {"step": 1}
