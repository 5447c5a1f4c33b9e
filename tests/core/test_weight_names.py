"""Weights whose names differ by a known prefix alone are loaded; of others it is said what stands before them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import CodeSnapshot, load_model
from lightning_debugkit.core.weight_names import explained_names, fit_names, renamed

pytestmark = pytest.mark.filterwarnings("ignore")


class Lit(pl.LightningModule):
    """A network that is compiled, averaged beside itself, within an average, or none of these."""

    def __init__(self, compiled: bool = False, averaged: bool = False, width: int = 4, within: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net: Any = nn.Sequential(nn.Linear(4, width), nn.Linear(width, 1))
        if compiled:
            self.net = torch.compile(self.net, backend="eager")
        if averaged:
            self.ema_net = torch.optim.swa_utils.AveragedModel(self.net)
        if within:
            self.net = torch.optim.swa_utils.AveragedModel(self.net)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(folder: Path, module: Lit, ckpt_path: Path | None = None) -> pl.Trainer:
    options: dict[str, Any] = {**QUIET, "max_epochs": 1 if ckpt_path is None else 2}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=[CodeSnapshot(side_ref=False)], **options)
    loader = DataLoader(TensorDataset(torch.randn(8, 4)), batch_size=4)
    trainer.fit(module, loader, ckpt_path=ckpt_path)
    trainer.save_checkpoint(folder / "end.ckpt")
    return trainer


def values(module: Lit) -> list[Tensor]:
    return [value.detach().clone() for value in module.net.parameters()]


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True), (True, True), (False, False)])
def test_a_compiled_part_loads_in_one_that_is_not_and_the_other_way(before: bool, now: bool, tmp_path: Path) -> None:
    module = Lit(compiled=before)
    fit(tmp_path, module)
    loaded = load_model(tmp_path / "end.ckpt", code="current", compiled=now)
    assert all(torch.equal(a, b) for a, b in zip(values(module), values(loaded), strict=True))
    assert "load_state_dict" not in vars(Lit)


@pytest.mark.parametrize(("before", "now"), [(True, False), (False, True), (False, False)])
def test_a_run_resumes_from_it(before: bool, now: bool, tmp_path: Path) -> None:
    fit(tmp_path / "1", Lit(compiled=before))
    module = Lit(compiled=now)
    trainer = fit(tmp_path / "2", module, tmp_path / "1" / "end.ckpt")
    assert trainer.global_step == 4
    found = [finding.rule for finding in journal(tmp_path / "2").findings if finding.rule == "weights-renamed"]
    assert found == (["weights-renamed"] if before != now else [])
    assert not module._load_state_dict_pre_hooks


def test_a_rest_that_does_not_fit_is_named(tmp_path: Path) -> None:
    fit(tmp_path, Lit(compiled=True))
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_model(tmp_path / "end.ckpt", code="current", compiled=False, width=5)


def test_a_moving_average_that_the_model_does_not_have_is_named(tmp_path: Path) -> None:
    fit(tmp_path, Lit(averaged=True))
    with pytest.raises(RuntimeError, match=r"5 weights of the checkpoint begin with 'ema_net.', a moving average"):
        load_model(tmp_path / "end.ckpt", code="current", averaged=False)
    assert load_model(tmp_path / "end.ckpt", code="current", averaged=False, strict=False) is not None


def test_a_network_within_an_average_loads_in_one_that_is_not(tmp_path: Path) -> None:
    module = Lit(within=True)
    fit(tmp_path, module)
    loaded = load_model(tmp_path / "end.ckpt", code="current", within=False)
    assert all(torch.equal(a, b) for a, b in zip(values(module), values(loaded), strict=True))


def test_an_average_beside_the_network_is_not_taken_for_it() -> None:
    saved = ["net.weight", "net.module.weight", "net.n_averaged", "ema.module.weight"]
    assert renamed(saved, ["net.weight"]) == {}
    assert renamed(saved[1:], ["net.weight"]) == {"net.module.weight": "net.weight"}


NAMES = ["net.0.weight", "net.0.bias", "head.weight"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.module.", "module._orig_mod."])
def test_one_prefix_before_all_names_is_taken_off(prefix: str) -> None:
    assert renamed([prefix + name for name in NAMES], NAMES) == {prefix + name: name for name in NAMES}


@pytest.mark.parametrize(
    "saved",
    [
        NAMES,
        NAMES[:2],
        ["other." + name for name in NAMES[:2]],
        ["a.net.0.weight", "b.net.0.bias", "c.head.weight"],
        ["x.net.0.weight", "x.net.0.bias", "x.tail.weight"],
        [],
    ],
)
def test_what_is_not_certain_is_left_alone(saved: list[str]) -> None:
    assert renamed(saved, NAMES) == {}
    assert explained_names(saved, NAMES) == ""


def test_two_names_that_would_be_one_are_left_alone() -> None:
    assert renamed(["net._orig_mod.weight", "net.weight"], ["net.weight"]) == {}


def test_a_module_with_the_hook_can_be_pickled_and_is_free_of_it_then() -> None:
    module = nn.Linear(2, 1)
    handle = fit_names(module)
    pickle.loads(pickle.dumps(module)).load_state_dict(module.state_dict())
    module.load_state_dict({f"module.{name}": value for name, value in module.state_dict().items()})
    handle.remove()
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict({f"module.{name}": value for name, value in module.state_dict().items()})
