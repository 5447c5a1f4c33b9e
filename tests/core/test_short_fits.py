"""What a fit leaves and says: nothing but a journal if it was short and well; facts that are those of this run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ErrorAnalysis, GradientAnomalyDetector, debugkit, read_journal
from lightning_debugkit.core.call_later import waiting_calls
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.run import FOLDERS
from lightning_debugkit.core.run_folders import INDEX, folded
from lightning_debugkit.report.summary import summarize

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.usefixtures("one_thread", "with_report_as_it_is"),
]


@pytest.fixture
def with_report_as_it_is(with_report: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendered where a user's would be."""
    monkeypatch.setattr("lightning_debugkit.core.run.SHORT", 10.0)


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        out = self.net(batch[0])
        loss = torch.nn.functional.cross_entropy(out, batch[1])
        self.log("val_loss", loss)
        return {"loss": loss, "preds": out, "target": batch[1]}

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), 1e-2)


def loader(samples: int = 64) -> Any:
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 16, shuffle=samples == 64)


def trainer(root: Path, kit: Any, **options: Any) -> pl.Trainer:
    usual: dict[str, Any] = {"max_epochs": 1, "logger": False, "enable_checkpointing": False}
    return pl.Trainer(
        default_root_dir=root, callbacks=kit, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False,
        **{**usual, **options},
    )  # fmt: skip


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_short_healthy_fit_leaves_its_journal_and_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    usual = subprocess.Popen.__init__

    def starts(self: Any, *args: Any, **options: Any) -> None:
        started.append(args)
        usual(self, *args, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", starts)
    with caplog.at_level(logging.WARNING, "lightning_debugkit"):
        trainer(tmp_path, debugkit()).fit(Net(), loader())
    assert files(tmp_path) == ["debugkit/.gitignore", "debugkit/journal-0.jsonl"]
    assert (started, caplog.messages) == ([], [])
    assert [event["status"] for event in read_journal(tmp_path / "debugkit").of_kind("end")] == ["finished"]
    assert waiting_calls() == []  # nothing of the fit goes on after it


def test_a_back_test_of_many_short_fits_is_a_few_folders_and_an_index(tmp_path: Path) -> None:
    for _ in range(18):
        trainer(tmp_path, debugkit()).fit(Net(), loader())
    kept = [f"debugkit-{number}" for number in range(1, FOLDERS)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["debugkit", *kept, "debugkit-fits"]
    runs = folded(tmp_path / INDEX).values()
    assert [summarize(events).verdict for events in runs] == ["No fault found in 4 steps."] * (18 - FOLDERS)
    assert sum((tmp_path / name).stat().st_size for name in files(tmp_path)) < 200_000


def test_importing_and_fitting_brings_no_drawing_and_no_git(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
        "import lightning.pytorch\nbefore = set(sys.modules)\n"  # torchmetrics imports matplotlib itself
        "from core.test_short_fits import Net, loader, trainer\nfrom lightning_debugkit import debugkit\n"
        "trainer(Path(sys.argv[2]), debugkit()).fit(Net(), loader())\n"
        "print(sorted({'matplotlib', 'git', 'jinja2', 'PIL.ImageDraw', 'scipy.stats'} & (set(sys.modules) - before)))\n"
    )
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tests), str(tmp_path)], capture_output=True, text=True, timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stdout + done.stderr


class Broken(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, batch_idx) * (float("nan") if batch_idx == 2 else 1.0)


def test_a_finding_an_exception_and_a_report_by_name_are_reported_at_once(tmp_path: Path) -> None:
    trainer(tmp_path / "found", [GradientAnomalyDetector(action="warn")]).fit(Broken(), loader())
    assert (tmp_path / "found/debugkit/report.html").exists()

    trainer(tmp_path / "chosen", [ErrorAnalysis()]).fit(Net(), loader(), loader(48))
    assert (tmp_path / "chosen/debugkit/report.html").exists()

    class Raises(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        trainer(tmp_path / "raised", debugkit()).fit(Raises(), loader())
    assert "ValueError: mine" in (tmp_path / "raised/debugkit/report.md").read_text()


def test_a_test_draws_and_prints_one_report_and_names_the_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    usual = DebugCallback._render
    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: (drawn.append(run.folder), usual(self, run))[1])
    saver = ModelCheckpoint(tmp_path / "ckpt", monitor="val_loss", mode="max")  # the first epoch's
    fitted = trainer(tmp_path, [*debugkit("thorough"), saver], max_epochs=3, enable_checkpointing=True)
    net = Net()
    fitted.fit(net, loader(), loader(48))
    drawn.clear()
    caplog.clear()
    fitted.test(net, loader(48), ckpt_path="best", verbose=False)
    assert len(drawn) == 1
    assert sum("Report:" in message for message in caplog.messages) == 1
    left = [event for event in read_journal(drawn[0]).of_kind("artifact") if "error" in str(event.get("path"))]
    assert [(event["epoch"], event["step"]) for event in left][-1] == (0, 4)


INTERRUPTED = "interrupted", "The run was interrupted at step 3; no fault was found until then."
FAILED = "exception", "The run ended with an exception at step 3: SystemExit: no data."


@pytest.mark.parametrize(
    ("stop", "expected"),
    [(KeyboardInterrupt(), INTERRUPTED), (SystemExit(), INTERRUPTED), (SystemExit("no data"), FAILED)],
    ids=["Ctrl-C", "sys.exit", "sys.exit with a message"],
)
def test_a_ctrl_c_is_an_interruption_and_keeps_the_verdict(
    stop: BaseException, expected: tuple[str, str], tmp_path: Path
) -> None:
    class Stops(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 3:
                raise stop
            return super().training_step(batch, batch_idx)

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        trainer(tmp_path, debugkit()).fit(Stops(), loader())
    told = summarize(read_journal(tmp_path / "debugkit"))
    assert (told.status, told.verdict) == expected


def test_a_resumed_run_counts_its_own_steps_and_says_from_where(tmp_path: Path) -> None:
    first = trainer(tmp_path, debugkit("light"))
    first.fit(Net(), loader())
    first.save_checkpoint(tmp_path / "one.ckpt")
    trainer(tmp_path / "more", debugkit("light"), max_epochs=3).fit(Net(), loader(), ckpt_path=tmp_path / "one.ckpt")
    told = summarize(read_journal(tmp_path / "more/debugkit"))
    assert (told.steps, told.step, told.verdict) == (8, 12, "No fault found in 8 steps.")
    assert told.remarks[0] == f"Resumed at step 4, epoch 1, from {tmp_path / 'one.ckpt'}; 8 steps since."


def test_a_second_fit_of_one_trainer_counts_its_own_steps(tmp_path: Path) -> None:
    twice, net = trainer(tmp_path, debugkit("light")), Net()
    twice.fit(net, loader())
    twice.fit_loop.max_epochs = 2
    twice.fit(net, loader())
    told = summarize(read_journal(tmp_path / "debugkit-1"))
    assert (told.steps, told.remarks[0]) == (
        4, "Went on at step 4, behind an earlier fit of the same Trainer; 4 steps since."
    )  # fmt: skip
    assert summarize(read_journal(tmp_path / "debugkit")).remarks == ()


class MLFlowLogger(Logger):
    """Stands for the one of a file store: each folder there is an experiment."""

    name, version = "store", "0"

    def __init__(self, store: Path) -> None:
        self.store = store

    @property
    def save_dir(self) -> str:
        return str(self.store)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *args: Any) -> None: ...


@pytest.mark.parametrize("root", ["work", "work/mlruns"])
def test_the_folder_is_no_entry_of_a_loggers_store(root: str, tmp_path: Path) -> None:
    store = tmp_path / "work" / "mlruns"
    store.mkdir(parents=True)
    trainer(tmp_path / root, debugkit("light"), logger=MLFlowLogger(store)).fit(Net(), loader())
    assert list(store.iterdir()) == []
    assert (tmp_path / "work" / "debugkit" / "journal-0.jsonl").exists()


def test_a_logger_with_a_folder_of_this_run_keeps_it_there(tmp_path: Path) -> None:
    trainer(tmp_path, debugkit("light"), logger=CSVLogger(tmp_path)).fit(Net(), loader())
    assert (tmp_path / "lightning_logs/version_0/debugkit/journal-0.jsonl").exists()
