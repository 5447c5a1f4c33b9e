"""Findings reach a function, the loggers and the terminal; none of them can harm the run."""

from __future__ import annotations

import csv
import logging
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger
from monitors.breaking import QUIET
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import (
    Finding,
    GradientAnomalyDetector,
    Reporting,
    Severity,
    debugkit,
    read_journal,
    read_report,
)
from lightning_debugkit.core.console import Console
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.logger_sinks import scalars
from lightning_debugkit.report.compared_runs import compare_runs

pytestmark = [pytest.mark.usefixtures("no_code"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


class Net(pl.LightningModule):
    """Draws from python's generator, as augmentations do; with ``fault`` a layer is never used."""

    def __init__(self, fault: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        if fault:
            self.unused = torch.nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = (self.net(batch[0] + random.random()) - batch[1]).square().mean()
        self.log("train_loss", loss, on_step=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder: Path, *callbacks: pl.Callback, logger: Any = False, fault: bool = True, **options: Any) -> Net:
    random.seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    data = TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(64, 1, generator=generator))
    module = Net(fault)
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=logger,
        default_root_dir=folder,
        **{"log_every_n_steps": 1, **quiet, **options},
    )
    trainer.fit(module, DataLoader(data, batch_size=4))
    return module


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


GIVEN: list[Finding] = []


def keep(finding: Finding) -> None:
    """Named by its dotted path in tests."""
    random.random()
    GIVEN.append(finding)


def test_a_function_is_called_with_each_finding_that_is_journaled(tmp_path: Path) -> None:
    given: list[Finding] = []
    fit(tmp_path, *debugkit(on_finding=given.append))
    assert [finding.rule for finding in given] == ["no-gradient"]
    assert given == read_journal(tmp_path / "debugkit").findings


def test_a_function_is_named_by_its_dotted_path_and_its_random_draws_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.GIVEN", [])
    monkeypatch.setitem(__import__("sys").modules, "alerts", __import__("sys").modules[__name__])
    watched = fit(tmp_path / "watched", GradientAnomalyDetector(), Reporting(on_finding="alerts.keep"))
    assert [finding.rule for finding in GIVEN] == ["no-gradient"]
    assert same(watched, fit(tmp_path / "bare"))


def test_a_function_that_fails_is_told_of_once_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(finding: Finding) -> None:
        raise ConnectionError("no network")

    watched = fit(tmp_path / "watched", *debugkit(on_finding=fails))
    assert same(watched, fit(tmp_path / "bare"))
    events = read_journal(tmp_path / "watched/debugkit")
    assert [event["error"] for event in events.of_kind("unsent")] == ["ConnectionError: no network"]
    assert [finding.rule for finding in events.findings] == ["no-gradient"]
    assert sum("no network" in message for message in caplog.messages) == 1


def test_an_ignored_rule_is_not_reported(tmp_path: Path) -> None:
    fit(tmp_path / "ignored", *debugkit(ignore=["no-gradient"]))
    assert read_journal(tmp_path / "ignored/debugkit").findings == []


def test_a_reader_learns_what_was_found_and_ignored(tmp_path: Path) -> None:
    """A colleague must not take a fault that is silenced for one that is mended; what found nothing is not named."""
    fit(tmp_path / "ignored", *debugkit(ignore=["no-gradient", "constant-input"]))
    report = read_report(tmp_path / "ignored/debugkit")
    assert report.verdict.endswith("; no-gradient was found and is ignored.")
    fit(tmp_path / "told", *debugkit())
    compare_runs([read_report(tmp_path / "told/debugkit"), report], tmp_path / "runs.html")
    assert ">ignored</td>" in (tmp_path / "runs.html").read_text()


@pytest.mark.parametrize("ignored", [True, False])
def test_an_ignored_rule_is_not_acted_upon(ignored: bool, tmp_path: Path) -> None:
    """The last step breaks: of the weights after it, another rule would speak."""

    class Breaks(Net):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) / (1.0 if batch_idx != 2 else 0.0)

    kit = debugkit("light", ignore=["nonfinite-loss"] if ignored else [])
    trainer = pl.Trainer(max_steps=3, callbacks=kit, default_root_dir=tmp_path, **QUIET)
    data = DataLoader(TensorDataset(torch.ones(20, 4), torch.ones(20, 1)), batch_size=4)
    if ignored:
        trainer.fit(Breaks(), data)
        assert trainer.global_step == 3
    else:
        with pytest.raises(RuntimeError, match="nonfinite-loss"):
            trainer.fit(Breaks(), data)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"ignore": ["no-gradients"]}, "got 'no-gradients'; the closest is 'no-gradient'."),
        ({"ignore": ["zzz"]}, "got 'zzz'; `lightning-debugkit rules` lists them."),
        ({"ignore": "no-gradient"}, "got 'no-gradient'; write [...] around it."),
        ({"loggers": "some"}, "needs loggers 'findings' or 'all' or 'none', got 'some'"),
        ({"on_finding": "nowhere.function"}, "got 'nowhere.function'; module 'nowhere' cannot be imported ("),
        ({"on_finding": 3}, "got 3; it is called with each finding."),
    ],
)
def test_a_wrong_argument_is_one_sentence(arguments: dict[str, Any], told: str) -> None:
    for make in (Reporting, debugkit):
        with pytest.raises(ValueError) as caught:
            make(**arguments)
        assert str(caught.value).startswith(f"{make.__name__} needs ")
        assert told in str(caught.value)


class Remembers(Logger):
    """A logger of one's own: Lightning's interface and no more."""

    def __init__(self) -> None:
        self.metrics: list[tuple[dict[str, float], int]] = []

    @property
    def name(self) -> str:
        return "remembers"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("debugkit/") for name in metrics):
            random.random()
        self.metrics.append((dict(metrics), step or 0))

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass

    def own(self) -> list[tuple[dict[str, float], int]]:
        return [told for told in self.metrics if any(name.startswith("debugkit/") for name in told[0])]


class Fails(Remembers):
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("debugkit/") for name in metrics):
            super().log_metrics(metrics, step)
            raise OSError("quota exceeded")


def test_a_logger_of_ones_own_gets_a_point_named_after_the_rule_where_all_is_asked_for(tmp_path: Path) -> None:
    logger = Remembers()
    fit(tmp_path, *debugkit(loggers="all"), logger=logger)
    assert ({"debugkit/no-gradient": float(Severity.WARNING)}, 32) in logger.own()


@pytest.mark.parametrize("loggers", ["findings", "none"])
def test_a_logger_that_takes_numbers_alone_has_the_programs_own_unless_all_is_asked_for(
    loggers: str, tmp_path: Path
) -> None:
    logger = Remembers()
    fit(tmp_path, *debugkit(loggers=loggers), logger=logger)
    assert logger.metrics
    assert logger.own() == []


def test_all_adds_the_scalars_that_the_journal_has(tmp_path: Path) -> None:
    logger = Remembers()
    watched = fit(tmp_path / "watched", *debugkit(loggers="all"), logger=logger, gradient_clip_val=0.1)
    told: dict[str, dict[int, float]] = {}
    for metrics, step in logger.own():
        for name, value in metrics.items():
            told.setdefault(name, {})[step] = value
    assert {"debugkit/grad_norm", "debugkit/grad_norm/net.0", "debugkit/clip_coefficient"} <= set(told)
    measures = read_journal(tmp_path / "watched/debugkit").of_kind("measure")
    norms = {m["step"]: m["value"] for m in measures if m["name"] == "gradient-norms"}
    whole = {step: torch.tensor(list(norm.values())).norm().item() for step, norm in norms.items()}
    assert told["debugkit/grad_norm"] == pytest.approx(whole, rel=1e-5)
    clipped = {m["step"]: m["value"] for m in measures if m["name"] == "clipping"}
    by = {step: each["after"] / each["norm"] for step, each in clipped.items()}
    assert told["debugkit/clip_coefficient"] == pytest.approx(by, rel=1e-5)
    assert min(by.values()) < 0.5
    assert same(watched, fit(tmp_path / "bare", gradient_clip_val=0.1))


def test_a_logger_that_fails_costs_the_run_nothing_and_the_others_get_all(tmp_path: Path) -> None:
    broken, sound = Fails(), Remembers()
    watched = fit(tmp_path / "watched", *debugkit(loggers="all"), logger=[broken, sound])
    assert same(watched, fit(tmp_path / "bare"))
    assert len(broken.own()) == 1
    assert any("debugkit/no-gradient" in metrics for metrics, _ in sound.own())
    events = read_journal(tmp_path / "watched/debugkit")
    assert [(event["sink"], event["error"]) for event in events.of_kind("unsent")] == [
        ("Fails", "OSError: quota exceeded")
    ]
    assert events.of_kind("trouble") == []


def test_the_csv_logger_has_a_column_named_after_the_rule(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fit(tmp_path, *debugkit(loggers="all"), logger=logger)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["debugkit/no-gradient"]) for row in rows if row["debugkit/no-gradient"]] == [
        ("32", "20.0")
    ]
    assert sum(bool(row["train_loss"]) for row in rows) == 32


def test_scalars_come_at_the_steps_of_lightnings_own_rows_and_no_more_often(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fit(tmp_path, *debugkit(loggers="all"), logger=logger, gradient_clip_val=0.1, log_every_n_steps=5)
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    own = [row["step"] for row in rows if row["train_loss"]]
    assert own == ["4", "9", "14", "19", "24", "29"], "of 32 steps"
    assert [row["step"] for row in rows if row["debugkit/grad_norm"]] == own
    clipped = [row["step"] for row in rows if row["debugkit/clip_coefficient"]]  # read in blocks: some come late
    assert sorted(set(clipped), key=int) == own


def test_scalars_of_a_program_that_logs_no_step_are_not_logged(tmp_path: Path) -> None:
    logger = Remembers()
    fit(tmp_path, *debugkit(loggers="all"), logger=logger, log_every_n_steps=0)
    assert [metrics for metrics, _ in logger.own() if "debugkit/grad_norm" in metrics] == []


def test_fast_dev_run_has_a_logger_that_keeps_nothing(tmp_path: Path) -> None:
    fit(tmp_path, *debugkit(loggers="all"), logger=Remembers(), fast_dev_run=True)
    assert read_journal(tmp_path / "debugkit").of_kind("unsent") == []


@pytest.mark.usefixtures("with_report")
def test_what_was_said_in_training_is_not_said_again_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lightning_debugkit")
    fit(tmp_path, *debugkit())
    own = [record.getMessage() for record in caplog.records if record.name == "lightning_debugkit"]
    assert sum(text.count("never used by the loss") for text in own) == 1
    assert own[-1].startswith("lightning-debugkit: 1 warning: no-gradient (step 32)\n  Report: ")


def test_what_logging_held_back_in_training_is_said_at_the_end() -> None:
    found = Finding("no-gradient", Severity.WARNING, "head is never used by the loss", Where(0, 1))
    console = Console()
    logging.disable(logging.WARNING)
    try:
        console.finding(found)
    finally:
        logging.disable(logging.NOTSET)
    assert console.ending("One thing: head is never used by the loss.", [found]).startswith("One thing")
    console.finding(found)
    assert console.ending("One thing: head is never used by the loss.", [found]).startswith("1 warning")


def test_measures_that_are_meant_for_no_logger_have_no_scalars() -> None:
    assert scalars("loss", 0.5) == {}
    assert scalars("checkpoint", {"path": "x"}) == {}
    assert scalars("clipping", {"norm": 0.0, "after": 0.0}) == {}
