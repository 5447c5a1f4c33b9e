"""Whether a model of language reads the answer: its later tokens, or targets that are other ones than the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.loss_functions import INDEX_LOSSES
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.preflight.loss_calls import LossCall, at
from lightning_debugkit.preflight.probe import Probe, changed, inputs_of

MATERIAL = 1e-2  # of the spread of an output: what rounding moves is some thousand times less
# The share of positions that must count for targets to be taken for shifted inputs.
FOLLOWING = 0.25
CANDIDATES = 4  # pairs of a loss and tokens that may be its targets
OWN = 0.5  # of targets that are the tokens themselves

FUTURE_LEAK = Rule(
    "future-leak",
    Severity.WARNING,
    "{what}",
    "{remedy}",
    section="preflight",
    cost="once",
)
LATER_TOKENS = (
    "the prediction of a token depends on later tokens: with other tokens from position {position} on, the outputs "
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


def judge_tokens(probe: Probe, base: list[LossCall], where: Where) -> Iterator[Finding]:
    """Yield that outputs hang on later tokens, or that the targets are not the next ones.

    Raises:
        NotProbed: The step raised.
    """
    for call, tokens, length, shift in _tokens_of(probe.batch, base)[:CANDIDATES]:
        position = tokens.shape[1] - max(1, tokens.shape[1] // 3)
        other = tokens.clone()
        other[:, position:] = tokens.roll(1, 0)[:, position:] if len(tokens) > 1 else tokens[:, :1]
        apart = None if torch.equal(other, tokens) else _moved_by(probe, tokens, other, call, length)
        # What no output hangs on are the targets, given once more.
        if apart is None or float(apart.max()) <= MATERIAL:
            continue
        most = float(apart[:, :position].max())
        if shift == 1 and most > MATERIAL:
            what = LATER_TOKENS.format(position=position, most=most)
            yield FUTURE_LEAK.found(where, what=what, remedy=MASK, position=position, most=most)
        elif shift != 1 and most <= MATERIAL and _is_read_in_place(apart, (other != tokens)[:, :length]):
            said, remedy = (OWN_TOKEN, SHIFT) if shift == 0 else (NEXT_BUT_ONE, SHIFT_ONCE)
            what = said.format(place=at(call.place) or call.function)
            yield FUTURE_LEAK.found(where.at(""), what=what, remedy=remedy, source=call.place.source)
        return


def _moved_by(probe: Probe, tokens: Tensor, other: Tensor, call: LossCall, length: int) -> Tensor | None:
    """Return how far each output ``(N, length)`` moves with other tokens, in spreads; ``None`` without the call."""
    alike = {
        path: other
        for path, item in inputs_of(probe.batch, [])
        if item.shape == tokens.shape and item.dtype == tokens.dtype and torch.equal(item, tokens)
    }
    calls = probe.calls(changed(probe.batch, alike))
    after = next((c for c in calls if c.prediction.shape == call.prediction.shape), None)
    if after is None:
        return None
    one, moved = (_by_position(each, len(tokens), length).float() for each in (call, after))
    return (one - moved).abs().amax(2) / one.std(correction=0).clamp_min(1e-12)


def _tokens_of(batch: Any, calls: list[LossCall]) -> list[tuple[LossCall, Tensor, int, int]]:
    """Return the calls whose targets are tokens of the batch, with these, the length of targets, and their shift.

    The next token stands first, then each its own, then the next but one; the last not beside the next, as where
    several tokens are foretold.
    """
    pairs = [(call, tokens) for call in calls for _, tokens in inputs_of(batch, [])]
    found = [each for pair in pairs if (each := _shifted(*pair)) is not None]
    return sorted(found, key=lambda each: (1, 0, 2).index(each[3]))


def _shifted(call: LossCall, tokens: Tensor) -> tuple[LossCall, Tensor, int, int] | None:
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
        return call, tokens, width, 1
    if width == length and _is_told(target, tokens, call, OWN):
        return call, tokens, width, 0
    if length > 3 and length - width in (0, 1, 2) and _is_told(target[:, : length - 2], tokens[:, 2:], call, OWN):
        return call, tokens, width, 2
    return None


def _is_read_in_place(apart: Tensor, changed_tokens: Tensor) -> bool:
    """Tell whether the output of a place moved with its token; what a step shifts itself, as by padding, does not."""
    first = changed_tokens & (changed_tokens.cumsum(1) == 1)
    return bool((apart[first] > MATERIAL).any())


def _is_told(target: Tensor, tokens: Tensor, call: LossCall, least: float = FOLLOWING) -> bool:
    """Tell whether targets are these tokens wherever they count, and enough of them do."""
    counts = target != int(call.options.get("ignore_index", -100))
    return bool(((target == tokens) | ~counts).all()) and float(counts.float().mean()) > least


def _by_position(call: LossCall, count: int, length: int) -> Tensor:
    """Return the prediction as ``(N, T, classes)``."""
    values = call.prediction
    if values.ndim == 3 and call.target.ndim == 2:
        values = values.movedim(1, -1)
    return values.reshape(count, length, -1)
