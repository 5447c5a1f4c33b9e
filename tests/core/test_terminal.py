"""What a person sees: a real program under a pseudo-terminal, its screen as a terminal would draw it."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import pty
import struct
import subprocess
import termios
import textwrap
from pathlib import Path

import pyte
import pytest
import warm_process

from lightning_debugkit.core import console
from lightning_debugkit.core.finding import Finding, Severity, Where

PROGRAM = """
import sys, time
import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        time.sleep(0.02)
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        loss = self.net(batch[0]).mean()
        self.log("val_loss", loss * float("nan") if self.trainer.current_epoch == 1 else loss)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

torch.manual_seed(0)
data = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=4)
bar = RichProgressBar() if sys.argv[1] == "rich" else TQDMProgressBar()
trainer = pl.Trainer(
    max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
    callbacks=[bar], default_root_dir=sys.argv[2],
)
trainer.fit(Net(), data, data)
"""
LINES, COLUMNS = 400, 110  # high enough that nothing scrolls away


def screen(command: list[str], folder: Path) -> list[str]:
    """Run ``command`` in a terminal of its own and return the lines that are left on it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "PYTHONWARNINGS": "ignore"}
    environment |= {"LIGHTNING_DEBUGKIT": "standard", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=folder)
    os.close(theirs)
    said = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        said += part
    os.close(ours)
    assert process.wait(30) == 0, said.decode(errors="replace")
    terminal = pyte.Screen(COLUMNS, LINES)
    pyte.ByteStream(terminal).feed(said)
    return [line.rstrip() for line in terminal.display]


@pytest.mark.parametrize("bar", ["tqdm", "rich"])
def test_a_warning_stands_once_and_whole_above_the_bar(bar: str, tmp_path: Path) -> None:
    if bar == "rich":
        pytest.importorskip("rich")
    program = tmp_path / "train.py"
    program.write_text(textwrap.dedent(PROGRAM))
    lines = screen([warm_process.python(), str(program), bar, str(tmp_path)], tmp_path)
    shown = "\n".join(line for line in lines if line)
    (at,) = [place for place, line in enumerate(lines) if line.startswith(("warning ", "error "))]
    assert "nonfinite-validation" in lines[at], shown
    # No bar stands within what was said, and nothing of a bar is left before it but whole bars.
    end = next(place for place, line in enumerate(lines) if place > at and line.startswith("  "))
    assert not [line for line in lines[at : end + 1] if "it/s" in line or "━" in line or "█" in line], shown
    assert sum(line.count("nonfinite-validation") for line in lines) == 2, shown  # said, and named at the end
    (last,) = [line for line in lines if line.startswith("lightning-debugkit: ")]
    assert last.startswith("lightning-debugkit: 1 error"), shown
    assert sum("report.html" in line for line in lines) == 1, shown
    assert sum(line.startswith("Epoch ") for line in lines) <= 4, shown  # bars are drawn over, not torn off


def test_the_end_is_a_table_where_rich_is_installed(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(textwrap.dedent(PROGRAM))
    lines = screen([warm_process.python(), str(program), "tqdm", str(tmp_path)], tmp_path)
    at = next(place for place, line in enumerate(lines) if line.startswith("lightning-debugkit: "))
    is_rich = importlib.util.find_spec("rich") is not None
    assert (lines[at + 1].split() == ["severity", "rule", "step", "where"]) == is_rich
    assert ("nonfinite-validation (step" in lines[at]) != is_rich


@pytest.mark.parametrize("in_jupyter", [False, True])
def test_the_table_says_where_by_module_and_by_line(in_jupyter: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook rich would show what it prints as an output of its own, beside the verdict."""
    monkeypatch.setattr(pytest.importorskip("rich.console"), "_is_jupyter", lambda: in_jupyter)
    monkeypatch.setattr(logging.getLogger("lightning_debugkit"), "hasHandlers", lambda: False)
    line = {"source": "train.py:28: t = torch.log(wh)"}
    found = [
        Finding("nonfinite-activation", Severity.ERROR, "NaN", Where(0, 3, module="net.2"), line),
        Finding("loss-reduction", Severity.WARNING, "a sum", Where(0, 0), line),
        Finding("seed-not-set", Severity.INFO, "no seed", Where(0, 0)),
    ]
    rows = [row.split() for row in console.table(found).splitlines()[2:]]
    assert rows == [
        ["error", "nonfinite-activation", "3", "net.2", "train.py:28"],
        ["warning", "loss-reduction", "0", "train.py:28"],
        ["info", "seed-not-set", "0"],
    ]
