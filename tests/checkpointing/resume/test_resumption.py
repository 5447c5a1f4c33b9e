"""Whatever happens around a resume, the run goes on, and is left as it was found."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed as dist
import warm_process
from checkpointing.resume.interrupted import Net, Noisy, Save, causes, loader, resumed, same, told, train, whole
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from monitors.breaking import QUIET, differing, journal
from torch.utils.data import BatchSampler, DataLoader, Dataset, random_split

from lightning_debugkit import ExactResume, GradientAnomalyDetector, NestedCheckpoint, Severity, read_journal
from lightning_debugkit.checkpointing.resume import callback as exact_resume
from lightning_debugkit.checkpointing.resume import inexact_causes as resume_causes
from lightning_debugkit.checkpointing.resume import resume_state
from lightning_debugkit.checkpointing.resume.resumption import Resumption
from lightning_debugkit.checkpointing.resume.rng_state import RngState
from lightning_debugkit.checkpointing.resume.sampler_epochs import RecordedSampler

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

MID, END = "on_train_batch_end-8", "on_train_epoch_end-6"


def test_a_run_that_saves_is_not_changed(tmp_path: Path) -> None:
    points = [f"on_train_batch_end-{batch}" for batch in range(1, 19)]
    for make in (loader, partial(loader, 1)):
        alone = train(tmp_path / "alone", Net, make)
        saving = train(tmp_path / "saving", Net, make, callbacks=[ExactResume(), Save(tmp_path, *points)])
        assert differing(alone, saving) == []


def test_a_resumed_run_can_be_resumed(tmp_path: Path) -> None:
    """Also within the epoch in which it was resumed."""
    uninterrupted = whole(tmp_path, [MID], partial(Net), make=partial(loader, 1))
    later = tmp_path / "later"
    callbacks = [ExactResume(), Save(later, "on_train_batch_end-10", "on_train_epoch_end-12")]
    resumed(tmp_path, MID, make=partial(loader, 1), callbacks=callbacks)
    for point in ("on_train_batch_end-10", "on_train_epoch_end-12"):
        assert same(uninterrupted, resumed(later, point, make=partial(loader, 1), seed=7))


def test_states_are_of_plain_types(tmp_path: Path) -> None:
    whole(tmp_path, [MID], make=partial(loader, draws=("own",)))
    states = torch.load(tmp_path / f"{MID}.ckpt", weights_only=True)[exact_resume.KEY]
    assert [state["batches"] for state in states] == [2]


@pytest.mark.parametrize("kind", [ModelCheckpoint, NestedCheckpoint])
def test_every_checkpoint_callback_saves_them(kind: Any, tmp_path: Path) -> None:
    saver = kind(dirpath=tmp_path / "saved", **({"save_top_k": -1} if kind is ModelCheckpoint else {}))
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume(), saver], max_epochs=3)
    files = sorted((tmp_path / "saved").glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    first = torch.load(files[0], weights_only=True)
    assert exact_resume.KEY in first
    again = train(tmp_path / "again", Net, seed=99, callbacks=[ExactResume()], ckpt_path=files[0])
    assert same(uninterrupted, again)


def test_averaged_weights_go_on(tmp_path: Path) -> None:
    """Lightning's callback keeps them beside the weights, and swaps them for validation."""
    kind = getattr(pl.callbacks, "EMAWeightAveraging", None)
    if kind is None:
        pytest.skip("Lightning 2.6 has it")
    points, program = [MID, "on_validation_end-6", END], {"val": partial(loader, n=8)}
    saving = [kind(decay=0.9), ExactResume(), Save(tmp_path, *points)]
    uninterrupted = train(tmp_path / "whole", Net, callbacks=saving, **program)
    for point in points:
        assert same(uninterrupted, resumed(tmp_path, point, callbacks=[kind(decay=0.9), ExactResume()], **program))
        assert causes(tmp_path / point) == []
        assert not same(uninterrupted, resumed(tmp_path, point, callbacks=[kind(decay=0.9)], **program))


def test_a_search_for_the_learning_rate_is_no_resume(tmp_path: Path) -> None:
    """Lightning saves before it, and restores after."""

    def finder() -> pl.Callback:
        return pl.callbacks.LearningRateFinder(num_training_steps=5, update_attr=False)

    class Rated(Net):
        lr = 0.01

    alone = train(tmp_path / "alone", Rated, callbacks=[finder()])
    assert same(alone, train(tmp_path / "kit", Rated, callbacks=[ExactResume(), finder()]))
    assert told(tmp_path / "kit") == []


def test_a_checkpoint_saved_after_the_fit_goes_on_as_a_longer_fit(tmp_path: Path) -> None:
    longer = train(tmp_path / "longer", Net, callbacks=[ExactResume()])
    pl.seed_everything(1, verbose=False)
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ExactResume()], **{**QUIET, "max_epochs": 2})
    trainer.fit(Net(), loader())
    trainer.save_checkpoint(tmp_path / "after.ckpt")
    assert same(longer, resumed(tmp_path, "after"))
    assert told(tmp_path / "after") == []


def test_a_new_process_ends_the_same(tmp_path: Path) -> None:
    """Nothing that is kept in memory helps."""
    uninterrupted = whole(tmp_path, [MID])
    program = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from checkpointing.resume.interrupted import resumed\n"
        f"module = resumed(Path(sys.argv[1]), {MID!r})\n"
        "torch.save(module.state_dict(), sys.argv[2])"
    )
    paths = [str(Path(__file__).parents[2]), str(Path(exact_resume.__file__).parents[3])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [warm_process.python(), "-c", program, str(tmp_path), str(tmp_path / "end.pt")]
    subprocess.run(command, env=environment, check=True, timeout=200, capture_output=True)
    end = torch.load(tmp_path / "end.pt", weights_only=True)
    assert all(torch.equal(value, end[name]) for name, value in uninterrupted.state_dict().items())


class Indexed(Dataset[torch.Tensor]):
    """Each sample is its own index."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor([float(index)])


class OfIndices(Net):
    """Notes the indices of its batches, and what the detector holds them for."""

    def __init__(self, detector: GradientAnomalyDetector | None = None) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.detector = detector

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        given = self.detector.order.current if self.detector else None
        self.seen.append(([int(x) for x in batch.flatten()], given))
        return self.net(batch.expand(-1, 4)).square().mean()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [True, False])
def test_sample_indices_of_the_detector_stay_right(workers: int, first: bool, tmp_path: Path) -> None:
    def make() -> DataLoader[Any]:
        return DataLoader(Indexed(), batch_size=4, shuffle=True, num_workers=workers)

    uninterrupted = whole(tmp_path, [MID], OfIndices, make=make)
    detector = GradientAnomalyDetector()
    callbacks = [detector, ExactResume()] if first else [ExactResume(), detector]
    again = resumed(tmp_path, MID, partial(OfIndices, detector), make=make, callbacks=callbacks)
    assert [indices for indices, _ in again.seen] == [indices for indices, _ in uninterrupted.seen][8:]
    assert all(indices == given for indices, given in again.seen)


@pytest.mark.parametrize("stops", [False, True])
def test_loader_loops_and_strategy_are_left_as_they_were(stops: bool, tmp_path: Path) -> None:
    whole(tmp_path, [MID])
    mine = loader()
    seen = []

    class Look(pl.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            seen.append((type(mine.batch_sampler), isinstance(mine.batch_sampler, BatchSampler)))
            if stops and len(seen) == 2:
                raise RuntimeError("stop here")

    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ExactResume(), Look()], **{**QUIET, "max_epochs": 3})
    with pytest.raises(RuntimeError, match="stop here") if stops else contextlib.nullcontext():
        trainer.fit(Net(), mine, ckpt_path=tmp_path / f"{MID}.ckpt")
    assert set(seen) == {(RecordedSampler, True)}
    assert type(mine.batch_sampler) is BatchSampler
    assert "process_dataloader" not in vars(trainer.strategy)
    assert not {"on_advance_start", "on_run_start"} & {*vars(trainer.fit_loop), *vars(trainer.fit_loop.epoch_loop)}


def test_a_checkpoint_without_states_is_told_and_resumed(tmp_path: Path) -> None:
    train(tmp_path, Net, callbacks=[Save(tmp_path, MID)])
    resumed(tmp_path, MID)
    assert causes(tmp_path / MID) == ["position", "no-state"]
    finding = told(tmp_path / MID)[0]
    assert (finding.severity, finding.evidence["batches"]) == (Severity.WARNING, 2)
    assert finding.advice == "Keep ExactResume in the Trainer from the start of the run."


def test_each_resume_is_told(tmp_path: Path) -> None:
    train(tmp_path, Net, callbacks=[Save(tmp_path, MID)])
    later = "on_train_batch_end-9"
    resumed(tmp_path, MID, callbacks=[ExactResume(rewind=False), Save(tmp_path, later)])
    resumed(tmp_path, later, callbacks=[ExactResume(rewind=False)])
    assert (causes(tmp_path / MID), causes(tmp_path / later)) == (["position", "no-state"], ["rewind-off"])


CHANGED: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "batch size": (MID, ["order", "loader", "loader"], {"make": partial(loader, size=6)}),
    "batch size, at the end of an epoch": (END, ["loader", "loader"], {"make": partial(loader, size=6)}),
    "workers": (MID, ["loader"], {"make": partial(loader, 1)}),
    "accumulation": (END, ["loader"], {"accumulate_grad_batches": 2}),
    "order": (MID, ["order", "loader"], {"make": partial(loader, shuffle=False)}),
}


@pytest.mark.parametrize(("point", "names", "program"), CHANGED.values(), ids=CHANGED)
def test_another_program_is_told(point: str, names: list[str], program: dict[str, Any], tmp_path: Path) -> None:
    whole(tmp_path, [point])
    resumed(tmp_path, point, **program)
    assert causes(tmp_path / point) == names
    grave = {"order", "position"} & set(names)
    assert told(tmp_path / point)[0].severity == (Severity.WARNING if grave else Severity.INFO)


class Split(Net):
    """Splits its data by the seed of the process."""

    def setup(self, stage: str) -> None:
        self.data, _ = random_split(Noisy(30), [24, 6])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.data, batch_size=4, shuffle=True)


def test_another_selection_of_samples_is_told(tmp_path: Path) -> None:
    """Samples that were held out would be trained on."""
    uninterrupted = whole(tmp_path, [END], Split, make=lambda: None)
    resumed(tmp_path, END, Split, make=lambda: None)
    assert causes(tmp_path / END) == ["selection"]
    assert told(tmp_path / END)[0].severity == Severity.WARNING
    assert same(uninterrupted, resumed(tmp_path, END, Split, make=lambda: None, seed=1))


class Flaky(Noisy):
    """Fails when it is asked for the first time in this process, if armed."""

    def __init__(self, armed: bool = False) -> None:
        super().__init__()
        self.armed = armed
        self.asked = 0

    def __getitem__(self, index: int) -> Any:
        self.asked += 1
        if self.armed and self.asked == 1:
            raise OSError("the share is not there yet")
        return super().__getitem__(index)


def test_a_loader_that_fails_to_be_rewound_begins_anew(tmp_path: Path) -> None:
    whole(tmp_path, [MID], make=lambda: DataLoader(Flaky(), batch_size=4, shuffle=True))
    data = Flaky(armed=True)
    resumed(tmp_path, MID, make=lambda: DataLoader(data, batch_size=4, shuffle=True))
    assert causes(tmp_path / MID) == ["position"]
    assert "it raised OSError: the share is not there yet" in told(tmp_path / MID)[0].message
    assert data.asked == 1 + 10 * 4, "Lightning trains the rest of the epoch, and the next"


def test_without_rewind_no_batch_is_loaded_again(tmp_path: Path) -> None:
    whole(tmp_path, [MID], make=lambda: DataLoader(Flaky(), batch_size=4, shuffle=True))
    asked = []
    for rewind in (True, False):
        data = Flaky()
        make = partial(DataLoader, data, batch_size=4, shuffle=True)
        resumed(tmp_path, MID, make=make, callbacks=[ExactResume(rewind=rewind)])
        asked.append(data.asked)
    assert asked == [(2 + 10) * 4, 10 * 4]
    assert causes_of(tmp_path / MID, "debugkit-1") == ["rewind-off"]


def causes_of(folder: Path, name: str) -> list[str]:
    return [n for finding in journal(folder, name).findings for n in finding.evidence["names"]]


def test_fast_dev_run_runs(tmp_path: Path) -> None:
    whole(tmp_path, [MID])
    resumed(tmp_path, MID, fast_dev_run=True, max_epochs=1)
    train(tmp_path / "fresh", Net, callbacks=[ExactResume()], fast_dev_run=True)
    assert told(tmp_path / "fresh") == []


def test_a_second_fit_that_does_not_resume_is_not_touched(tmp_path: Path) -> None:
    """Nothing of the resume is left in the callback."""
    whole(tmp_path, [MID])
    callback = ExactResume()
    resumed(tmp_path, MID, callbacks=[callback])
    alone = train(tmp_path / "alone", Net)
    assert same(alone, train(tmp_path / "after", Net, callbacks=[callback]))


def test_a_test_run_from_a_checkpoint_is_not_touched(tmp_path: Path) -> None:
    whole(tmp_path, [MID], val=partial(loader, shuffle=False))
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ExactResume()], **QUIET)
    pl.seed_everything(4, verbose=False)
    expected = torch.get_rng_state()
    trainer.validate(Net(), DataLoader(Noisy(4, draws=())), ckpt_path=tmp_path / f"{MID}.ckpt", verbose=False)
    pl.seed_everything(4, verbose=False)
    assert torch.equal(torch.get_rng_state(), expected)


@pytest.mark.parametrize("when", ["saving", "resuming"])
def test_a_fault_of_the_kit_in_the_loader_is_an_event(when: str, tmp_path: Path, monkeypatch: Any) -> None:
    def fails(*args: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    if when == "resuming":
        whole(tmp_path, [MID])
        monkeypatch.setattr(Resumption, "_pass_over", fails)
        resumed(tmp_path, MID)
    else:
        alone = train(tmp_path / "alone", Net)
        monkeypatch.setattr(RngState, "now", fails)
        assert same(alone, train(tmp_path / MID, Net, callbacks=[ExactResume(), Save(tmp_path, MID)]))
    events = read_journal(tmp_path / MID / "debugkit")
    assert {event["error"] for event in events.of_kind("trouble")} == {"ZeroDivisionError: a fault of ours"}
    assert [end["status"] for end in events.of_kind("end")] == ["finished"]


def test_a_lightning_that_has_changed_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    def changed(*args: Any) -> None:
        raise AttributeError("'_FitLoop' object has no attribute 'on_advance_start'")

    whole(tmp_path, [MID])
    monkeypatch.setattr(Resumption, "_once", changed)
    resumed(tmp_path, MID)
    assert causes(tmp_path / MID) == ["lightning"]


def test_the_docs_name_every_cause() -> None:
    page = Path(__file__).parents[3] / "docs" / "exact-resume.md"
    table = page.read_text(encoding="utf-8").partition("## What cannot be exact")[2]
    declared = {
        cause.name: cause for cause in vars(resume_causes).values() if isinstance(cause, resume_causes.InexactCause)
    }
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.+?) \|$", table, re.MULTILINE))
    assert sorted(rows) == sorted(declared)
    grave = [name for name, cause in declared.items() if cause.severity == Severity.WARNING]
    assert sorted(grave) == sorted(name for name, text in rows.items() if text.startswith("*Warning.*"))


def test_an_argument_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        ExactResume(rewind="no")
    assert str(caught.value) == "ExactResume needs rewind True or False, got 'no'; True is usual."


def test_a_rank_that_fails_alone_waits_for_nobody(tmp_path: Path, monkeypatch: Any) -> None:
    """What it saves then lacks the states of the others, and says so when it is resumed."""
    called: list[bool] = []
    monkeypatch.setattr(resume_state, "of_all_ranks", lambda mine, alone: called.append(alone) or [mine])
    with pytest.raises(RuntimeError, match="stop here"):
        train(tmp_path, Fails, callbacks=[ExactResume(), Save(tmp_path, MID, "on_exception-9")])
    assert called == [False, True]
    monkeypatch.undo()

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert resume_state.of_all_ranks({"a": 1}, alone=True) == [None, {"a": 1}]
    found = resume_causes.of_checkpoint([None, {"a": 1}], world_size=2)
    assert found is not None
    assert found.name == "no-state-of-rank"


class Fails(Net):
    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == 8:
            raise RuntimeError("stop here")
        return super().training_step(batch, batch_idx)


class Ranked(Net):
    """Each rank draws its own random numbers, and leaves its weights and random state when it ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, stage: str) -> None:
        pl.seed_everything(int(os.environ["PL_GLOBAL_SEED"]) + self.global_rank, verbose=False)

    def on_train_end(self) -> None:
        end = {**self.state_dict(), "random": torch.get_rng_state()}
        torch.save(end, self.folder / f"{self.global_rank}.pt")


def ranks(folder: Path, seed: int, *callbacks: pl.Callback, file: Path | None = None) -> list[Any]:
    folder.mkdir()
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=30))
    program = {"devices": 2, "strategy": strategy, "max_epochs": 3, "callbacks": callbacks, "ckpt_path": file}
    train(folder, partial(Ranked, folder), partial(loader, n=48), partial(loader, n=16), seed, **program)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def equal(one: list[Any], other: list[Any]) -> bool:
    return all(torch.equal(value, b[name]) for a, b in zip(one, other, strict=True) for name, value in a.items())


@pytest.mark.timeout(200)
@pytest.mark.usefixtures("no_process_left")
def test_every_rank_ends_the_same(tmp_path: Path) -> None:
    """Random numbers and shares of the data are each rank's own."""
    points = [MID, "on_validation_end-6", END]
    uninterrupted = ranks(tmp_path / "whole", 1, ExactResume(), Save(tmp_path, *points))
    assert not torch.equal(uninterrupted[0]["random"], uninterrupted[1]["random"])
    for point in points:
        file = tmp_path / f"{point}.ckpt"
        assert equal(uninterrupted, ranks(tmp_path / point, 99, ExactResume(), file=file)), point
        assert causes(tmp_path / point) == []
        assert not equal(uninterrupted, ranks(tmp_path / f"{point} alone", 99, file=file)), point
    resumed(tmp_path, MID, make=partial(loader, n=24), callbacks=[ExactResume()], accelerator="cpu")
    assert causes_of(tmp_path / MID, "debugkit-1") == ["position", "world-size"]
