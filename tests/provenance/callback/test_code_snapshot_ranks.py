"""On two ranks the first one captures and the file carries it; nobody waits for anybody."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import make
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import CodeSnapshot, read_journal
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("no_process_left"),
]


def test_the_first_rank_captures_for_all(tmp_path: Path) -> None:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", strategy="ddp_fork", devices=2, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[CodeSnapshot(export=True)],
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(32, 6, generator=generator), torch.randn(32, 1, generator=generator))
    trainer.fit(make(), DataLoader(data, 8))
    (path,) = (tmp_path / "checkpoints").glob("*.ckpt")
    manifest, source = read_snapshot(path)
    assert source is not None
    assert manifest["run"]["world_size"] == 2
    events = read_journal(tmp_path / "debugkit")
    assert [event["rank"] for event in events if event.get("name") == "code"] == [0]
    assert {note.where.rank for note in events.notes} == {0}
    assert events.of_kind("trouble") == []
    assert [(end["rank"], end["status"]) for end in events.of_kind("end")] == [(0, "finished"), (1, "finished")]
