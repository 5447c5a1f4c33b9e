"""Whatever a program holds that is secret: nothing that a broken run leaves on the disk has it."""

from __future__ import annotations

import random
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.killing import until
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lightning_debugkit import debugkit, read_journal

pytestmark = pytest.mark.filterwarnings("ignore")

CHANCE = random.Random(3)


def some(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    """A body that no issuer gave out."""
    return "".join(CHANCE.choices(alphabet, k=count))


OF_THE_LINE, OF_THE_FILE = "ghp_" + some(36), "sk-proj-" + some(48)
OF_THE_MODEL, OF_THE_BATCH = "glpat-" + some(24), "hf_" + some(34, string.ascii_letters)
OF_THE_ENVIRONMENT, BY_ITS_NAME = some(18), some(16)
ALL = (OF_THE_LINE, OF_THE_FILE, OF_THE_MODEL, OF_THE_BATCH, OF_THE_ENVIRONMENT, BY_ITS_NAME)

HELPERS = f"""
import torch
KEY = "{OF_THE_FILE}"
def broken(x, key):
    return torch.log(x * 0).sum() if key == "{OF_THE_LINE}" else x.sum()
"""


class Texts(Dataset[Any]):
    def __init__(self, text: str) -> None:
        self.text = text

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.randn(4), "text": self.text}


class Client(pl.LightningModule):
    def __init__(self, place: str, api_key: str = "") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.place, self.layer = place, nn.Linear(4, 1)
        if place == "model":
            self.client = OF_THE_MODEL

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.layer(batch["x"]).square().mean()
        if batch_idx < 2:
            return loss
        if self.place == "exception":
            raise RuntimeError(f"401 for {OF_THE_ENVIRONMENT}\\n{OF_THE_MODEL}")
        if self.place == "line":
            return sys.modules["helpers_of_mine"].broken(loss, OF_THE_LINE)
        return loss * torch.log(batch["x"] * 0).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """All files, once the sources that are copied beside the fit are there."""
    assert until((folder / "debugkit/code/manifest.json").exists, 30), "the last of them"
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


@pytest.fixture
def _helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "helpers_of_mine.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import helpers_of_mine  # type: ignore[import-not-found]  # made above

    yield
    del sys.modules[helpers_of_mine.__name__]


PLACES = ("line", "model", "batch", "hyper-parameter", "exception", "nowhere")


@pytest.mark.usefixtures("_helpers", "with_report")
@pytest.mark.parametrize("place", PLACES)
def test_no_file_of_a_broken_run_has_it(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", OF_THE_ENVIRONMENT)
    module = Client(place, BY_ITS_NAME if place == "hyper-parameter" else "")
    loader = DataLoader(Texts(OF_THE_BATCH if place == "batch" else "hello"), batch_size=8)
    folder = tmp_path / "out"
    trainer = pl.Trainer(max_epochs=1, default_root_dir=folder, callbacks=debugkit(), **QUIET)
    with pytest.raises(RuntimeError) as raised:
        trainer.fit(module, loader)
    files = dict(written(folder))
    assert "debugkit/journal-0.jsonl" in files
    assert [(name, secret) for name, data in files.items() for secret in ALL if secret.encode() in data] == []
    assert place == "exception" or not any(secret in str(raised.value) for secret in ALL)
    notes = [
        event["note"] for event in read_journal(folder / "debugkit").of_kind("artifact") if event["name"] == "bundle"
    ]
    for note in notes:
        assert "helpers_of_mine.py (holds a GitHub token in line 5)" in note
        assert ("the model cannot be packed" in note) == (place in ("model", "batch", "hyper-parameter"))
        assert ("without batch" in note) == (place == "batch")
    assert len(notes) == (place != "exception")
