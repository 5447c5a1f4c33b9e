"""Weights are looked at once for each load, of the whole model or of a part."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from lightning_debugkit.monitors.parameters import weight_overwrite
from lightning_debugkit.monitors.parameters.weight_overwrite import WeightOverwrite


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """All tensors whose bits were asked for."""
    seen: list[Tensor] = []
    usual = weight_overwrite.bits

    def bits(tensor: Tensor) -> int:
        seen.append(tensor)
        return usual(tensor)

    monkeypatch.setattr(weight_overwrite, "bits", bits)
    return seen


def test_a_load_of_the_whole_model_looks_at_each_weight_once(looked: list[Tensor]) -> None:
    model, watch = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))), WeightOverwrite()
    watch.begin(model)
    model.load_state_dict(model.state_dict())
    assert (len(looked), len(watch.bits), watch.parts) == (4, 4, {})


def test_a_part_that_is_loaded_after_the_whole_or_after_a_load_that_fails_is_looked_at(looked: list[Tensor]) -> None:
    model, watch = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))), WeightOverwrite()
    watch.begin(model)
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({})
    looked.clear()
    model[1].load_state_dict(model[1].state_dict())
    assert (len(looked), sorted(watch.parts)) == (2, ["1.0.bias", "1.0.weight"])
