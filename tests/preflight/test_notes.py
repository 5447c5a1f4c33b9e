"""What is true of many runs and asks for little is noted, and gone once it is mended."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_debugkit import Severity
from lightning_debugkit.core.finding import Where
from lightning_debugkit.preflight import initialization

HERE = Where(0, 0)


@pytest.mark.parametrize("mended", [False, True])
def test_a_bias_that_batch_norm_takes_off_again_is_noted(mended: bool) -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=not mended), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    found = list(initialization.judge_biases(net, HERE))
    assert [(each.rule, each.severity, each.evidence["layers"]) for each in found] == (
        [] if mended else [("bias-before-norm", Severity.INFO, ["0"])]
    )


@pytest.mark.parametrize("mended", [False, True])
def test_a_seed_that_nobody_set_is_noted(mended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    monkeypatch.setattr(torch, "initial_seed", lambda: 7 if mended else 1 << 60)
    assert [each.rule for each in initialization.judge_seed(HERE)] == ([] if mended else ["seed-not-set"])
