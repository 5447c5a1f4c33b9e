"""What was seen where predictions and targets were looked for, and how to mend that they were not found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.core.tensor_numbers import shares_memory
from lightning_debugkit.data.batches import indexed, leaves
from lightning_debugkit.evaluation.predictions import loss_inputs, named_entries, readings
from lightning_debugkit.evaluation.predictions.named_entries import Place

_SHOWN = 3


def not_found_message(owner: str, returned: Place, batch: Any, forward: Sequence[Any], losses: LossWatch | None) -> str:
    """Return what is to be said where nothing was found: what there is, and three ways out of it."""
    step = returned[0].removesuffix("()")
    calls = loss_inputs.shown_inputs(losses)
    seen = [shown for shown in map(readings.shown_structure, forward) if shown != "nothing"]
    outputs = [("forward()", forward[0])] if len(forward) == 1 else []
    given = _given(batch, losses)
    pair = next(_pairs([returned, *outputs], returned, batch, given), None)
    if pair:
        by_name = f'name them: {owner}(predictions="{pair[0]}", target="{pair[1]}")'
    else:
        by_name = 'return {"loss": loss, "my_scores": logits, "my_label": y} and name the keys: '
        by_name += f'{owner}(predictions="my_scores", target="my_label")'
    place = pair[2] if pair else given or _target(batch)
    return (
        f"{owner} needs the model's predictions and their targets, and found none for this batch.\n"
        f"  {step}() returned: {readings.shown_structure(returned[1])}\n"
        f"  the batch is: {readings.shown_structure(batch)}\n"
        f"  forward() returned: {'; '.join(seen[:_SHOWN]) or 'not called'}\n"
        + (f"  loss functions were given: {calls}\n" if calls else "")
        + "Mend it in one of three ways:\n"
        f'  1. return them from {step}: return {{"loss": loss, "logits": logits, "target": y}}\n'
        f"  2. or {by_name}\n"
        '  3. or return {"loss": loss, "mine": logits} and give a function: '
        f'{owner}(adapter=lambda outputs, batch: (outputs["mine"], {place}))'
    )


def misnamed_message(owner: str, name: str, returned: Place, forward: Sequence[Any]) -> str:
    """Return what is to be said where no predictions have a name: the names that there are."""
    rule = f"needs predictions= to name an entry of what {returned[0]} or forward() returns"
    if len(forward) == 1:
        there = named_entries.listed_entries([returned, ("forward()", forward[0])])
    else:
        there = named_entries.listed_entries([returned]) + ", and forward() was "
        there += f"called {len(forward)} times: nobody knows which one is meant" if forward else "not called"
    return f"{owner} {rule}, got {name!r}; there are {there}."


def misnamed_target_message(owner: str, name: str | None, returned: Place, batch: Any) -> str:
    """Return what is to be said where no targets have a name: the names that there are."""
    rule = f"needs target= to name an entry of what {returned[0]} returns or of the batch"
    return f"{owner} {rule}, got {name!r}; there are {named_entries.listed_entries([returned, ('the batch', batch)])}."


def _given(batch: Any, losses: LossWatch | None) -> str:
    """Return the place in the batch of the only target that loss functions were given, empty if there is none."""
    targets = [call[2] for call in losses.calls] if losses is not None else []
    places = {
        indexed(path)
        for path, leaf in leaves(batch)
        for target in targets
        if isinstance(leaf, Tensor) and shares_memory(target, leaf)
    }
    return places.pop() if len(places) == 1 else ""


def _pairs(places: Sequence[Place], returned: Place, batch: Any, given: str) -> Iterator[tuple[str, str, str]]:
    """Yield names of scores and of targets that go with them, and the place of the targets; the likeliest first.

    A target is what a loss was given. Where none was heard, it is no part of the input, which comes first.
    """
    pair = isinstance(batch, tuple | list) and len(batch) > 1
    targets = [
        (name, place, held)
        for name, place, held in named_entries.names_of(batch)
        if not held.is_floating_point() and (f"batch{place}" == given if given else not (pair and place[:3] == "[0]"))
    ]
    found = [
        (name, other, f"batch{place}")
        for _, held in places
        for name, _, scores in named_entries.names_of(held)
        for other, place, target in targets
        if _go_together(scores, target)
        and _leads(places, name, scores)
        and _leads([returned, ("batch", batch)], other, target)
    ]
    yield from sorted(found, key=lambda pair: pair[0] != pair[1])


def _target(batch: Any) -> str:
    """Return where the targets are likely to lie in a batch."""
    if isinstance(batch, tuple | list) and len(batch) > 1:
        inside = [path for path, leaf in leaves(batch[1]) if readings.is_rows(leaf)]
        return indexed(f"1.{inside[0]}".rstrip(".")) if inside else "batch[1]"
    whole = [
        place for _, place, held in named_entries.names_of(batch) if not held.is_floating_point() and held.ndim == 1
    ]
    return f"batch{whole[0]}" if whole else "batch['y']"


def _go_together(scores: Tensor, target: Tensor) -> bool:
    if not scores.is_floating_point() or len(scores) != len(target):
        return False
    return scores.ndim == target.ndim + 1 or scores.shape == target.shape


def _leads(places: Sequence[Place], name: str, to: Tensor) -> bool:
    try:
        found = named_entries.named_in(places, name)
    except named_entries.Ambiguous:
        return False
    return found is not None and found[1] is to
