"""What a prediction depends on: other samples, later tokens, its input at all, and whether in a straight line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.batch_leak import judge_leak
from lightning_debugkit.preflight.dropped_input import Dropped, dropped_inputs
from lightning_debugkit.preflight.future_leak import judge_tokens
from lightning_debugkit.preflight.loss_calls import LAYERS, LossCall
from lightning_debugkit.preflight.operation_traces import (
    LOST,
    LOST_AT,
    NORM_OF_ONE,
    InputTrace,
    Straightened,
    last_alike,
)
from lightning_debugkit.preflight.probe import NotProbed, Probe, changed, inputs_of, is_by_sample
from lightning_debugkit.preflight.raised_terms import judge_raised
from lightning_debugkit.preflight.sequence_places import judge_first_place, judge_padding
from lightning_debugkit.preflight.unused_input import UNUSED_INPUT, judge_arguments

# Of the spread of predictions, by which those of a straight line may lie beside it: rounding in float32.
STRAIGHT = 1e-4
FEWEST = 3  # samples of a batch in which one may be replaced

AFFINE_NETWORK = Rule(
    "affine-network",
    Severity.WARNING,
    "the network is linear: the prediction for the mean of two inputs is the mean of their predictions, "
    "though it has {layers} layers of weights",
    "Put a non-linearity, such as nn.ReLU, between the layers.",
    section="preflight",
    cost="once",
)


@dataclass
class Checks:
    """The checks of one program; each runs the step a few times and yields what it finds."""

    probe: Probe
    where: Where
    batch_size: int | None  # samples that the loader puts into a batch, `None` if it does not say
    optimizers: Sequence[Optimizer] = ()
    left_out: dict[str, str] = field(default_factory=dict)  # why a check was not made, by its name
    # inputs that reach no prediction, which the end of the fit judges
    dropped: list[Dropped] = field(default_factory=list)

    def run(self) -> Iterator[Finding]:
        """Run all that can be run on the batch."""
        probe, size = self.probe, self.probe.size
        try:
            base = probe.calls(probe.batch)
            again = probe.calls(probe.batch)
        except NotProbed as error:
            self.left_out["passes"] = str(error)
            return
        if not base:
            yield from self._try("batch-leak", self._leak(base, size))
        if not base or len(base) != len(again):
            self.left_out["passes"] = "no loss function of torch was called by the training step"
            return
        if any(not torch.equal(a.prediction, b.prediction) for a, b in zip(base, again, strict=True)):
            self.left_out["passes"] = "two runs of the step with the same random numbers differ"
            return
        yield from self._try("future-leak", judge_tokens(self.probe, base, self.where))
        unread: dict[str, Tensor] = {}
        yield from self._try("unread argument", judge_arguments(self.probe, self.where, unread))
        if size is None or size < FEWEST:
            self.left_out["batch-leak, unused-input, affine-network"] = "the batch cannot be split into samples"
            return
        yield from self._try("batch-leak", self._leak(base, size))
        yield from self._try("affine-network", self._affine(base, size))
        yield from self._try("unread padding", judge_padding(self.probe, unread, self.where))
        yield from self._try("unread places", judge_first_place(self.probe, base, self.where))
        yield from self._try("negative-loss", judge_raised(probe, base, self.optimizers, self.where))
        yield from self._try("dropped input", self._dropped(base))
        yield from self._try("unused-input", self._unused(base, size))  # last, as it changes the weights

    def _try(self, name: str, found: Iterator[Finding]) -> Iterator[Finding]:
        try:
            yield from found
        except NotProbed as error:
            self.left_out[name] = str(error)

    def _leak(self, base: list[LossCall], size: int | None) -> Iterator[Finding]:
        # Without a loader that puts samples together, the first dimension need not be of samples: nodes of a graph.
        if size is None or size < FEWEST or self.batch_size != size:
            self.left_out["batch-leak"] = "the loader does not say that the batch is made of as many samples"
            return
        yield from judge_leak(self.probe, base, size, self.where)

    def _dropped(self, base: list[LossCall]) -> Iterator[Finding]:
        self.dropped = dropped_inputs(self.probe, base)
        yield from ()

    def _unused(self, base: list[LossCall], size: int) -> Iterator[Finding]:
        own = [one for one in base if is_by_sample(one, size) and bool(one.prediction.isfinite().all())]
        inputs = inputs_of(self.probe.batch, own) or inputs_of(self.probe.batch, [])
        # What the last activation has made one number everywhere is its own matter, and told as such.
        if not own or not self._differ(inputs) or any(_is_flattened(one) for one in own):
            return
        moved = self.probe.reordered([*range(1, size), 0])
        calls = self.probe.calls(moved)
        if not _are_equal(base, calls, size):
            return
        # A last layer that starts at zero hides what comes before it: with other weights it does not.
        self._disturb()
        base, calls = self.probe.calls(self.probe.batch), self.probe.calls(moved)
        if _are_equal(base, calls, size):
            yield self._unused_at(moved, [path for path, _ in inputs])

    def _unused_at(self, moved: Any, inputs: list[str]) -> Finding:
        """Return the finding with the operation that returns the same for all inputs, as two more runs tell it."""
        one, other = (InputTrace(self.probe.names) for _ in range(2))
        self.probe.run(self.probe.batch, one)
        self.probe.run(moved, other)
        lost = last_alike(one, other)
        if lost is None or not lost.place.source:
            return UNUSED_INPUT.found(self.where, inputs=inputs)
        norm = ": a norm over one number gives 0, whatever it is" if lost.is_norm_of_one else ""
        rule = replace(UNUSED_INPUT, says=LOST, advice=NORM_OF_ONE if norm else LOST_AT)
        where = self.where.at(lost.place.module or "")
        return rule.found(where, op=lost.op, place=lost.place.short, norm=norm, inputs=inputs, source=lost.place.source)

    def _affine(self, base: list[LossCall], size: int) -> Iterator[Finding]:
        layers = _stacked(self.probe.step.module)
        inputs = inputs_of(self.probe.batch, base) or inputs_of(self.probe.batch, [])  # which an autoencoder returns
        floats = [(path, item) for path, item in inputs if item.is_floating_point()]
        if layers < 2 or len(floats) != len(inputs) or not floats or not self._differ(floats):
            return
        if not self._is_straight_between(floats, base, size) or not self._is_straight_across_zero(floats):
            return
        straightened = Straightened()
        self.probe.run(self.probe.batch, straightened)
        # The non-linearity is there, but does nothing from the start: told by who looks at units and gradients.
        if straightened.is_found:
            return
        # Branches whose factor starts at 0, or nearly, are not seen: with other weights they are.
        kept = self._disturb()
        base = self.probe.calls(self.probe.batch)
        is_straight = self._is_straight_between(floats, base, size) and self._is_straight_across_zero(floats)
        for parameter, values in kept:
            parameter.data.copy_(values)
        if is_straight:
            yield AFFINE_NETWORK.found(self.where, layers=layers)

    def _disturb(self) -> list[tuple[nn.Parameter, Tensor]]:
        """Move the weights at random; return those they had."""
        parameters = self.probe.step.module.parameters()
        moved = [p for p in parameters if p.is_floating_point() and not nn.parameter.is_lazy(p)]
        kept = [(p, p.detach().clone()) for p in moved]
        for parameter in moved:
            parameter.data.add_(torch.randn_like(parameter.data), alpha=0.1)
        return kept

    def _is_straight_between(self, floats: list[tuple[str, Tensor]], base: list[LossCall], size: int) -> bool:
        """Tell whether the predictions for the means of two inputs each are the means of their predictions."""
        mixed = {path: 0.5 * (item + item.roll(1, 0)) for path, item in floats if item.shape[0] == size}
        calls = self.probe.calls(changed(self.probe.batch, mixed))
        own = [pair for pair in zip(base, calls, strict=False) if is_by_sample(pair[0], size)]
        return bool(own) and not any(_is_bent(one, other) for one, other in own)

    def _is_straight_across_zero(self, floats: list[tuple[str, Tensor]]) -> bool:
        """Tell whether predictions for an input and its negative have those for zeros in their middle.

        Samples that hardly differ, or that are tiny beside the biases, switch no unit between them: the network is
        straight there, and bent elsewhere. So inputs below 1 are brought to that size.
        """
        sizes = {path: float(item.abs().max()) for path, item in floats}
        lifted = {path: item / sizes[path] if 0 < sizes[path] < 1 else item for path, item in floats}
        sides = [
            self.probe.calls(changed(self.probe.batch, {path: item * sign for path, item in lifted.items()}))
            for sign in (1, -1, 0)
        ]
        triples = [each for each in zip(*sides, strict=False) if all(c.prediction.ndim for c in each)]
        return all(
            float((one.prediction + other.prediction - 2 * zero.prediction).float().abs().max())
            <= STRAIGHT * float(one.prediction.float().std(correction=0))
            for one, other, zero in triples
        )

    def _differ(self, inputs: list[tuple[str, Tensor]]) -> bool:
        """Tell whether the samples differ at all."""
        return any(not torch.equal(item, item.roll(1, 0)) for _, item in inputs)


def _are_equal(one: list[LossCall], other: list[LossCall], size: int) -> bool:
    pairs = [pair for pair in zip(one, other, strict=False) if is_by_sample(pair[0], size)]
    return all(torch.equal(before.prediction, after.prediction) for before, after in pairs)


def _is_flattened(call: LossCall) -> bool:
    """Tell whether an activation, rather than the network before it, has made all predictions one number."""
    is_layer = call.made is None or call.made.op in LAYERS
    return not is_layer and bool((call.prediction == call.prediction.reshape(-1)[0]).all())


def _is_bent(call: LossCall, mixed: LossCall) -> bool:
    one = call.prediction.float()
    spread = one.std(correction=0)
    is_after = call.made is not None and call.made.op not in LAYERS
    if one.shape != mixed.prediction.shape or not float(spread) or is_after:
        return True
    straight = 0.5 * (one + one.roll(1, 0))
    return float((mixed.prediction.float() - straight).abs().max() / spread) > STRAIGHT


def _stacked(module: nn.Module) -> int:
    """Return how many layers of weights feed one another; a narrow one between two is a code on purpose."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = [part for part in module.modules() if isinstance(part, kinds) and not nn.parameter.is_lazy(part.weight)]
    count = 1 if layers else 0
    for one, after in pairwise(layers):
        (width, before), (last, fed) = one.weight.shape[:2], after.weight.shape[:2]
        if type(one) is type(after) and width == fed and width >= min(before, last):
            count += 1
    return count
