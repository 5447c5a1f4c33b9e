"""A run that was stopped within an epoch goes on there, though Lightning counts that epoch as complete."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.resume.interrupted import Net, causes, loader, resumed, same, told, train, whole
from checkpointing.resume.test_exact_resume import Placed
from checkpointing.resume.test_resumption import equal, ranks
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, Timer

from lightning_debugkit import ExactResume, NestedCheckpoint, Severity

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

val = partial(loader, shuffle=False, n=8)


class StopAt(pl.Callback):
    """Asks the Trainer to stop after some batches, as a Timer does."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.fit_loop.total_batch_idx + 1 == self.batches:
            trainer.should_stop = True


class Scheduled(Net):
    """Asks for the number of steps when it makes its optimizers: loaders are set up before the fit begins."""

    def configure_optimizers(self) -> Any:
        adam = torch.optim.AdamW(self.parameters(), lr=1e-2)
        steps = max(18, int(self.trainer.estimated_stepping_batches))  # of the whole run, not of a part
        cycle = torch.optim.lr_scheduler.OneCycleLR(adam, 0.02, total_steps=steps)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def stopped(folder: Path, batches: int, by: str, keep: Any = None, file: Path | None = None, **program: Any) -> Path:
    """Train until the run is stopped, and return its last checkpoint."""
    saves = ModelCheckpoint(dirpath=folder, filename="end") if keep is None else keep(folder)
    callbacks = [*program.pop("callbacks", [ExactResume()]), saves]
    limits: dict[str, Any] = {"max_epochs": 3}
    if by == "max_steps":
        limits["max_steps"] = batches // program.get("accumulate_grad_batches", 1)
    else:
        callbacks.insert(1 if by == "should_stop" else 0, StopAt(batches))
    train(folder / "run", program.pop("module", Net), callbacks=callbacks, ckpt_path=file, **limits, **program)
    return Path(saves.last_model_path or saves.best_model_path)


def goes_on(folder: Path, file: Path, **program: Any) -> pl.LightningModule:
    program = {"seed": 99, "callbacks": [ExactResume()], **program}
    return train(folder / "goes on", program.pop("module", Net), ckpt_path=file, **program)


PROGRAMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "with validation": {"val": val},
    "validation within the epoch": {"val": val, "val_check_interval": 0.5},
    "a validation due when it stops": {"val": val, "val_check_interval": 2},
    "workers": {"make": partial(loader, 2)},
    "accumulation": {"accumulate_grad_batches": 2},
    "a stream that keeps its place": {"make": Placed},
    "the number of steps is asked for early": {"module": Scheduled},
}


@pytest.mark.parametrize("by", ["max_steps", "should_stop", "should_stop, asked for first"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_the_rest_of_the_epoch_is_trained_on(program: dict[str, Any], by: str, tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", program.get("module", Net), callbacks=[ExactResume()], **_but(program))
    file = stopped(tmp_path, 8, by, **program)
    assert same(uninterrupted, goes_on(tmp_path, file, **program))
    assert told(tmp_path / "goes on") == []


def _but(program: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in program.items() if name != "module"}


def test_twice_in_one_epoch(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    first = stopped(tmp_path / "1", 8, "max_steps")
    second = stopped(tmp_path / "2", 10, "should_stop", file=first, seed=7)
    assert same(uninterrupted, goes_on(tmp_path, second))
    assert told(tmp_path / "goes on") == told(tmp_path / "2" / "run") == []


KEEPERS = {
    "after the fit": None,
    "by NestedCheckpoint": lambda folder: NestedCheckpoint(dirpath=folder),
    "each step": lambda folder: ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_last=True),
    "the last": lambda folder: ModelCheckpoint(dirpath=folder, save_last=True),
}


@pytest.mark.parametrize("keep", KEEPERS.values(), ids=KEEPERS)
def test_whoever_saves_its_end(keep: Any, tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    if keep is None:
        pl.seed_everything(1, verbose=False)
        trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[ExactResume()], max_steps=8, logger=False)
        trainer.fit(Net(), loader())
        trainer.save_checkpoint(file := tmp_path / "after.ckpt")
    else:
        file = stopped(tmp_path, 8, "max_steps", keep)
    assert same(uninterrupted, goes_on(tmp_path, file))
    assert told(tmp_path / "goes on") == []


def test_a_timer_and_early_stopping_within_an_epoch(tmp_path: Path) -> None:
    class Now(Timer):
        def time_elapsed(self, *args: Any) -> float:
            return 9.0 if trainer_of["fit"].global_step == 8 else 0.0

    class Keep(pl.Callback):
        def setup(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
            trainer_of["fit"] = trainer

    trainer_of: dict[str, pl.Trainer] = {}
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    callbacks = [Keep(), ExactResume(), Now(timedelta(seconds=5))]
    file = stopped(tmp_path, 99, "nothing", callbacks=callbacks)
    assert torch.load(file, weights_only=True)["global_step"] == 8
    assert same(uninterrupted, goes_on(tmp_path, file))

    program: dict[str, Any] = {"val": val, "val_check_interval": 2}
    uninterrupted = train(tmp_path / "whole 2", Net, callbacks=[ExactResume()], **program)
    early = EarlyStopping("val_loss", patience=1, min_delta=9.0)
    file = stopped(tmp_path / "2", 99, "nothing", callbacks=[ExactResume(), early], **program)
    assert torch.load(file, weights_only=True)["global_step"] == 4
    assert same(uninterrupted, goes_on(tmp_path / "2", file, **program))


def test_an_epoch_that_was_complete_is_not_reopened(tmp_path: Path) -> None:
    uninterrupted = train(tmp_path / "whole", Net, callbacks=[ExactResume()])
    for by in ("max_steps", "should_stop"):
        file = stopped(tmp_path / by, 12, by)
        assert same(uninterrupted, goes_on(tmp_path / by, file))
        assert told(tmp_path / by / "goes on") == []


class Ends(Net):
    def on_train_epoch_end(self) -> None:
        pass


def test_a_hook_that_runs_twice_is_told(tmp_path: Path) -> None:
    file = stopped(tmp_path, 8, "max_steps", module=Ends)
    goes_on(tmp_path, file, module=Ends)
    assert causes(tmp_path / "goes on") == ["hooks-again"]


def test_without_states_the_batches_that_are_lost_are_told(tmp_path: Path) -> None:
    file = stopped(tmp_path, 8, "max_steps", callbacks=[])
    goes_on(tmp_path, file)
    (finding,) = told(tmp_path / "goes on")
    assert (finding.severity, finding.evidence["names"]) == (Severity.WARNING, ["stopped", "no-state"])
    assert "behind 2 batches of an epoch that Lightning counts as complete: 4 are not trained on" in finding.message


def test_a_place_that_is_not_taken_up_is_told(tmp_path: Path) -> None:
    """And the same loader, mended, is exact."""
    for deaf, names in ((True, ["place"]), (False, [])):
        make = partial(Placed, deaf=deaf)
        folder = tmp_path / str(deaf)
        uninterrupted = train(folder / "whole", Net, make, callbacks=[ExactResume()])
        file = stopped(folder, 9, "max_steps", make=make)
        assert same(uninterrupted, goes_on(folder, file, make=make)) is not deaf
        assert causes(folder / "goes on") == names
        assert all(finding.severity == Severity.WARNING for finding in told(folder / "goes on"))


class Stuck(Placed):
    """Has a length, and forgets the place that it was given only where Lightning never looks: at its own end."""

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Any:
        self.place = self.begin
        return self._to_the_end()

    def _to_the_end(self) -> Any:
        yield from self._rest()
        self.begin = 0


class Hopeless(Stuck):
    """Never forgets it."""

    def _to_the_end(self) -> Any:
        return self._rest()


def test_a_loader_is_told_of_the_end_of_the_epoch_that_it_took_up(tmp_path: Path) -> None:
    """Lightning leaves its iterator before the end: litdata's loader would begin the next epoch in the same place."""
    for make, exact in ((Stuck, True), (Hopeless, False)):
        folder = tmp_path / make.__name__
        uninterrupted = train(folder / "whole", Net, make, callbacks=[ExactResume()])
        file = stopped(folder, 8, "max_steps", make=make)
        assert same(uninterrupted, goes_on(folder, file, make=make)) is exact
        assert causes(folder / "goes on") == ([] if exact else ["short-epoch"])


@pytest.mark.timeout(200)
@pytest.mark.usefixtures("no_process_left")
def test_every_rank_goes_on(tmp_path: Path) -> None:
    uninterrupted = ranks(tmp_path / "whole", 1, ExactResume())
    saves = ModelCheckpoint(dirpath=tmp_path / "saved", filename="end")
    ranks(tmp_path / "stopped", 1, ExactResume(), StopAt(8), saves)
    assert equal(uninterrupted, ranks(tmp_path / "goes on", 99, ExactResume(), file=tmp_path / "saved" / "end.ckpt"))
    assert causes(tmp_path / "goes on") == []


class SavesInValidation(Net):
    """As Ctrl-C in the last batch of a validation does; no random number is drawn there."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if self.trainer.fit_loop.total_batch_idx == 5 and batch_idx == 1:
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir).parent / "in-6.ckpt")


@pytest.mark.parametrize("workers", [0, 1])
def test_the_rest_of_a_validation_does_not_move_the_next_epoch(tmp_path: Path, workers: int) -> None:
    """Lightning iterates the validation's loader once more: workers draw a seed."""
    val = partial(loader, workers, shuffle=False, n=8, draws=())
    uninterrupted = whole(tmp_path, ["in-6"], SavesInValidation, val=val)
    found = resumed(tmp_path, "in-6", SavesInValidation, val=val)
    assert (same(found, uninterrupted), causes(tmp_path / "in-6")) == (True, ["validation"])
