"""The looks at one moment of a run: training, held-out, validation or test data, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_debugkit.core.compat import LightningModule, Trainer, datamodule_of
from lightning_debugkit.core.distributed import gathered_from_ranks
from lightning_debugkit.core.sharding import holds_whole_model, samples_of
from lightning_debugkit.data.batches import batch_size
from lightning_debugkit.data.drawing import CannotDraw
from lightning_debugkit.data.loaders import counted, is_at_once, loaders_of_pass, positions
from lightning_debugkit.evaluation.bias_variance.holdout import Holdout
from lightning_debugkit.evaluation.bias_variance.measurement import Measured, MeasuredAt, Measurement, Taken
from lightning_debugkit.evaluation.bias_variance.train_error import (
    STEPS,
    NotMeasurable,
    again,
    draw_training_sample,
    measure_training_error,
)
from lightning_debugkit.evaluation.predictions.reader import PredictionsNotFound


class DataPasses:
    """What is looked at, split by split."""

    def __init__(self, gauge: Measurement, train_samples: int, train_loader: Any, roles: Sequence[str] | None) -> None:
        self.gauge = gauge
        self.train_samples = train_samples
        self.train_loader = train_loader
        self.roles = roles
        self.missing = ""  # why there are no predictions
        self.notes: list[str] = []
        self.renew()

    def renew(self) -> None:
        """Begin anew: another moment."""
        self.takes: dict[str, Taken] = {}
        self.failed: set[str] = set()

    def role(self, step: str, dataloader_idx: int) -> str:
        """Return what a loader holds."""
        if step == "test_step":
            return f"test_{dataloader_idx}" if dataloader_idx else "test"
        if self.roles is not None and dataloader_idx < len(self.roles):
            return self.roles[dataloader_idx]
        return f"val_{dataloader_idx}" if dataloader_idx else "val"

    def train(self, trainer: Trainer, module: LightningModule, holdout: Holdout | None, alone: bool = False) -> None:
        """Measure on training data, and on those held out of training, unless a validation loader holds them.

        Raises:
            PredictionsNotFound: Nothing can be read, and it is ``alone``: no validation will tell why.
        """
        sources = {"train": lambda: self._train_loader(trainer, module, holdout)}
        if holdout is not None:
            sources["train_dev"] = lambda: holdout.held
        for split, source in sources.items():
            if self.roles is None or split not in self.roles:
                self._measure(trainer, module, split, source, alone)

    @property
    def is_settled(self) -> bool:
        """Whether it is known where predictions are, or that none are needed."""
        return bool(self.missing or "validation_step" in self.gauge.reader.places or self.gauge.names("val"))

    def probe(self, trainer: Trainer, module: LightningModule) -> None:
        """Look at one training batch, to find out where predictions are.

        Raises:
            PredictionsNotFound: They are nowhere.
        """
        try:
            sample = draw_training_sample(self._train_loader(trainer, module), 1, *samples_of(trainer))
            measure_training_error(trainer, module, sample, lambda: self.gauge.take("val"), steps=STEPS[:1])
        except PredictionsNotFound:
            raise
        except Exception:  # the first validation will tell
            return

    def check_logged(self, logged: Mapping[str, Any]) -> None:
        """Raise `PredictionsNotFound` if the metric ought to be logged and was not."""
        names = self.gauge.names("val")
        if names and not any(name in logged for name in names):
            found = ", ".join(map(repr, logged)) or "nothing"
            raise PredictionsNotFound(
                f"{self.gauge.reader.owner} needs validation_step to log {names[0]!r}, got {found}; "
                "log it there, or name one of these as metric."
            )

    def _measure(
        self, trainer: Trainer, module: LightningModule, split: str, source: Callable[[], Any], alone: bool
    ) -> None:
        rank = trainer.global_rank
        try:
            sample = draw_training_sample(source(), self.train_samples, *samples_of(trainer))
            self.takes[split] = measure_training_error(trainer, module, sample, lambda: self.gauge.take(split, rank))
        except PredictionsNotFound as error:
            self.failed.add(split)
            if alone:
                raise
            self._note(f"The {split} error is not measured: {str(error).splitlines()[0]}")
        except (NotMeasurable, CannotDraw) as error:
            # Lightning runs what it validates on all processes together: there, the same samples can be measured.
            way = "give train_loader" if holds_whole_model(trainer) else "validate on them and name roles"
            self._note(f"The {split} error is not measured: {error}; {way}.")
        except Exception as error:  # a step or a data set that minds being run from here
            self.failed.add(split)
            self._note(f"The {split} error is not measured: {type(error).__name__}: {error}.")

    def _train_loader(self, trainer: Trainer, module: LightningModule, holdout: Holdout | None = None) -> Any:
        given = self.train_loader
        if isinstance(given, str):
            for owner in (module, datamodule_of(trainer)):
                if hasattr(owner, given):
                    return getattr(owner, given)()
            raise NotMeasurable(f"neither module nor data module has a method {given}")
        if given is None:
            return trainer.train_dataloader if holdout is None else holdout.kept
        return given() if callable(given) and not hasattr(given, "dataset") else given

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def begin(self, trainer: Trainer, module: LightningModule, step: str, batch: Any, dataloader_idx: int = 0) -> None:
        """Get ready for a batch."""
        split = self.role(step, dataloader_idx)
        take = self.takes.get(split)
        if take is None:
            take = self.takes[split] = self.gauge.take(split, trainer.global_rank)
        take.begin(step, module, batch)

    def end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, step: str, *place: int) -> None:
        """Take up a batch that has run: ``place`` is its number, and that of its loader where there are several."""
        batch_idx, dataloader_idx = (*place, 0)[:2]
        split = self.role(step, dataloader_idx)
        loaders = loaders_of_pass(trainer, step == "test_step")
        loader = loaders[dataloader_idx] if dataloader_idx < len(loaders) else None
        rows = batch_size(batch, getattr(loader, "batch_size", None))
        places = None if rows is None or is_at_once(trainer) else positions(loader, batch_idx, rows)
        rerun = again(trainer, module, step, batch, batch_idx, dataloader_idx)
        try:
            self.takes[split].end(MeasuredAt(step, module, outputs, batch, counted(loader, places), places, rerun))
        except Exception:
            self.failed.add(split)
            raise

    def stop(self) -> None:
        """Leave the module without instruments."""
        for take in self.takes.values():
            take.stop()

    def merged(self, trainer: Trainer) -> dict[str, Measured]:
        """Return what all ranks saw of each split; every rank must call this at the same place."""
        mine: dict[str, Any] = {}
        for split, take in {} if self.missing else self.takes.items():
            try:
                mine[split] = None if split in self.failed else take.payload()
            except Exception:  # no rank may be left waiting
                mine[split] = None
        ranks = gathered_from_ranks(trainer, mine)
        found = {}
        for split in dict.fromkeys(name for each in ranks for name in each):
            held = self.gauge.merged([each.get(split) for each in ranks], trainer.callback_metrics, split)
            if held is not None:
                found[split] = held
        self.renew()
        return found
