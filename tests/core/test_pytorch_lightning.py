"""Programs with ``import pytorch_lightning as pl`` are watched as those with ``import lightning.pytorch as pl``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from monitors.breaking import QUIET, data, differing, journal, warned
from torch import Tensor, nn

from lightning_debugkit import ExactResume, GradientAnomalyDetector, NestedCheckpoint, TrainingAnomaly, debugkit
from lightning_debugkit.core.compat import overrides
from lightning_debugkit.replay.bundle_replay import replay_bundle, same

pl = pytest.importorskip("pytorch_lightning")

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning")]

ROOT = Path(__file__).resolve().parents[2]


class Net(pl.LightningModule):
    """A classifier whose loss is the logarithm of a negative number from the batch named."""

    def __init__(self, breaks_at: int = -1) -> None:
        super().__init__()
        self.breaks_at = breaks_at
        self.net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), (y[:, 0] > 0).long())
        self.log("loss", loss)
        return loss * torch.log(-1 - x[0, 0].abs()) if batch_idx == self.breaks_at else loss

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), (y[:, 0] > 0).long())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ByHand(Net):
    """Steps through Lightning's wrapper, twice a batch, and leaves one layer's parameters without a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.unused = nn.Linear(6, 2)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        for _ in range(2):
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None: ...


def fit(module: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    pl.seed_everything(5, verbose=False)
    ckpt_path = options.pop("ckpt_path", None)
    options = {**QUIET, "max_epochs": 2, **options}
    trainer = pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options)
    trainer.fit(module, data(), data(), ckpt_path=ckpt_path)
    return trainer


def make(kind: type[Net] = Net, *arguments: Any) -> Net:
    pl.seed_everything(11, verbose=False)
    return kind(*arguments)


def test_a_loss_that_breaks_is_found_and_can_be_broken_again(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly) as raised:
        fit(make(Net, 4), tmp_path, *debugkit())
    assert (raised.value.finding.rule, raised.value.finding.where.step) == ("nonfinite-loss", 4)
    assert "log of a negative number" in raised.value.finding.message
    assert journal(tmp_path).of_kind("artifact")
    (bundle,) = (tmp_path / "debugkit/bundles").iterdir()
    assert same(*replay_bundle(bundle, trust_code=True))


@pytest.mark.parametrize("kind", [Net, ByHand])
def test_a_sound_run_is_seen_whole_and_keeps_its_weights(kind: type[Net], tmp_path: Path) -> None:
    alone, watched = make(kind), make(kind)
    clips = {"gradient_clip_val": 0.5} if kind is Net else {}
    fit(alone, tmp_path / "alone", **clips)
    fit(watched, tmp_path / "watched", *debugkit("thorough"), **clips)
    events = journal(tmp_path / "watched")
    measured = {event["name"] for event in events.of_kind("measure")}
    assert differing(alone, watched) == []
    assert {"loss", "gradient-norms"} <= measured
    assert "clipping-unseen" not in measured
    assert [finding.rule for finding in warned(events)] == (["no-gradient"] if kind is ByHand else [])


def test_a_method_of_the_modules_own_is_told_from_one_of_lightning() -> None:
    assert [overrides(kind(), "configure_gradient_clipping") for kind in (Net, ByHand)] == [False, True]


def test_a_checkpoint_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, cut = make(), make()
    fit(whole, tmp_path / "whole", ExactResume(), max_epochs=4)
    trainer = fit(cut, tmp_path / "cut", ExactResume(), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "cut.ckpt")
    resumed = make()
    fit(resumed, tmp_path / "resumed", ExactResume(), max_epochs=4, ckpt_path=tmp_path / "cut.ckpt")
    assert differing(whole, resumed) == []


def test_a_checkpoint_callback_of_the_one_is_refused_by_a_trainer_of_the_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NestedCheckpoint needs a Trainer of lightning"):
        fit(make(), tmp_path, NestedCheckpoint(tmp_path / "kept"))


def test_the_environment_variable_reaches_a_program_of_either_package(tmp_path: Path) -> None:
    """The entry points are those that a wheel of this working tree declares."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    declared = tmp_path / "site/lightning_debugkit-0.dist-info"
    declared.mkdir(parents=True)
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning-debugkit\nVersion: 0\n")
    lines = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()]
    (declared / "entry_points.txt").write_text("\n".join(lines))
    path = os.pathsep.join([str(tmp_path / "site"), str(ROOT)])
    environment = {**os.environ, "LIGHTNING_DEBUGKIT": "light", "PYTHONPATH": path}
    for package in ("lightning.pytorch", "pytorch_lightning"):
        script = f"import {package} as pl; print([type(c).__name__ for c in pl.Trainer(logger=False).callbacks])"
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
        )
        assert done.stdout.count(GradientAnomalyDetector.__name__) == 1, done.stderr


def test_callbacks_belong_to_both_packages() -> None:
    """``pytorch_lightning`` of 2.5 builds no Trainer with a callback that is no instance of its own class."""
    import lightning.pytorch

    made = [*debugkit("thorough"), ExactResume(), NestedCheckpoint()]
    assert [one for one in made if not isinstance(one, pl.Callback)] == []
    assert [one for one in made if not isinstance(one, lightning.pytorch.Callback)] == []


def test_callbacks_made_before_the_other_package_is_imported_belong_to_it_once_a_trainer_asks() -> None:
    script = """
from lightning_debugkit import debugkit
made = debugkit()
import pytorch_lightning as pl
assert not isinstance(made[0], pl.Callback)
trainer = pl.Trainer(callbacks=made, logger=False, accelerator="cpu", enable_checkpointing=False)
assert isinstance(made[0], pl.Callback)
"""
    environment = {name: text for name, text in os.environ.items() if name != "LIGHTNING_DEBUGKIT"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120, capture_output=True)
