"""A threshold that no norm reaches is worth knowing, and no more than that."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from healthy import PROGRAMS, fit
from healthy.optimisation import OwnHooks
from healthy.parts import Program, Supervised, digits, mlp
from healthy.wiring import Manual
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD

from lightning_debugkit import Finding, GradientClippingMonitor, Severity, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]

RULE = "clipping-never"
FAR = 500.0  # the norms of these programs stay below 10


class FarInOverride(OwnHooks):
    def configure_gradient_clipping(self, optimizer: Any, *trainers: Any, **of_the_trainer: Any) -> None:
        nn.utils.clip_grad_norm_(self.net.parameters(), FAR)


class FarByHand(Manual):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=FAR, gradient_clip_algorithm="norm")
        optimizer.step()


def net() -> list[Any]:
    return [mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1)]


def by_trainer(**clip: Any) -> Program:
    return Program(Supervised(*net()), digits(flat=True)[0], trainer={"max_epochs": 8, **clip})


STYLES = {
    "norm": lambda: by_trainer(gradient_clip_val=FAR),
    "value": lambda: by_trainer(gradient_clip_val=FAR, gradient_clip_algorithm="value"),
    "override": lambda: Program(FarInOverride(*net()), digits(flat=True)[0], trainer={"max_epochs": 8}),
    "by hand": lambda: Program(FarByHand(), digits(flat=True)[0], trainer={"max_epochs": 8}),
}


def found(program: Program, folder: Path) -> list[Finding]:
    fit(program, folder, GradientClippingMonitor())
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble")
    return journal.findings


@pytest.mark.parametrize("style", STYLES)
def test_a_threshold_far_above_every_norm_is_told_once_as_info(style: str, tmp_path: Path) -> None:
    (finding,) = found(STYLES[style](), tmp_path)
    assert (finding.rule, finding.severity) == (RULE, Severity.INFO)
    assert f"{FAR:g}" in finding.message


@pytest.mark.parametrize(
    "name",
    [
        "cnn",  # no threshold at all
        "clipping_fires_on_few_steps",
        "learnt_to_the_last_digit_under_a_threshold",  # at work in the first epochs only
        "gan_with_both_sides_clipped",
        "norm_logged_by_an_infinite_threshold",  # a ruler, not a threshold
    ],
)
def test_a_threshold_that_works_or_is_none_is_not_told(name: str, tmp_path: Path) -> None:
    assert RULE not in [finding.rule for finding in found(PROGRAMS[name](), tmp_path)]


def test_a_few_steps_do_not_make_a_never(tmp_path: Path) -> None:
    short = Program(Supervised(*net()), digits(flat=True)[0], trainer={"max_steps": 5, "gradient_clip_val": FAR})
    assert found(short, tmp_path) == []
