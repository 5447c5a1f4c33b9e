"""Loads before a fit are heard from the moment that the callback is made, and leave nothing behind."""

from __future__ import annotations

import copy
import gc
import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from monitors.breaking import QUIET, Net, data
from torch import nn

from lightning_debugkit import GradientAnomalyDetector, read_journal
from lightning_debugkit.monitors.parameters.weights_not_loaded import Loads

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("alone")]


@pytest.fixture
def alone() -> None:
    """Callbacks of other tests may still be about."""
    for loads in list(Loads._hearing):
        loads.stop()


def state(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": value.clone() for name, value in Net().state_dict().items()}


def told(folder: Path, *prefixes: str, other: bool = False) -> list[str]:
    """What a fit says of a model that was loaded before it, by names that begin with each of the prefixes."""
    trainer = pl.Trainer(
        max_epochs=1, default_root_dir=folder, callbacks=[GradientAnomalyDetector(bundle=False)], **QUIET
    )
    module = Net()
    for prefix in prefixes:
        (Net() if other else module).load_state_dict(state(prefix), strict=False)
    trainer.fit(module, data())
    return [one.message for one in read_journal(folder / "debugkit").findings if one.rule == "weights-not-loaded"]


def test_a_load_before_the_fit_that_takes_nothing_over_is_told(tmp_path: Path) -> None:
    (message,) = told(tmp_path, "module.")
    assert "loaded 0 of the" in message
    assert "'module.'" in message


@pytest.mark.parametrize("prefixes", [("",), ("module.", "")])
def test_a_load_that_fits_is_no_news_nor_is_what_it_made_good(prefixes: tuple[str, ...], tmp_path: Path) -> None:
    assert not told(tmp_path, *prefixes)


def test_what_another_model_did_not_take_over_is_no_matter_of_this_one(tmp_path: Path) -> None:
    assert not told(tmp_path, "module.", other=True)


def test_a_whole_load_makes_good_what_a_part_has_missed() -> None:
    outer = nn.Sequential(nn.Linear(2, 2))
    loads = Loads()
    loads.take(outer[0], {"other": outer[0].weight}, is_strict=False)
    assert len(loads._loads) == 1
    loads.take(outer, outer.state_dict(), is_strict=True)
    assert not loads._loads


def test_torch_is_left_as_it_was_however_many_callbacks_come_and_go() -> None:
    usual = vars(nn.Module)["load_state_dict"]
    made = [GradientAnomalyDetector() for _ in range(3)]
    copies = [copy.deepcopy(made[0]), pickle.loads(pickle.dumps(made[0]))]
    assert vars(nn.Module)["load_state_dict"] is not usual
    for one in (made[1], made[0], made[2]):
        one.watches.loads.stop()
    assert vars(nn.Module)["load_state_dict"] is usual
    del copies


def test_a_callback_that_is_let_go_hears_no_more() -> None:
    usual = vars(nn.Module)["load_state_dict"]
    one = GradientAnomalyDetector()
    del one
    gc.collect()
    Net().load_state_dict(state(""))
    assert vars(nn.Module)["load_state_dict"] is usual
