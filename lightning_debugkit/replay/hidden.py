"""Find what is not finite in a step whose loss does not tell, as where batches with a NaN are skipped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from lightning_debugkit.core.isolation import isolated
from lightning_debugkit.replay.diagnosis import Diagnosis, _describe, _joined, _samples
from lightning_debugkit.replay.passes import Backward, Pass, ReplayStep, outside
from lightning_debugkit.replay.trace import Trace, origin


def hidden(step: ReplayStep, is_bad: Callable[[], bool], max_runs: int = 32) -> Diagnosis | None:
    """Return where the first number that is not finite was born in a step, ``None`` if it is sound.

    Args:
        step: The step.
        is_bad: Tells whether the last run of the step showed the fault, such as by giving no loss.
        max_runs: Parts of the batch that may be run to find the samples.

    Raises:
        Exception: Whatever the step raises when it is run once more.
    """
    names = {id(part): name for name, part in step.module.named_modules(remove_duplicate=False)}
    with isolated(step.module):
        trace = Trace(names, outside(step))
        traced = Pass(step, trace, gradients=False)
        if traced.run(step.batch) or not is_bad():
            return None
        born = [record for record in trace.born if record.nan or not record.deliberate]
        if not born:
            return None
        first = min(map(origin, born), key=lambda record: record.index)
        found = _describe(traced, first)
        if found.origin == "parameter":
            return found

        def run(part: Any, backward: Backward) -> None:
            step.run(part, backward)
            if is_bad():
                backward(torch.tensor(math.nan))

        part, samples, note = _samples(replace(step, run=run), found, first, max_runs)
        return replace(found, part=part, samples=samples, note=_joined(found.note, note))
