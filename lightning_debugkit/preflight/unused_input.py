"""What the prediction does not depend on: a tensor of the batch that a forward is given, and no operation reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.tensor_numbers import storage
from lightning_debugkit.data.batches import indexed
from lightning_debugkit.data.neighbours import LABELS_UNRELATED
from lightning_debugkit.preflight.calling_frame import calling_frame
from lightning_debugkit.preflight.loss_calls import ATTENTION, LossCall
from lightning_debugkit.preflight.operation_traces import OperationTrace
from lightning_debugkit.preflight.padding_masks import ADD, ADDING, FILL, MULTI_HEAD, TurnedMask
from lightning_debugkit.preflight.probe import NotProbed, Probe, inputs_of

UNUSED_INPUT = Rule(
    "unused-input",
    Severity.WARNING,
    "the prediction does not depend on the input: with the inputs of other samples it stays the same",
    "Look in forward for what replaces the input: a constant, a variable of another name, a factor of 0.",
    section="preflight",
    cost="once",
    can_follow=("constant-input", "output-range", "softmax-over-one"),
)
# Models of one signature and ablations leave out an argument on purpose: a note.
UNREAD = "forward of {module} is given {path} as {argument}, and no operation reads it: samples differ there in vain"
READ = "Use {argument} in forward, if it is meant to count: look for a line that sets it anew, or leaves it out."
TURNED = (
    "{op} at {place} is given a padding mask that is turned round: all that it may look at is padding ({padding}), "
    "and the rest is left out"
)
TURN = {
    MULTI_HEAD: "Turn the mask round: True in key_padding_mask means 'leave out', as in tokens == padding.",
    ATTENTION: "Turn the mask round: True in attn_mask means 'look at', as in tokens != padding.",
    FILL: "Turn the mask round: fill the scores where the padding is.",
    ADD: "Turn the mask round: add the large negative number where the padding is.",
}
SELF = (
    "the similarities that cross_entropy is given at {place} are those of each sample with itself: the matrix is "
    "symmetric, its diagonal is the highest of each row and the target; no other view of a sample is compared"
)
ALL_ONE = (
    "{function} at {place} is given similarities of each sample of the batch with all, and {label} as the target of "
    "each: all samples are to be like one of them"
)
OWN = "Give the place of its partner as the target of each sample: torch.arange(len(scores)) where it is its own."
PAIR = "Compare the two views: embeddings of the one with those of the other, as in a @ b.T."
# What asks a tensor for its form alone.
FORM = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "__len__", "is_floating_point", "get_device",
    "ones_like", "zeros_like", "empty_like", "full_like", "rand_like", "randn_like",
    "new_ones", "new_zeros", "new_empty", "new_full",
}  # fmt: skip


def judge_arguments(probe: Probe, where: Where, unread: dict[str, Tensor]) -> Iterator[Finding]:
    """Yield each tensor of the batch that a forward is given in vain, and keep all that no operation reads."""
    module = probe.step.module
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise NotProbed("what compiled code reads is not seen")
    leaves = dict(inputs_of(probe.batch, []))
    trace = ArgumentTrace(probe.names, leaves)
    probe.run(probe.batch, trace)
    unread |= {path: leaf for path, leaf in leaves.items() if not trace.is_read(leaf)}
    noted = replace(UNUSED_INPUT, severity=Severity.INFO, says=UNREAD, advice=READ)
    for path, argument, owner in trace.unread():
        if not torch.equal(leaves[path], leaves[path].roll(1, 0)):
            name = owner or type(module).__name__
            yield noted.found(where.at(owner), module=name, path=indexed(path), argument=argument)


def judge_masks(masks: Sequence[TurnedMask], where: Where) -> Iterator[Finding]:
    """Yield each line at which attention looks at padding alone."""
    for mask in {mask.place.source: mask for mask in masks if mask.place.source}.values():
        op = ADD if mask.op in ADDING else mask.op.rstrip("_")
        rule = replace(UNUSED_INPUT, says=TURNED, advice=TURN[op])
        yield rule.found(
            where.at(mask.place.module or ""), op=op, place=mask.place.short, padding=mask.padding,
            source=mask.place.source,
        )  # fmt: skip


def judge_pairs(call: LossCall, where: Where) -> Iterator[Finding]:
    """Yield that a contrastive loss compares each sample with itself and asks for itself, or for one of all."""
    scores, target = call.prediction, call.target
    is_asked = call.are_pairs and call.function in INDEX_LOSSES and target.ndim == 1 and len(target) > 2
    if is_asked and bool((target == target[0]).all()):
        rule = replace(LABELS_UNRELATED, says=ALL_ONE, advice=OWN, on_data=False)
        yield rule.found(where, label=int(target[0]), **call.told)
        return
    is_square = scores.ndim == 2 and scores.shape[0] == scores.shape[1] > 2 and scores.is_floating_point()
    if call.function != "cross_entropy" or not is_square or target.shape != scores.shape[:1]:
        return
    scores, order = scores.float(), torch.arange(len(scores), device=target.device)
    noise = 1e-4 * scores.diagonal().abs().max()  # large negative numbers may hide pairs elsewhere
    is_itself = (scores - scores.T).abs().max() <= noise and (scores.diagonal() >= scores.amax(1) - noise).all()
    if torch.equal(target, order.to(target.dtype)) and bool(is_itself) and bool(scores.std() > noise):
        rule = replace(UNUSED_INPUT, says=SELF, advice=PAIR)
        yield rule.found(where, place=call.place.short or "training_step", source=call.place.source)


class ArgumentTrace(OperationTrace):
    """Enter it around one step; nothing is changed."""

    def __init__(self, names: Mapping[int, str], leaves: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._names = names
        self._paths = {storage(leaf): path for path, leaf in leaves.items()}
        self._read: set[int] = set()
        self._given: dict[int, tuple[str, str]] = {}

    def saw(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        self._hear_arguments(calling_frame())
        if name not in FORM and (name != "__get__" or isinstance(result, Tensor)):
            self._read.update(map(storage, _tensors((*args, *kwargs.values()))))

    def is_read(self, leaf: Tensor) -> bool:
        """Tell whether an operation has read the numbers of a tensor."""
        return storage(leaf) in self._read

    def unread(self) -> Iterator[tuple[str, str, str]]:
        """Yield path in the batch, name of the argument, and path of the module of each that is given and not read."""
        for memory, (argument, module) in self._given.items():
            if memory not in self._read:
                yield self._paths[memory], argument, module

    def _hear_arguments(self, frame: FrameType | None) -> None:
        while frame is not None:
            code = frame.f_code
            if code.co_name == "forward" and id(frame.f_locals.get("self")) in self._names:
                module = self._names[id(frame.f_locals["self"])]
                for name in code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]:
                    value = frame.f_locals.get(name)
                    if isinstance(value, Tensor) and storage(value) in self._paths:
                        self._given.setdefault(storage(value), (name, module))
            frame = frame.f_back


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
