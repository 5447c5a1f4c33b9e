"""Each callback alone under DDP with two processes: no hang, nothing counted twice, one report."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from two_ranks import on_two_ranks

import lightning_debugkit
from lightning_debugkit import read_journal
from lightning_debugkit.core.finding import Severity
from lightning_debugkit.core.journal import Events
from lightning_debugkit.report import summarize

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread", "no_process_left", "undrawn"),
]
BATCHES = 12
VALIDATION = 41  # no multiple of two processes: one sample is repeated, and must count once
BROKEN = [("nonfinite-loss", 1)]
# Each callback, its arguments, and what it finds, on which rank, where rank 1 has an infinite input.
EACH: dict[str, tuple[dict[str, Any], list[tuple[str, int]]]] = {
    "ActivationMonitor": ({}, []),
    "BiasVarianceReport": ({}, []),
    "CodeSnapshot": ({"side_ref": False}, []),
    "DataCheck": ({}, []),
    "ErrorAnalysis": ({}, []),
    "ExactResume": ({}, []),
    "GradientAnomalyDetector": ({"action": "warn"}, BROKEN),
    "GradientClippingMonitor": ({}, []),
    "NestedCheckpoint": ({}, []),
    "PreflightCheck": ({}, []),
    "Preset": ({"options": {"action": "warn"}}, BROKEN),
    "Reporting": ({}, []),
}


class Net(pl.LightningModule):
    """A classifier; where it is broken, rank 1 has an infinite input, and raises some steps later."""

    def __init__(self, is_broken: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.is_broken = is_broken
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        x, y = batch
        if self.is_broken and self.global_rank == 1 and self.current_epoch == 1:
            if batch_idx == 3:
                x = x * torch.inf
            if batch_idx == 8:
                raise KeyError("a sample without a label")
        scores = self.net(x)
        return {"loss": torch.nn.functional.cross_entropy(scores, y), "logits": scores, "target": y}

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, torch.Tensor]:
        x, y = batch
        scores = self.net(x)
        loss = torch.nn.functional.cross_entropy(scores, y)
        self.log("val_loss", loss, sync_dist=True)
        return {"loss": loss, "logits": scores, "target": y}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def samples(count: int, seed: int) -> TensorDataset:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (3 * x[:, :3]).argmax(1))


def fit(rank: int, folder: Path, kit: list[Any], is_broken: bool = False) -> dict[str, Any]:
    held = samples(VALIDATION, 2)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        use_distributed_sampler=False,
        callbacks=kit,
        logger=False,
        default_root_dir=folder,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in kit),
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    module, raised = Net(is_broken), ""
    try:
        trainer.fit(
            module,
            DataLoader(samples(8 * BATCHES - 5 * rank, rank), batch_size=8),  # the last batch of rank 1 is smaller
            DataLoader(held, batch_size=8, sampler=DistributedSampler(held, 2, rank, shuffle=False)),
        )
    except Exception as error:
        raised = type(error).__name__
    return {"weights": [value.tolist() for value in module.state_dict().values()], "raised": raised}


def work(rank: int, folder: Path, name: str) -> dict[str, Any]:
    """A sound fit, then a broken one, after which this process can have no other; without a name a bare one."""
    if not name:
        return fit(rank, folder, [])

    def kit(way: str) -> list[Any]:
        places = {"NestedCheckpoint": {"dirpath": folder / way / "kept"}}
        return [getattr(lightning_debugkit, name)(**EACH[name][0], **places.get(name, {}))]

    sound = fit(rank, folder / "sound", kit("sound"))
    return {"sound": sound, "broken": fit(rank, folder / "broken", kit("broken"), is_broken=True)}


class Fits:
    """What the fits with a callback left behind; each is made once.

    Args:
        root: Where their folders are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._made: dict[str, list[Any]] = {}

    def of(self, name: str, way: str = "") -> list[Any]:
        """Return what each rank tells."""
        if name not in self._made:
            self._made[name] = on_two_ranks(work, self.root / (name or "bare"), name)
        return [rank[way] if way else rank for rank in self._made[name]]

    def events(self, name: str, way: str) -> Events:
        (folder,) = (self.root / name / way).glob("debugkit*")
        return read_journal(folder)


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Fits:
    return Fits(tmp_path_factory.mktemp("alone"))


def test_every_public_callback_is_here() -> None:
    public = {name: getattr(lightning_debugkit, name) for name in lightning_debugkit.__all__}
    assert set(EACH) == {
        name for name, item in public.items() if inspect.isclass(item) and issubclass(item, pl.Callback)
    }


@pytest.mark.parametrize("name", EACH)
def test_uneven_last_batches_are_trained_on_as_without_and_nothing_is_written_twice(name: str, fits: Fits) -> None:
    ranks, events = fits.of(name, "sound"), fits.events(name, "sound")
    assert [rank["weights"] for rank in ranks] == [rank["weights"] for rank in fits.of("")]
    assert [finding.rule for finding in events.findings if finding.severity > Severity.INFO] == []
    assert events.of_kind("trouble") == []
    assert sorted((end["rank"], end["status"]) for end in events.of_kind("end")) == [(0, "finished"), (1, "finished")]
    # What clipping counts is of the whole run, and told anew as it goes on.
    points = [(e["name"], e["step"], e["rank"]) for e in events.of_kind("measure") if e["name"] != "clipping-counts"]
    assert len(points) == len(set(points))


@pytest.mark.parametrize("name", EACH)
def test_a_fault_and_an_exception_of_one_rank_are_its_own_and_leave_one_report(name: str, fits: Fits) -> None:
    ranks, events = fits.of(name, "broken"), fits.events(name, "broken")
    assert ranks[1]["raised"] == "KeyError"
    assert ranks[0]["raised"], "nobody waits for the rank that is gone"
    assert [(finding.rule, finding.where.rank) for finding in events.findings] == EACH[name][1]
    assert events.of_kind("trouble") == []
    assert sorted((end["rank"], end["status"]) for end in events.of_kind("end")) == [(0, "exception"), (1, "exception")]
    assert summarize(events).exception == "KeyError: 'a sample without a label'"
    assert len(list((fits.root / name / "broken").rglob("report.html"))) == 1


@pytest.mark.parametrize(
    ("name", "file", "counted"),
    [
        ("ErrorAnalysis", "errors.json", lambda held: held["n"]),
        ("BiasVarianceReport", "bias_variance.json", lambda held: held["errors"]["val"]["n"]),
    ],
)
def test_a_repeated_sample_counts_once(name: str, file: str, counted: Callable[[Any], int], fits: Fits) -> None:
    fits.of(name)
    assert counted(json.loads((fits.root / name / "sound/debugkit" / file).read_text())) == VALIDATION


def test_a_checkpoint_is_kept_once(fits: Fits) -> None:
    fits.of("NestedCheckpoint")
    (whole, record) = sorted(path.name for path in (fits.root / "NestedCheckpoint/sound/kept").glob("step-*"))
    assert record == f"{whole}.json"
