"""A preset under DDP with two processes: nobody hangs, nothing is counted twice, and there is one report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, TensorDataset
from two_ranks import on_two_ranks

from lightning_debugkit import debugkit, read_journal
from lightning_debugkit.report import summarize

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread", "no_process_left", "undrawn"),
]
STEPS = 60  # extra passes are made in fits of at least 50, by one process


class Net(pl.LightningModule):
    """A classifier; what is wrong with it, and on which rank, is named by ``fault``."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fault = fault
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        on_one = self.global_rank == 1 and batch_idx == 20
        if self.fault == "raises" and on_one:
            raise KeyError("a sample without a label")
        scores = self.net(x * torch.inf if self.fault == "input" and on_one else x)
        if self.fault == "softmax":
            scores = scores.softmax(1)
        return torch.nn.functional.cross_entropy(scores, y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Remembers(Logger):
    """What rank 0 logs; others have none."""

    def __init__(self) -> None:
        self.told: list[str] = []

    name, version = "remembers", 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.told += [name for name in metrics if name.startswith("debugkit/") and "norm" not in name]

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        pass


def loader(rank: int) -> DataLoader[Any]:
    """As many batches on each rank, but the last of rank 1 is smaller."""
    generator = torch.Generator().manual_seed(rank)
    count = 8 * STEPS - 5 * rank
    x = torch.randn(count, 6, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=8, shuffle=True)


def work(rank: int, folder: str, fault: str, action: str) -> dict[str, Any]:
    given: list[str] = []
    logger = Remembers()
    kit = debugkit(loggers="all", action=action, on_finding=lambda found: given.append(found.rule)) if action else []
    module = Net(fault)
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        use_distributed_sampler=False,
        callbacks=kit,
        logger=logger,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    raised = ""
    try:
        trainer.fit(module, loader(rank))
    except Exception as error:
        raised = type(error).__name__
    weights = [value.tolist() for value in module.state_dict().values()]
    return {"given": given, "logged": logger.told, "raised": raised, "weights": weights, "steps": trainer.global_step}


def run(folder: Path, fault: str, action: str = "warn") -> tuple[list[dict[str, Any]], Any]:
    answers = on_two_ranks(work, str(folder), fault, action)
    assert [path.name for path in folder.glob("debugkit*")] == (["debugkit"] if action else [])
    events = read_journal(folder / "debugkit") if action else None
    return answers, events


def test_healthy_ranks_with_uneven_last_batches_find_nothing_and_train_as_without(tmp_path: Path) -> None:
    answers, events = run(tmp_path / "watched", "")
    bare, _ = run(tmp_path / "bare", "", action="")
    assert [each["weights"] for each in answers] == [each["weights"] for each in bare]
    assert [each["steps"] for each in answers] == [STEPS, STEPS]
    assert [finding.rule for finding in events.findings if finding.severity > 10] == []
    assert events.of_kind("trouble") == []
    assert sorted(event["rank"] for event in events.of_kind("end")) == [0, 1]


def test_a_fault_of_the_program_is_one_finding_of_both_ranks(tmp_path: Path) -> None:
    """Each rank sees it, and gives it to its own function; report and logger have it once."""
    answers, events = run(tmp_path, "softmax")
    told = [each for each in summarize(events).findings if each.finding.rule == "double-softmax"]
    assert [each.ranks for each in told] == [(0, 1)]
    assert [each["given"].count("double-softmax") for each in answers] == [1, 1]
    assert [each["logged"].count("debugkit/double-softmax") for each in answers] == [1, 0]
    assert events.of_kind("trouble") == []
    assert len(list(tmp_path.rglob("report.html"))) == 1


def test_what_one_rank_finds_is_given_there_and_logged_by_the_first(tmp_path: Path) -> None:
    answers, events = run(tmp_path, "input")
    ranks = {finding.where.rank for finding in events.findings if finding.rule.startswith("nonfinite")}
    assert 1 in ranks
    here, there = answers
    (rule,) = {finding.rule for finding in events.findings if finding.where.rank == 1 and finding.severity >= 30}
    assert there["given"].count(rule) == 1
    assert here["logged"].count(f"debugkit/{rule}") == 1
    assert there["logged"] == []
    assert events.of_kind("trouble") == []
    assert len(list(tmp_path.rglob("report.html"))) == 1


@pytest.mark.parametrize("fault", ["input", "raises"])
def test_an_exception_of_one_rank_ends_both_and_leaves_one_report(fault: str, tmp_path: Path) -> None:
    answers, events = run(tmp_path, fault, action="raise")
    raised = [each["raised"] for each in answers]
    assert all(raised)
    assert raised[1] == ("KeyError" if fault == "raises" else "TrainingAnomaly")
    assert {event["status"] for event in events.of_kind("end")} == {"exception"}
    assert len(list(tmp_path.rglob("report.html"))) == 1
