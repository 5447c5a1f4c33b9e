"""Whether a model that foretells its own input reads the answer: what comes later, or targets other than the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import DIFFERENCE_LOSSES, INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.probe import Probe, changed, inputs_of

MATERIAL = 1e-2  # of the spread of an output: what rounding moves is some thousand times less
# The share of positions that must count for targets to be taken for shifted inputs.
FOLLOWING = 0.25
CANDIDATES = 4  # pairs of a loss and tokens that may be its targets
OWN = 0.5  # of targets that are the tokens themselves

FUTURE_LEAK = Rule("future-leak", Severity.WARNING, "{what}", "{remedy}", section="preflight", cost="once")
LATER = (
    "the prediction at {place} depends on what comes later: with other {what} from position {position} on, the outputs "
    "before it moved by up to {most:.2g} of their spread"
)
MASK = "Give the attention a causal mask (is_causal=True), and make convolutions and recurrent layers look back only."
OWN_TOKEN = (
    "the model looks back only, and at {place} the target of each token is that token itself, which it has just read: "
    "the loss goes to 0 and nothing of the next token is learned"
)
NEXT_BUT_ONE = (
    "the model looks back only, and at {place} the target of each token is the next but one: it is never asked for the "
    "token that follows, as if targets had been shifted twice"
)
SHIFT_ONCE = (
    "Shift once: in the dataset or before the loss, and pass a library that shifts by itself the tokens as labels."
)
SHIFT = "Shift the targets by one: logits[:, :-1] against tokens[:, 1:]."


@dataclass(frozen=True)
class Foretold:
    """A loss whose targets are a sequence of the batch."""

    call: LossCall
    sequence: Tensor  # `(N, T)` tokens, or numbers with any dimensions more
    time: int  # its dimension of places
    length: int  # places that have a target
    shift: int  # by how many places the targets are later


def judge_tokens(probe: Probe, base: list[LossCall], where: Where) -> Iterator[Finding]:
    """Yield that outputs hang on what comes later, or that the targets are not the next ones."""
    for told in _foretold(probe.batch, base)[:CANDIDATES]:
        call, held, shift = told.call, told.sequence.movedim(told.time, 1), told.shift
        position = held.shape[1] - max(1, held.shape[1] // 3)
        other = held.clone()
        other[:, position:] = held.roll(1, 0)[:, position:] if len(held) > 1 else held[:, :1]
        apart = None if torch.equal(other, held) else _moved_by(probe, told, other.movedim(1, told.time))
        # What no output hangs on are the targets, given once more.
        if apart is None or float(apart.max()) <= MATERIAL:
            continue
        most, place = float(apart[:, :position].max()), call.place.short or call.function
        if shift == 1 and most > MATERIAL:
            kind = "numbers" if held.is_floating_point() else "tokens"
            what = LATER.format(place=place, what=kind, position=position, most=most)
            yield FUTURE_LEAK.found(
                where, what=what, remedy=MASK, position=position, most=most, source=call.place.source
            )
        elif shift != 1 and most <= MATERIAL and _is_read_in_place(apart, (other != held)[:, : told.length]):
            said, remedy = (OWN_TOKEN, SHIFT) if shift == 0 else (NEXT_BUT_ONE, SHIFT_ONCE)
            yield FUTURE_LEAK.found(
                where.at(""), what=said.format(place=place), remedy=remedy, source=call.place.source
            )
        return


def _moved_by(probe: Probe, told: Foretold, other: Tensor) -> Tensor | None:
    """Return how far each output ``(N, length)`` moves with another sequence, in spreads; ``None`` without the call."""
    sequence, call = told.sequence, told.call
    alike = {
        path: other
        for path, item in inputs_of(probe.batch, [])
        if item.shape == sequence.shape and item.dtype == sequence.dtype and torch.equal(item, sequence)
    }
    calls = probe.calls(changed(probe.batch, alike))
    after = next((c for c in calls if c.prediction.shape == call.prediction.shape), None)
    if after is None:
        return None
    one, moved = (_by_position(each, told).float() for each in (call, after))
    return (one - moved).abs().amax(2) / one.std(correction=0).clamp_min(1e-12)


def _foretold(batch: Any, calls: list[LossCall]) -> list[Foretold]:
    """Return the losses whose targets are a sequence of the batch.

    The next token stands first, then each its own, then the next but one; the last not beside the next, as where
    several tokens are foretold.
    """
    pairs = [(call, leaf) for call in calls for _, leaf in inputs_of(batch, [])]
    found = [each for pair in pairs if (each := _shifted(*pair) or _series(*pair)) is not None]
    return sorted(found, key=lambda each: (1, 0, 2).index(each.shift))


def _series(call: LossCall, series: Tensor) -> Foretold | None:
    """Return that the targets of a call are the next numbers of a series, ``None`` if they are not.

    Those in their own places are what an autoencoder is asked for.
    """
    target = call.target
    is_pair = call.prediction.shape == target.shape and target.ndim == series.ndim > 1
    if call.function not in DIFFERENCE_LOSSES or not series.is_floating_point() or not is_pair:
        return None
    for time in {1, series.ndim - 1}:
        held, wanted = series.movedim(time, 1), target.movedim(time, 1)
        count = held.shape[1] - 1
        if count < 2 or wanted[:, :1].shape != held[:, :1].shape or wanted.shape[1] - count not in (0, 1):
            continue
        is_next = torch.equal(wanted[:, :count], held[:, 1 : count + 1].to(wanted.dtype))
        if is_next and float((held[:, 1:] != held[:, :-1]).float().mean()) > FOLLOWING:
            return Foretold(call, series, time, wanted.shape[1], 1)
    return None


def _shifted(call: LossCall, tokens: Tensor) -> Foretold | None:
    """Return by how many places the targets of a call are these tokens, ``None`` if they are not."""
    if call.function not in INDEX_LOSSES or call.target.is_floating_point():
        return None
    if tokens.ndim != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool or tokens.shape[1] < 3:
        return None
    count, length = tokens.shape
    if call.target.numel() % count:
        return None
    width = call.target.numel() // count
    target = call.target.reshape(count, width)
    if width in (length, length - 1) and _is_told(target[:, : length - 1], tokens[:, 1:], call):
        return Foretold(call, tokens, 1, width, 1)
    if width == length and _is_told(target, tokens, call, OWN):
        return Foretold(call, tokens, 1, width, 0)
    if length > 3 and length - width in (0, 1, 2) and _is_told(target[:, : length - 2], tokens[:, 2:], call, OWN):
        return Foretold(call, tokens, 1, width, 2)
    return None


def _is_read_in_place(apart: Tensor, changed_tokens: Tensor) -> bool:
    """Tell whether the output of a place moved with its token; what a step shifts itself, as by padding, does not."""
    first = changed_tokens & (changed_tokens.cumsum(1) == 1)
    return bool((apart[first] > MATERIAL).any())


def _is_told(target: Tensor, tokens: Tensor, call: LossCall, least: float = FOLLOWING) -> bool:
    """Tell whether targets are these tokens wherever they count, and enough of them do."""
    counts = target != int(call.options.get("ignore_index", -100))
    return bool(((target == tokens) | ~counts).all()) and float(counts.float().mean()) > least


def _by_position(call: LossCall, told: Foretold) -> Tensor:
    """Return the prediction as ``(N, T, ...)``, its last dimensions as one."""
    values = call.prediction
    if told.sequence.is_floating_point():
        values = values.movedim(told.time, 1)
    elif values.ndim == 3 and call.target.ndim == 2:
        values = values.movedim(1, -1)
    return values.reshape(len(told.sequence), told.length, -1)
