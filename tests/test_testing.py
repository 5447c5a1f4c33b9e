"""`lightning_debugkit.testing`: a module is checked on a copy, and a test fails with the findings."""

from __future__ import annotations

from dataclasses import replace

import lightning.pytorch as pl
import pytest
import torch
from faults import preflight
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import debugkit, testing
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.journal import Events
from lightning_debugkit.preflight.output_activation import DOUBLE_SOFTMAX
from lightning_debugkit.preflight.overfit import CANNOT_OVERFIT
from lightning_debugkit.testing import assert_trains, check

CALLS = (assert_trains, check)
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


def test_a_module_that_trains_passes_and_is_left_as_it_was() -> None:
    pl.seed_everything(1, verbose=False)
    program = preflight.softmax_in_the_model(True)
    kept = {name: value.clone() for name, value in program.module.state_dict().items()}
    drawn = torch.get_rng_state()
    assert_trains(program.module, program.train, program.val, accelerator="cpu")
    assert all(torch.equal(value, kept[name]) for name, value in program.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_one_that_does_not_fails_with_what_was_found(caplog: pytest.LogCaptureFixture) -> None:
    pl.seed_everything(1, verbose=False)
    program = preflight.softmax_in_the_model(False)
    with pytest.raises(AssertionError, match=r"double-softmax: cross_entropy is given probabilities"):
        assert_trains(program.module, program.train, program.val, accelerator="cpu", steps=5)
    assert_trains(program.module, program.train, accelerator="cpu", steps=5, ignore=["double-softmax"])
    found = check(program.module, program.train, accelerator="cpu", steps=5)
    assert [finding.rule for finding in found] == ["double-softmax"]
    assert "report.html" not in caplog.text, "its folder is gone"


def test_of_a_training_that_breaks_off_what_was_found_is_told_and_the_cause_kept() -> None:
    pl.seed_everything(1, verbose=False)
    program = preflight.softmax_in_the_model(True)
    x, y = next(iter(program.train))
    beyond, none = (DataLoader(TensorDataset(*parts), 16) for parts in ((x, y + 50), (x[:, :3], y)))
    with pytest.raises(AssertionError, match="label-out-of-range") as caught:
        assert_trains(program.module, beyond, accelerator="cpu", steps=5)
    assert isinstance(caught.value.__cause__, IndexError)
    with pytest.raises(IndexError):
        check(program.module, beyond, accelerator="cpu", steps=5)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        assert_trains(program.module, none, accelerator="cpu", steps=5)


def test_a_rule_that_is_none_is_told_as_by_debugkit() -> None:
    module = preflight.softmax_in_the_model(True).module
    for refused in (lambda: debugkit(ignore=["seed"]), *(lambda f=f: f(module, ignore=["seed"]) for f in CALLS)):
        with pytest.raises(
            ValueError, match=r"needs ignore to name rules, got 'seed'; the closest is 'seed-not-set'\."
        ):
            refused()


def test_a_cause_stands_before_what_came_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = {"samples": 4, "loss": 1.0, "tried": "50 steps of Adam at 0.1", "constant": 2.0, "least": 0.0}
    late = CANNOT_OVERFIT.found(Where(0, 0), **evidence)
    cause = replace(late, rule=DOUBLE_SOFTMAX.name, message="twice", can_follow=())
    monkeypatch.setattr(testing, "read_journal", lambda _: Events([late.to_event(), cause.to_event()]))
    program = preflight.softmax_in_the_model(True)
    with pytest.raises(AssertionError, match=r"^double-softmax: twice"):
        assert_trains(program.module, program.train, accelerator="cpu", steps=1)
