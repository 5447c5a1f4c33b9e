"""A buffer that one batch broke is told with what breaks buffers of its kind."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_debugkit import Finding
from lightning_debugkit.core.finding import Where
from lightning_debugkit.monitors.parameters.buffers import Buffers


class Code(nn.Module):
    """What is kept from step to step: code words, and the statistics of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("words", torch.ones(4, 3))
        self.norm = nn.BatchNorm1d(3)


def told(broken: str, batch: Tensor, by: float = math.nan) -> Finding:
    module, buffers = Code(), Buffers()
    buffers.begin(Where(0, 0), module)
    module.get_buffer(broken).fill_(by)
    (found,) = buffers.look(Where(0, 1), module, batch)
    return found


def test_a_batch_of_one_sample_has_no_variance() -> None:
    found = told("words", torch.ones(1, 3))
    assert found.message.endswith("; that batch has one sample, whose variance is nan")
    assert found.advice.startswith("Pass drop_last=True to the DataLoader")
    assert "variance" not in told("words", torch.ones(1, 3), by=math.inf).message


def test_what_writes_to_a_buffer_is_to_blame_and_what_goes_into_a_norm() -> None:
    words, norm = told("words", torch.ones(8, 3)), told("norm.running_var", torch.ones(8, 3))
    assert words.advice.startswith("Look at what writes to it, such as a division by a count of 0, and set it anew")
    assert "eval mode" not in words.advice
    assert norm.advice.startswith("Bound what goes into norm, and call its reset_running_stats()")
    assert "in eval mode it gives nan or 0" in norm.advice
