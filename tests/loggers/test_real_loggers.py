"""What each logger's own store holds afterwards, read back by its own tools.

Run by ``.ci/loggers`` with the extra ``loggers``; each is left out where its package is not installed.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import debugkit, read_journal

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread", "with_report"),
]
RULE = "no-gradient"


@pytest.fixture
def with_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the fit had been long."""
    monkeypatch.setattr("lightning_debugkit.core.run.SHORT", 0.0)


@pytest.fixture(autouse=True)
def no_word_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of these packages calls home."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


class Net(pl.LightningModule):
    """A layer is never used where there is a fault; python's generator is drawn from, as augmentations do."""

    def __init__(self, fault: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(4, 1)
        if fault:
            self.unused = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = (self.net(batch[0] + random.random()) - batch[1]).square().mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder: Path, *callbacks: pl.Callback, logger: Any, fault: bool = True) -> Net:
    random.seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    data = TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(64, 1, generator=generator))
    module = Net(fault)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        log_every_n_steps=1,
        gradient_clip_val=0.1,
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return module


def same(one: Net, other: Net) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_tensorboard_has_findings_and_report_as_text_scalars_and_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    watched = fit(tmp_path, *debugkit(loggers="all"), logger=logger)
    read = EventAccumulator(logger.log_dir, {"tensors": 0, "images": 0, "scalars": 0}).Reload()
    tags = read.Tags()
    (told,) = read.Tensors(f"debugkit/{RULE}/text_summary")
    assert told.step == 32
    assert "unused.weight" in told.tensor_proto.string_val[0].decode()
    (report,) = read.Tensors("debugkit/report/text_summary")
    text = report.tensor_proto.string_val[0].decode()
    assert "report.html" in text
    assert text.startswith("# The run finished; one thing needs attention: unused.weight")
    assert "<details>" not in text, "TensorBoard shows no HTML"
    assert "](figures/" not in text, "nor what lies in a folder"
    assert {"debugkit/grad_norm", "debugkit/clip_coefficient", "debugkit/grad_norm/net"} <= set(tags["scalars"])
    assert any(tag.startswith("debugkit/") for tag in tags["images"])
    assert read_journal(Path(logger.log_dir, "debugkit")).of_kind("unsent") == []
    assert same(watched, fit(tmp_path / "bare", logger=False))


def test_by_default_tensorboard_has_neither_scalars_nor_figures_of_the_kit(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    fit(tmp_path, *debugkit(), logger=logger)
    tags = EventAccumulator(logger.log_dir).Reload().Tags()
    assert not [tag for tag in [*tags["scalars"], *tags["images"]] if "debugkit" in tag]
    assert sorted(tag for tag in tags["tensors"]) == [f"debugkit/{RULE}/text_summary", "debugkit/report/text_summary"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on the loopback interface."""
    pytest.importorskip("mlflow")
    pytest.importorskip("flask")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", f"{tmp_path}/served"]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its queue of jobs is six processes, which no tracking needs.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *store], stdout=log, stderr=log, cwd=tmp_path, start_new_session=True, env=environment
        )
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).read()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def read_mlflow(uri: str, run: str, folder: Path) -> tuple[dict[str, str], set[str], str]:
    """Tags, artifacts and the text of findings, by MLflow's own client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    artifacts = {info.path for info in client.list_artifacts(run, "debugkit")}
    folder.mkdir()
    text = Path(client.download_artifacts(run, "debugkit/findings.md", str(folder))).read_text()
    data = client.get_run(run).data
    assert data.metrics["train_loss"] >= 0
    return data.tags, artifacts | set(data.metrics), text


@pytest.mark.parametrize("kind", ["sqlite", "server"])
def test_mlflow_has_findings_report_and_scalars(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from lightning.pytorch.loggers import MLFlowLogger

    uri = request.getfixturevalue("server") if kind == "server" else f"sqlite:///{tmp_path}/store.db"
    place = {} if kind == "server" else {"artifact_location": f"file://{tmp_path}/artifacts"}
    logger = MLFlowLogger("trial", tracking_uri=uri, **place)
    watched = fit(tmp_path / "root", *debugkit(loggers="all"), logger=logger)
    assert read_journal(tmp_path / "root/debugkit").of_kind("unsent") == []
    bare = MLFlowLogger("bare", tracking_uri=uri, **place)  # a run's name is drawn from python's generator
    assert same(watched, fit(tmp_path / "bare", logger=bare))
    tags, names, text = read_mlflow(uri, logger.run_id, tmp_path / "read")
    assert "unused.weight" in tags[f"debugkit.{RULE}"]
    assert {"debugkit/findings.md", "debugkit/report.html", "debugkit/figures", "debugkit/grad_norm"} <= names
    assert text.count(f"**{RULE}**") == 1


def test_the_run_folder_is_no_entry_of_an_mlflow_store(tmp_path: Path) -> None:
    """A store of files takes each folder in it for an experiment."""
    pytest.importorskip("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/store/store.db"
    (tmp_path / "store").mkdir()
    logger = MLFlowLogger("trial", tracking_uri=uri, artifact_location=f"file://{tmp_path}/artifacts")
    fit(tmp_path / "root", *debugkit(), logger=logger)
    assert {each.name for each in MlflowClient(uri).search_experiments()} == {"Default", "trial"}
    assert {info.path for info in MlflowClient(uri).list_artifacts(logger.run_id)} == {"debugkit"}


def whole_records(data: bytes) -> Iterator[bytes]:
    """The records of a W&B file: LevelDB's log format, in blocks of 32 kB behind a header of 7 bytes."""
    block, head, at, parts = 32_768, 7, 7, b""
    while at + head <= len(data):
        if block - at % block < head:
            at += block - at % block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        parts += data[at + head : at + head + length]
        at += head + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def logged_names(item: Any) -> set[str]:
    """What an item of W&B's history tells of: fields of a table are in its value (0.17), or in its key."""
    name, value = item.key or "/".join(item.nested_key), json.loads(item.value_json)
    return {f"{name}/{field}" for field in value} if isinstance(value, dict) else {name}


def test_wandb_offline_has_alert_table_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger
    from wandb.proto import wandb_internal_pb2 as protocol

    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logger = WandbLogger(project="trial", save_dir=tmp_path, offline=True)
    watched = fit(tmp_path / "root", *debugkit(loggers="all"), logger=logger)
    logger.experiment.finish()
    wandb.teardown()  # waits for the process that writes the file
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    records = [protocol.Record.FromString(data) for data in whole_records(file.read_bytes())]
    alerts = [record.alert for record in records if record.WhichOneof("record_type") == "alert"]
    assert [(alert.title, alert.level) for alert in alerts] == [(f"{RULE} at step 32", "WARN")]
    assert "unused.weight" in alerts[0].text
    logged = {name for record in records for item in record.history.item for name in logged_names(item)}
    assert {"train_loss", "debugkit/findings/path", "debugkit/grad_norm", "debugkit/clip_coefficient"} <= logged
    artifacts = [record.request.log_artifact.artifact for record in records if record.HasField("request")]
    artifacts += [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    assert any(artifact.name.startswith("debugkit-report-") for artifact in artifacts)
    (rows,) = [path for path in tmp_path.glob("wandb/**/*.table.json") if "findings" in str(path)]
    assert [row[:3] for row in json.loads(rows.read_text())["data"]] == [["warning", RULE, 32]]
    assert read_journal(tmp_path / "root/debugkit").of_kind("unsent") == []
    assert same(watched, fit(tmp_path / "bare", logger=False))


def test_comet_offline_has_text_and_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("comet_ml")
    from lightning.pytorch.loggers import CometLogger

    monkeypatch.setenv("COMET_OFFLINE_DIRECTORY", str(tmp_path / "comet"))
    monkeypatch.setenv("COMET_LOGGING_CONSOLE", "ERROR")
    is_ended_by_fit = "save_dir" in inspect.signature(CometLogger).parameters  # before Lightning 2.5.1
    if is_ended_by_fit:
        logger = CometLogger(api_key="none", save_dir=str(tmp_path / "comet"), project_name="trial", offline=True)
    else:
        # CometLogger(online=False) of Lightning 2.6 switches Comet off altogether.
        monkeypatch.setenv("COMET_START_ONLINE", "0")
        logger = CometLogger(offline_directory=str(tmp_path / "comet"), project="trial", api_key="none")
    watched = fit(tmp_path / "root", *debugkit(loggers="all"), logger=logger)
    if not is_ended_by_fit:
        logger.experiment.end()
    assert read_journal(tmp_path / "root/debugkit").of_kind("unsent") == []
    (archive,) = (tmp_path / "comet").glob("*.zip")
    with zipfile.ZipFile(archive) as held:
        messages = held.read("messages.json").decode()
    assert "debugkit/report.html" in messages
    assert "debugkit/grad_norm" in messages
    assert RULE in messages
    assert all(json.loads(line) for line in messages.splitlines())
    assert same(watched, fit(tmp_path / "bare", logger=False))


def test_several_at_once_each_have_all_and_a_healthy_fit_leaves_no_trace_but_its_report(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    uri = f"sqlite:///{tmp_path}/store.db"
    for fault in (True, False):
        board = TensorBoardLogger(tmp_path)
        flow = MLFlowLogger("trial", tracking_uri=uri, artifact_location=f"file://{tmp_path}/artifacts")
        table = CSVLogger(tmp_path, "csv")
        fit(tmp_path, *debugkit(), logger=[board, flow, table], fault=fault)
        texts = EventAccumulator(board.log_dir).Reload().Tags()["tensors"]
        kept = {info.path for info in MlflowClient(uri).list_artifacts(flow.run_id, "debugkit")}
        assert (f"debugkit/{RULE}/text_summary" in texts) == fault
        assert kept == {"debugkit/report.html"} | ({"debugkit/findings.md"} if fault else set())
        assert "debugkit" not in Path(table.log_dir, "metrics.csv").read_text()
