"""``lightning-debugkit check`` runs a program up to its first fit, checks a copy, and ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_debugkit.cli import main

PROGRAM = """
import sys
import torch
import lightning.pytorch as pl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.logger.experiment.add_scalar("seen", 1, 1)
        if "--lost" in sys.argv:
            raise KeyError("row")
        return nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

if __name__ == "__main__":
    if "--never" in sys.argv:
        sys.exit(0)
    if "--break" in sys.argv:
        raise KeyError("lost")
    pl.seed_everything(0, verbose=False)
    x = torch.randn(256, 10)
    y = x.sum(1) if "--flat" in sys.argv else x.sum(1, keepdim=True)
    pl.Trainer(max_epochs=99, accelerator="cpu").fit(Net(), DataLoader(TensorDataset(x, y), 32, shuffle=True))
    open("reached", "w")
"""

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(PROGRAM)
    return "train.py"


def test_a_fault_is_printed_and_the_program_ends_there(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", script, "--flat"]) == 1
    told = capsys.readouterr().out
    assert "warning: shape-broadcast: mse_loss of (32, 1) with (32,) at train.py:" in told
    assert sorted(path.name for path in Path().iterdir()) == ["lightning-debugkit-check", "train.py"]


def test_a_healthy_program_has_status_0(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", script]) == 0
    assert "No fault found in the first steps." in capsys.readouterr().out


def test_the_report_of_the_last_check_is_where_the_first_was(script: str, capfd: pytest.CaptureFixture[str]) -> None:
    page = Path("out/debugkit/report.html").resolve()
    statuses = [main(["check", "--folder", "out", script, *extra]) for extra in (["--flat"], [], ["--lost"])]
    told, logged = capfd.readouterr()
    assert statuses == [1, 0, 2]
    assert told.count(f"Report: {page}\n") == 3
    assert told.count("shape-broadcast") == 1
    assert "lightning-debugkit" not in logged
    assert told.count("train.py broke before its first fit was done: KeyError: 'row'") == 1
    pages = [Path("out", name, "report.html").read_text() for name in ("debugkit-1", "debugkit-2", "debugkit")]
    assert ["shape-broadcast" in text for text in pages] == [True, False, False]
    assert "KeyError" in pages[2]


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("--never", "train.py ended without a fit; give the program, and the arguments, with which it trains."),
        ("--break", "train.py broke before its first fit was done: KeyError: 'lost'"),
    ],
)
def test_a_program_that_never_comes_to_a_fit_has_status_2(
    script: str, argument: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", script, argument]) == 2
    assert capsys.readouterr().err == f"lightning-debugkit: {reason}\n"


def test_a_program_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.py"]) == 2
    assert "check needs a Python program, got 'nowhere.py'" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [[], ["--lr", "1"]])
def test_what_is_no_python_program_is_told_by_its_line(
    extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "train.sh"
    script.write_text("cd project\npython train.py\n")
    assert main(["check", str(script), *extra]) == 2
    assert capsys.readouterr().err == (
        f"lightning-debugkit: check needs a Python program, got '{script}', whose line 1 is not (invalid syntax); "
        "give the file that calls Trainer.fit.\n"
    )
