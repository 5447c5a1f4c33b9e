"""The docs are a site: built with warnings as errors, and what new pages show can be run as it stands."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from test_docs import DOCS, ROOT, blocks
from torch.utils.data import DataLoader, TensorDataset

NAMES = "index loss-is-nan validation-is-worse resume-differs old-weights silence-a-rule reports loggers ci"
NAMES += " activations checkpoints error-analysis exact-resume gradient-anomaly gradient-clipping preflight presets"
GUIDES = [ROOT / "README.md", *(DOCS / f"{name}.md" for name in NAMES.split())]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/findings/index.html").is_file()
    assert (tmp_path / "site/report.png").is_file()


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in DOCS.glob("*.md") if f": {page.name}" not in contents] == []


class Net(pl.LightningModule):
    """What readers of the pages have themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("val_loss", loss)
        return loss

    test_step = validation_step

    def train_dataloader(self) -> DataLoader[Any]:
        return samples()

    val_dataloader = test_dataloader = train_dataloader

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def samples() -> DataLoader[Any]:
    x = torch.randn(256, 4)
    return DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8, shuffle=True)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_python_on_a_page_runs_as_it_stands(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for argument, value in (("MAX_EPOCHS", "1"), ("ACCELERATOR", "cpu"), ("ENABLE_PROGRESS_BAR", "0")):
        monkeypatch.setenv(f"PL_TRAINER_{argument}", value)  # where the page leaves it open
    torch.manual_seed(0)
    names: dict[str, Any] = {"model": Net(), "MyModule": Net, "loader": samples(), "Trainer": pl.Trainer}
    for block in blocks(page, "python"):
        needs_store = "s3://" in block and importlib.util.find_spec("s3fs") is None
        if '("best.ckpt"' not in block and not needs_store:  # the reader's own checkpoint
            exec(compile(block, page.name, "exec"), names)
    for name, value in list(names.items()):
        if name.startswith("test_"):
            value()


def test_the_yaml_on_its_page_can_be_built() -> None:
    from test_yaml import built

    for block in blocks(DOCS / "lightning-cli.md", "yaml"):
        assert isinstance(yaml.safe_load(block)["trainer"]["callbacks+"], list)
        assert len(built(block.replace("alerts.to_slack", "json.dumps"))) in (1, 3)
