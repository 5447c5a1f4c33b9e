"""What one look sees: the operation whatever calls it, its units, its layer, and what it cannot see."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint

from lightning_debugkit.monitors.activations.observed_activations import ObservedActivations, read_activations
from lightning_debugkit.monitors.activations.operation_mode import OperationMode
from lightning_debugkit.monitors.activations.unit_rules import UnitCounts


def look(module: nn.Module, step: Callable[[], Tensor], batch: Any = None) -> ObservedActivations:
    """Look at one step: ``step`` returns the loss."""
    watch = OperationMode(module)
    watch.gathered.saw_batch(torch.arange(2) if batch is None else batch)
    with watch:
        loss = step()
    if watch.error is not None:
        raise watch.error
    with torch.no_grad():
        watch.gathered.reaches(loss)
        return read_activations(watch.gathered, module)


def only(found: ObservedActivations) -> UnitCounts:
    (seen,) = found.seen
    return seen


class Half(nn.Module):
    """A layer, ``act``, a layer; the first two of four units lie 9 below what enters them."""

    def __init__(self, act: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 4) if layer is None else layer
        self.head = nn.LazyLinear(3)
        self.act = act
        with torch.no_grad():
            self.layer.bias[:2] -= 9

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.layer(x)).flatten(1))


def step(net: nn.Module, *shape: int) -> Callable[[], Tensor]:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    net(x)  # lazy layers
    return lambda: net(x).square().mean()


class Rectifier(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


CUTS = {
    "nn.ReLU": nn.ReLU(),
    "nn.ReLU in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "relu_": torch.relu_,
    "clamp": lambda x: x.clamp(min=0),
    "clamp_min": lambda x: x.clamp_min(0.0),
    "nn.ReLU6": nn.ReLU6(),
    "threshold": lambda x: F.threshold(x, 0, 0),
    "gelu": F.gelu,
    "silu in place": nn.SiLU(inplace=True),
    "elu": F.elu,
    "selu": F.selu,
    "softplus": F.softplus,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "scripted": torch.jit.script(Rectifier()),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", CUTS)
def test_dead_units_are_seen_whatever_the_function_and_whoever_calls_it(name: str) -> None:
    net = Half(CUTS[name])
    seen = only(look(net, step(net, 64, 5)))
    assert seen.flags.tolist() == [True, True, False, False]
    assert (seen.site.layer, seen.site.is_inner, seen.site.is_direct, seen.site.trains) == ("layer", True, True, True)
    assert (seen.site.samples, seen.site.rows) == (64, 64)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (partial(nn.Linear, 5, 4), (6, 4, 5)),  # as many places as units
        (partial(nn.Conv1d, 5, 4, 1), (6, 5, 4)),
        (partial(nn.Conv2d, 5, 4, 3, padding=1), (6, 5, 4, 4)),
        (partial(nn.ConvTranspose2d, 5, 4, 1), (6, 5, 4, 4)),
        (partial(nn.Conv3d, 5, 4, 1), (6, 5, 2, 2, 2)),
    ],
)
@pytest.mark.parametrize(
    "around",
    [lambda x: F.relu(x), lambda x: F.relu(x.transpose(1, 2)), lambda x: F.relu(x.unsqueeze(1)).squeeze(1)],
)
def test_units_are_told_by_the_layer_and_not_by_the_shape(layer: Any, shape: tuple[int, ...], around: Any) -> None:
    net = Half(around, layer())
    assert only(look(net, step(net, *shape))).flags.tolist() == [True, True, False, False]


def test_places_of_dead_channels_are_dead_features_once_they_are_flattened() -> None:
    net = Half(lambda x: F.relu(x.flatten(1)), nn.Conv2d(5, 4, 1))
    assert only(look(net, step(net, 64, 5, 3, 3))).flags.tolist() == [True] * 18 + [False] * 18


def test_the_peaks_are_those_of_a_forward_hook() -> None:
    """Second road: what the layer itself gives out."""
    net = Half(nn.ReLU(), nn.Conv2d(5, 4, 3))
    run = step(net, 16, 5, 8, 8)
    held: list[Tensor] = []
    net.layer.register_forward_hook(lambda _, args, out: held.append(out.detach().clone()))
    seen = only(look(net, run))
    assert torch.equal(seen.numbers, held[0].relu().amax((0, 2, 3)))
    assert seen.active == pytest.approx(float((held[0] > 0).sum()) / 4, rel=1e-6)


def test_a_ceiling_is_as_flat_as_the_floor() -> None:
    net = Half(nn.ReLU6())
    with torch.no_grad():
        net.layer.bias[2] += 100
    assert only(look(net, step(net, 64, 5))).flags.tolist() == [True, True, True, False]


class Block(nn.Module):
    """One activation module for two layers, as residual networks have it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head, self.relu = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.two(self.relu(self.one(x)))))


def test_a_shared_activation_is_named_by_the_layers_it_serves() -> None:
    net = Block()
    assert [seen.name for seen in look(net, step(net, 8, 5)).seen] == ["one", "two"]


def test_an_activation_of_its_own_is_named_itself() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    seen = only(look(net, step(net, 8, 5)))
    assert (seen.name, seen.site.layer, seen.site.op) == ("1", "0", "aten.relu.default")


class Loop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.RNNCell(5, 4, nonlinearity="relu"), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 4)
        for moment in x.unbind(1):
            h = self.cell(moment, h)
        return self.head(h)


def test_the_calls_of_a_loop_are_put_together() -> None:
    net = Loop()
    seen = only(look(net, step(net, 8, 7, 5)))
    assert (seen.name, seen.site.rows, len(seen.flags)) == ("cell", 56, 4)


class Gate(nn.Module):
    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.a, self.b, self.head, self.gated = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 2), gated

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.a(x))
        return self.head(gate * self.b(x) if self.gated else gate * torch.ones(4))


@pytest.mark.parametrize("gated", [True, False])
def test_a_gate_multiplies_an_activation_and_not_a_constant(gated: bool) -> None:
    net = Gate(gated)
    assert only(look(net, step(net, 8, 5))).site.is_gate is gated


class Attention(nn.Module):
    """Causal attention with scores ``times`` as large as they should be."""

    def __init__(self, fused: bool, times: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out, self.fused, self.times = nn.Linear(8, 24), nn.Linear(8, 8), fused, times

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        q = q * self.times
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(4)
            scores = scores.masked_fill(torch.ones(len(scores[0, 0]), len(scores[0, 0])).triu(1).bool(), -math.inf)
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(("times", "least", "most"), [(1.0, 0.0, 0.05), (3000.0, 0.95, 1.0)])
def test_fused_attention_is_judged_as_written_out(times: float, least: float, most: float) -> None:
    shares, rows = [], []
    for fused in (True, False):
        net = Attention(fused, times)
        seen = only(look(net, step(net, 4, 8, 8)))
        assert (seen.site.kind, seen.site.is_inner) == ("rows", True)
        shares.append(seen.share)
        rows.append(float(seen.numbers[1]))
    assert least <= shares[0] <= most
    assert shares[0] == pytest.approx(shares[1], abs=1e-6)
    assert rows == [4 * 2 * 7] * 2  # the first query has no choice


@pytest.mark.parametrize("mask", ["bool", "additive", "per sample"])
def test_masks_of_fused_attention_take_choices_away(mask: str) -> None:
    net = nn.Linear(8, 8)
    keys = torch.ones(6, 6).tril().bool()
    given = {"bool": keys, "additive": torch.zeros(6, 6).masked_fill(~keys, -math.inf)}
    given["per sample"] = keys.expand(4, 1, 6, 6)

    def run() -> Tensor:
        q = net(torch.randn(4, 6, 8)).unflatten(-1, (2, 4)).transpose(1, 2)
        return net(F.scaled_dot_product_attention(q, q, q, attn_mask=given[mask]).transpose(1, 2).flatten(2)).mean()

    assert float(only(look(net, run)).numbers[1]) == 4 * 2 * 5


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.conv = nn.Conv1d(8, 6, 3)
        self.batch = nn.BatchNorm1d(6)
        self.group = nn.GroupNorm(2, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self.norm(self.embed(x)).transpose(1, 2))
        return self.head(self.group(F.relu(self.batch(x))).mean(-1))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_scales_by_depth_are_those_of_forward_hooks(dtype: torch.dtype | None) -> None:
    """Second road: hooks on the modules, in 64 bits."""
    net, x = Deep(), torch.randint(0, 11, (16, 9))
    outputs, inputs = {}, {}

    def hook(name: str) -> Any:
        def keep(part: nn.Module, args: Any, out: Tensor) -> None:
            outputs[name] = float(out.detach().double().square().mean().sqrt())
            inputs[name] = float(args[0].detach().double().square().mean().sqrt())

        return keep

    for name, part in net.named_children():
        part.register_forward_hook(hook(name))
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        found = look(net, lambda: net(x).float().square().mean())
    assert list(found.layers) == ["embed", "norm", "conv", "batch", "group", "head"]
    assert found.layers == pytest.approx(outputs, rel=1e-4)
    assert found.norms == pytest.approx({name: inputs[name] for name in ("norm", "batch", "group")}, rel=1e-4)


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.one, self.two, self.idle = (nn.Linear(5, 5) for _ in range(4))
        self.soft = nn.Softmax(dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.body(x)
        return self.soft(self.one(x)), self.two(x), self.idle(x), self.two(x.detach())


def test_outputs_are_the_last_layers_on_a_path_to_the_loss() -> None:
    net = Heads()

    def run() -> Tensor:
        one, two, _, _ = net(torch.randn(8, 5))
        return F.mse_loss(one, torch.rand(8, 5)) + two.square().mean()

    found = look(net, run).outputs
    assert [(each.layer, each.rows) for each in found] == [("one", 8), ("two", 8)]
    assert all(each.last > 0.01 for each in found)


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ([nn.Linear(5, 1), nn.Softmax(dim=1)], "1"),
        ([nn.Linear(5, 4), nn.Unflatten(1, (4, 1)), nn.LayerNorm(1, elementwise_affine=False), nn.Flatten()], "2"),
        ([nn.Linear(5, 4), nn.Sigmoid(), nn.Flatten()], ""),
    ],
)
def test_the_place_is_named_where_an_output_is_lost(parts: list[nn.Module], name: str) -> None:
    net = nn.Sequential(*parts)
    (found,) = look(net, step(net, 8, 5)).outputs
    assert (found.layer, found.name, found.is_constant) == ("0", name or "0", bool(name))


def test_nothing_is_said_about_outputs_of_a_batch_whose_samples_are_the_same() -> None:
    net = nn.Linear(5, 3)
    assert look(net, lambda: net(torch.randn(8, 5)).mean(), batch=[torch.ones(8, 5), ["a"]]).outputs == []


def test_a_regression_is_measured_by_the_spread_of_its_targets() -> None:
    """A year of 2000 give or take 2 varies by little of its own size."""
    net = nn.Linear(5, 1)
    with torch.no_grad():
        net.bias.fill_(20_000)
    x, noise = torch.randn(8, 5), torch.randn(8, 1)
    near, far = (look(net, lambda y=y: F.mse_loss(net(x), y)).outputs[0].last for y in (noise, 1e6 * noise))
    assert near > 0.05
    assert far < 1e-4


# --- what is passed over --------------------------------------------------------------------------------------------


def test_what_runs_without_gradients_is_no_part_of_the_step() -> None:
    net, teacher = Half(F.relu), Half(F.relu)
    both, run, other = nn.ModuleList([net, teacher]), step(net, 8, 5), step(teacher, 8, 5)

    def together() -> Tensor:
        with torch.no_grad():
            target = other()
        with torch.inference_mode():
            other()
        return run() + target

    found = look(both, together)
    assert ([seen.name for seen in found.seen], list(found.layers)) == (["0.layer"], ["0.layer", "0.head"])


def test_what_is_frozen_up_to_there_is_not_looked_at() -> None:
    net = Half(F.relu)
    net.layer.requires_grad_(False)
    assert look(net, step(net, 8, 5)).seen == []


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_recomputed_part_is_seen_once_or_named(reentrant: bool) -> None:
    inner, head = nn.Sequential(nn.Linear(5, 4), nn.ReLU()), nn.Linear(4, 2)

    def run() -> Tensor:
        x = torch.randn(8, 5, requires_grad=True)
        loss = head(checkpoint(inner, x, use_reentrant=reentrant)).mean()
        loss.backward()
        return loss

    found = look(nn.ModuleDict({"inner": inner, "head": head}), run)
    assert [(seen.name, seen.site.rows) for seen in found.seen] == ([] if reentrant else [("inner.1", 8)])
    assert list(found.unseen) == (["a checkpointed part"] if reentrant else [])


class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


def test_a_custom_function_is_named_and_what_lies_before_it_is_still_within() -> None:
    net = Half(lambda x: Twice.apply(F.relu(x)))
    found = look(net, step(net, 8, 5))
    assert found.unseen == {"Twice": "a custom autograd function"}
    assert only(found).site.is_inner
    assert [each.layer for each in found.outputs] == ["head"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.embed(x)))


def test_layers_that_share_a_weight_are_told_apart() -> None:
    net = Tied()
    found = look(net, lambda: net(torch.arange(7)).mean())
    assert list(found.layers) == ["embed", "head"]


def test_a_view_of_a_weight_from_before_the_step_is_a_weight() -> None:
    """Sharded strategies hand the layers views of one flat parameter."""
    net = nn.Linear(5, 4)
    view = net.weight.view(2, 10)
    found = look(net, lambda: F.linear(torch.randn(8, 5), view.view(4, 5), net.bias).mean())
    assert ([each.layer for each in found.outputs], len(found.layers)) == ([""], 1)


def test_what_is_written_into_a_part_of_a_tensor_is_followed() -> None:
    def act(x: Tensor) -> Tensor:
        whole = torch.zeros(len(x), 6)
        whole[:, :4] = F.relu(x)
        return whole

    net = Half(act)
    found = look(net, step(net, 8, 5))
    assert only(found).site.is_inner
    assert [each.layer for each in found.outputs] == ["head"]


def test_compiled_code_is_passed_over_and_its_output_is_judged() -> None:
    inner = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4))
    compiled = torch.compile(inner, backend="aot_eager")
    x = torch.randn(8, 5)
    found = look(inner, lambda: compiled(x).square().mean())
    assert found.unseen == {"0, 2": "compiled by torch.compile"}
    assert found.seen == []
    assert [(each.layer, each.is_constant) for each in found.outputs] == [("2", False)]


class Residual(nn.Module):
    """The last block starts at zero; what reaches the loss is the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Linear(5, 4), nn.Linear(4, 4)
        nn.init.zeros_(self.block.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return x + self.block(x)


def test_a_residual_sum_is_judged_as_a_sum() -> None:
    net = Residual()
    (found,) = look(net, step(net, 8, 5)).outputs
    assert (found.layer, found.is_constant) == ("block", False)


class Foreign(Tensor):
    """A tensor that counts how often it is asked for anything."""

    asked = 0

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        Foreign.asked += 1
        plain = torch.utils._pytree.tree_map_only(Foreign, lambda x: x.plain, (args, kwargs or {}))
        return func(*plain[0], **plain[1])

    @staticmethod
    def __new__(cls: type, plain: Tensor) -> Any:
        made = Tensor._make_wrapper_subclass(cls, plain.shape)
        made.plain = plain
        return made


def test_tensors_of_another_class_are_not_asked_for_anything() -> None:
    """A look at a DTensor would start a collective that the other ranks are not in."""
    net = nn.Linear(5, 3)
    x = Foreign(torch.randn(8, 5))
    net(x)
    alone, Foreign.asked = Foreign.asked, 0
    found = look(net, lambda: net(x).mean())
    assert Foreign.asked == alone
    assert found.unseen == {"tensors of class Foreign": "not looked into"}


def test_numbers_that_are_not_read_are_passed_over() -> None:
    net = nn.ModuleDict({"a": nn.Linear(5, 4), "e": nn.Embedding(7, 4, sparse=True)})

    def run() -> Tensor:
        empty = F.relu(net["a"](torch.zeros(0, 5))).sum()
        spectrum = torch.fft.fft(net["a"](torch.randn(8, 5))).abs()
        return empty + spectrum.mean() + net["e"](torch.arange(7)).sum()

    found = look(net, run)
    assert (found.seen, sorted(found.layers)) == ([], ["a", "e"])


# --- the mode itself ------------------------------------------------------------------------------------------------


def test_a_mode_of_the_user_sees_the_same_operations_within_and_without() -> None:
    class Count(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.ops: list[str] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.ops.append(str(func))
            return func(*args, **(kwargs or {}))

    net = Half(F.relu)
    run = step(net, 8, 5)
    with Count() as alone:
        run()

    def within() -> Tensor:
        with inner:
            return run()

    inner = Count()
    look(net, within)
    assert inner.ops == alone.ops


def test_an_error_of_the_step_leaves_the_mode() -> None:
    net = Half(F.relu)
    net(torch.randn(2, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), OperationMode(net):
        net(torch.randn(2, 6))
    assert _get_current_dispatch_mode() is None


def test_a_fault_of_ours_leaves_the_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise MemoryError("no room for statistics")

    monkeypatch.setattr("lightning_debugkit.stats.activation_stats.rms", fails)
    net = Half(F.relu)
    run = step(net, 8, 5)
    with OperationMode(net) as watch:
        loss = run()
    assert torch.equal(loss, run())
    assert isinstance(watch.error, MemoryError)
