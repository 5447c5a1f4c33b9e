"""The kit without a change of code, in processes of their own."""

from __future__ import annotations

import copy
import os
import subprocess
import warnings
from pathlib import Path

import pytest
import warm_process
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from lightning_debugkit import read_journal
from lightning_debugkit.core.callback import DebugCallback

SCRIPT = """
import sys
import warnings
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


mine = []
if "own" in sys.argv:
    from lightning_debugkit import GradientAnomalyDetector
    mine = [GradientAnomalyDetector(action="skip", max_skips=7)]
options = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=mine, default_root_dir=sys.argv[1], **options)
trainer.fit(Line(), DataLoader(TensorDataset(torch.ones(8, 2)), batch_size=2))
kit = [c for c in trainer.callbacks if type(c).__name__ == "GradientAnomalyDetector"]
print("callbacks:", *[f"{c.action}-{'idle' if c.idle else 'at work'}" for c in kit], sep="|")
print("hooks:", *[c.hooks for c in kit])
"""


@pytest.fixture
def run(tmp_path: Path):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)

    def run(value: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {name: text for name, text in os.environ.items() if name != "LIGHTNING_DEBUGKIT"}
        environment |= {"OMP_NUM_THREADS": "1", **({} if value is None else {"LIGHTNING_DEBUGKIT": value})}
        command = [warm_process.python(), str(script), str(tmp_path / "root"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_the_variable_brings_the_kit_to_a_script_that_knows_nothing_of_it(run, tmp_path: Path) -> None:
    done = run("thorough")
    assert "callbacks:|raise-at work\nhooks: always" in done.stdout
    events = read_journal(tmp_path / "root/debugkit")
    assert [end["status"] for end in events.of_kind("end")] == ["finished"]
    assert not (tmp_path / "root/debugkit/report.html").exists()  # a short fit that went well


@pytest.mark.parametrize("value", [None, "0"])
def test_without_the_variable_nothing_is_added(value: str | None, run, tmp_path: Path) -> None:
    assert "callbacks:\n" in run(value).stdout
    assert not (tmp_path / "root/debugkit").exists()


def test_a_value_that_is_no_preset_is_said_and_training_goes_on(run, tmp_path: Path) -> None:
    done = run("everything")
    assert "callbacks:\n" in done.stdout
    assert "LIGHTNING_DEBUGKIT needs light, standard, thorough or off, got 'everything'" in done.stderr


def test_the_users_own_callback_has_the_right_of_way(run, tmp_path: Path) -> None:
    done = run("standard", "own")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("callbacks:")]
    assert sorted(line.split("|")[1:]) == ["raise-idle", "skip-at work"]
    events = read_journal(tmp_path / "root/debugkit")
    assert (len(events.of_kind("run")), len(events.of_kind("end"))) == (1, 1)
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["debugkit"]


@pytest.mark.parametrize("value", ["stndard", "standard"])
def test_it_never_raises(value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Not where warnings are errors, nor where the kit itself cannot be imported or built."""
    from lightning_debugkit import autoload

    monkeypatch.setenv("LIGHTNING_DEBUGKIT", value)
    monkeypatch.setattr("lightning_debugkit.presets.debugkit", lambda preset, **options: 1 / 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert autoload.callbacks() == []
    assert caplog.messages[-1].startswith("lightning-debugkit: this training is NOT watched: ")


def test_options_stand_behind_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_debugkit import GradientAnomalyDetector, Reporting, autoload

    words = "light action=warn max_skips=3 wiring=true loggers=none ignore=clipping-never,no-gradient"
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", words)
    made = autoload.callbacks()
    (detector,) = [each for each in made if isinstance(each, GradientAnomalyDetector)]
    (reporting,) = [each for each in made if isinstance(each, Reporting)]
    assert (detector.action, detector.max_skips, detector.wiring) == ("warn", 3, True)
    assert (reporting.loggers, reporting.ignore) == ("none", ["clipping-never", "no-gradient"])
    assert all(each.autoloaded for each in made)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("everything", "LIGHTNING_DEBUGKIT needs light, standard, thorough or off, got 'everything'."),
        ("light warn", "LIGHTNING_DEBUGKIT needs options as name=value behind the preset, got 'warn'."),
        ("light acton=warn", "got 'acton'; the closest is 'action'."),
        ("light ignore=no-gradients", "the closest is 'no-gradient'."),
    ],
)
def test_a_wrong_option_is_one_line_and_training_goes_on(
    words: str, told: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lightning_debugkit import autoload

    monkeypatch.setenv("LIGHTNING_DEBUGKIT", words)
    assert autoload.callbacks() == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.message.startswith("lightning-debugkit: this training is NOT watched: ")
    assert told in record.message


@pytest.mark.parametrize("way", ["the same list", "a copy of a Trainer's list", "the Trainer's own list"])
def test_a_list_of_callbacks_serves_several_trainers(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", "light")
    given = [Timer(duration=None)]
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=given)
    presets = [[c for c in trainer.callbacks if isinstance(c, DebugCallback)]]
    for _ in range(2):
        given = {"the same list": given, "the Trainer's own list": trainer.callbacks}.get(way) or copy.deepcopy(
            trainer.callbacks
        )
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=given)
        presets.append([c for c in trainer.callbacks if isinstance(c, DebugCallback)])
    assert [len(preset) for preset in presets] == [len(presets[0])] * 3
    assert len({id(c) for preset in presets for c in preset}) == 3 * len(presets[0])
    assert sum(isinstance(c, Timer) for c in trainer.callbacks) == 1
