"""A run that is killed without warning still has a report: what it had seen is on disk."""

import json
import subprocess
import sys
import time
from pathlib import Path

from lightning_debugkit import read_journal
from lightning_debugkit.cli import main

SCRIPT = """
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset
from lightning_debugkit import debugkit


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.used, self.outside = torch.nn.Linear(4, 1), [torch.nn.Linear(4, 1)]

    def training_step(self, batch, batch_idx):
        if batch_idx == 30:
            print("ready", flush=True)
            input()
        return (self.used(batch[0]) + self.outside[0](batch[0])).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=debugkit())
trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(400, 4)), batch_size=8))
"""


def test_a_killed_run_is_reported(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    running = subprocess.Popen(
        [sys.executable, "train.py"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert any(line == "ready\n" for line in running.stdout)
    time.sleep(1.5)  # measures wait for a second at most
    running.kill()
    running.wait(timeout=30)

    journal = read_journal(tmp_path / "debugkit")
    assert not journal.of_kind("end")
    assert [finding.rule for finding in journal.findings] == ["unregistered-parameter"]
    assert len([event for event in journal.of_kind("measure") if event["name"] == "loss"]) == 30
    assert main(["report", str(tmp_path / "debugkit")]) == 0
    report = json.loads((tmp_path / "debugkit" / "report.json").read_text())
    assert report["status"] == "unfinished"
    assert "outside" in (tmp_path / "debugkit" / "report.html").read_text()
