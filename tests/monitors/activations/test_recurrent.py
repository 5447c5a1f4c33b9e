"""Outputs and states of recurrent layers, packed or not: each has its units in its own last dimension."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lightning_debugkit.monitors.activations.observed_activations import ObservedActivations, read_activations
from lightning_debugkit.monitors.activations.operation_mode import OperationMode

KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class Reader(nn.Module):
    """Read a text, rectify the last state; two of its four units lie far below zero."""

    def __init__(self, kind: str, layers: int, packed: bool, bidirectional: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 6)
        self.rnn = KINDS[kind](6, 4, layers, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(4, 3)
        self.packed = packed

    def forward(self, words: Tensor) -> Tensor:
        given = self.embedding(words)
        if self.packed:
            given = pack_padded_sequence(given, torch.tensor([5, 2, 4, 3]), batch_first=True, enforce_sorted=False)
        _, states = self.rnn(given)
        last = (states[0] if isinstance(states, tuple) else states)[-1]
        return self.head(torch.relu(last - torch.tensor([9.0, 9.0, -9.0, -9.0])))


def look(net: Reader) -> ObservedActivations:
    words = torch.randint(10, (4, 5), generator=torch.Generator().manual_seed(1))
    watch = OperationMode(net)
    watch.gathered.saw_batch(words)
    with watch:
        loss = net(words).square().mean()
    if watch.error is not None:
        raise watch.error
    with torch.no_grad():
        watch.gathered.reaches(loss)
        return read_activations(watch.gathered, net)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_units_of_a_state_are_found_wherever_it_comes_from(
    kind: str, layers: int, packed: bool, bidirectional: bool
) -> None:
    found = look(Reader(kind, layers, packed, bidirectional)).seen
    (seen,) = [each for each in found if "relu" in each.site.op]  # gates that are no single kernel have sites too
    assert (seen.site.layer, seen.flags.tolist()) == ("rnn", [True, True, False, False])
