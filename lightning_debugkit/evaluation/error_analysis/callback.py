"""What the model confuses, on which samples, and what that is worth."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer

from lightning_debugkit.core.anomaly import TrainingAnomaly
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import is_trial
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.run import current_run, open_run
from lightning_debugkit.core.trivial_answer import unless_guessed
from lightning_debugkit.data.loaders import class_mapping
from lightning_debugkit.evaluation.error_analysis import error_analysis_arguments
from lightning_debugkit.evaluation.error_analysis.class_names import class_names as names_of
from lightning_debugkit.evaluation.error_analysis.collected_answers import CollectedAnswers
from lightning_debugkit.evaluation.error_analysis.confusion_history import ConfusionHistory
from lightning_debugkit.evaluation.error_analysis.error_analysis_arguments import evaluation_step, one_of_several
from lightning_debugkit.evaluation.error_analysis.error_analysis_rules import is_all_broken
from lightning_debugkit.evaluation.error_analysis.error_files import files_of, settled_files, write_error_files
from lightning_debugkit.evaluation.error_analysis.errors_json import AnalysedAt, ErrorAnalysisResult
from lightning_debugkit.evaluation.error_analysis.evaluation_pass import EvaluationPass
from lightning_debugkit.evaluation.error_analysis.task import TaskName
from lightning_debugkit.evaluation.error_analysis.training_answers import TrainingAnswers
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound, check_sources

_log = logging.getLogger("lightning_debugkit")
_SHARE = 0.05  # of a run's time that analyses on the way may take; the last is always made
_NOT_VALIDATED = "Nothing was validated: mistakes are counted where the Trainer validates or tests."


class ErrorAnalysis(DebugCallback):
    """Tell what the model confuses: pairs of classes, worst samples, wrong labels, weak slices, calibration.

    It looks on while the Trainer validates and tests; a sample counts once, also where ranks repeat some. The result is
    ``errors.json`` in the run folder (``errors-test.json`` of a test), a table of the samples that are wrong, pictures
    of the most telling ones, a section of the report, and findings where more than chance is at work.

    Args:
        class_names: Names of the classes; found on the data module, the data set or the module if not given.
        task: ``multiclass``, ``binary``, ``multilabel``, ``segmentation`` or ``detection``; told by the first batch if
            not given.
        slices: Entries of the batch to search weak slices by; every one that has a number or a word for each sample if
            not given.
        loaders: Numbers of the loaders that count; all of them if not given.
        training_dynamics: Whether to follow every training sample over the epochs, at 19 bytes a sample.
        pictures: Samples that are drawn at most.
        max_samples: Samples that are remembered one by one; those beyond are counted all the same.
        predictions: Name of the predictions in what the step or ``forward`` returns.
        target: Name of the targets in what the step returns or in the batch.
        adapter: Function of the step's outputs and the batch, or its dotted path, that returns both.
        on_missing: ``raise`` in the sanity check where predictions cannot be found, or ``warn`` once and go without.
    """

    passes = (TrainingAnomaly, PredictionsNotFound)
    judges_answers = True
    reports_on = ("validate", "test")

    def __init__(
        self,
        class_names: Sequence[str] | Mapping[int, str] | None = None,
        task: TaskName | None = None,
        slices: Sequence[str] | None = None,
        loaders: Sequence[int] | None = None,
        training_dynamics: bool = False,
        pictures: int = 64,
        max_samples: int = 1_000_000,
        predictions: str | None = None,
        target: str | None = None,
        adapter: str | Callable[[Any, Any], Any] | None = None,
        on_missing: Literal["raise", "warn"] = "raise",
    ) -> None:
        error_analysis_arguments.check_selections(class_names, slices, loaders)
        error_analysis_arguments.check_numbers(pictures, max_samples)
        error_analysis_arguments.check_choices(task, training_dynamics)
        check_sources("ErrorAnalysis", predictions, target, adapter, on_missing)
        self.class_names = class_names
        self.task = task
        self.slices = slices
        self.loaders = loaders
        self.training_dynamics = training_dynamics
        self.pictures = pictures
        self.max_samples = max_samples
        self.predictions = predictions
        self.target = target
        self.adapter = adapter
        self.on_missing = on_missing
        self.history = ConfusionHistory()
        self._stage = ""
        self._reset()

    def _reset(self) -> None:
        self.watch = EvaluationPass(self._reader(), self.task, self.loaders, self.slices, self.max_samples)
        self.learning = TrainingAnswers(self._reader()) if self.training_dynamics else None
        self._last: tuple[CollectedAnswers, AnalysedAt, list[str]] | None = None
        self._spent = 0.0

    def _reader(self) -> PredictionReader:
        return PredictionReader(type(self).__name__, self.adapter, self.predictions, self.target)

    def __getstate__(self) -> dict[str, Any]:
        # What watches a fit in progress stays with it.
        held = {name: value for name, value in self.__dict__.items() if name not in ("watch", "learning", "_last")}
        return {**held, "_learnt": self.learning.state_dict() if self.learning else {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        learnt = state.pop("_learnt")
        self.__dict__.update(state)
        self._reset()
        if self.learning is not None:
            self.learning.load_state_dict(learnt)

    @cached_property
    def state_key(self) -> str:
        return f"{super().state_key}{error_analysis_arguments.asked(self)}"

    def state_dict(self) -> dict[str, Any]:
        learnt = self.learning.state_dict() if self.learning else {}
        return {**super().state_dict(), "history": self.history.state_dict(), "learnt": learnt}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._stage in ("validate", "test", "predict"):
            # A checkpoint that is tested knows less than a run that has gone on since.
            if not self.history.moments:
                self.history.load_state_dict(state_dict.get("history"))
            return
        super().load_state_dict(state_dict)
        self.history.load_state_dict(state_dict.get("history"))
        if self.learning is not None:
            self.learning.load_state_dict(state_dict.get("learnt"))

    # The order below is the order of events in a run.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._stage = stage
        if stage != "fit":
            self.idle = self.gives_way(trainer)
        if self.idle or stage == "predict":
            return
        if stage == "fit":  # before anything is restored: a fit that resumes gets its memory back after this
            self._reset()
            self.history = ConfusionHistory()
            if self.learning is not None:
                self.learning.order.install(trainer)
        self.watch.missing = ""
        self.watch.order.install(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.learning is not None:
            self.learning.order.begin()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.learning is not None:
            self.learning.begin(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.learning is not None:
            self.learning.end(trainer, pl_module, outputs, batch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.learning is not None:
            self.learning.settle(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if current_run(trainer) is None:
            open_run(trainer, pl_module)
        self.watch.renew()
        if error := self.watch.lacking(trainer):
            self._miss(trainer, error, trainer.sanity_checking or self._stage != "fit")

    on_test_start = on_validation_start

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        self.watch.begin(pl_module, evaluation_step(trainer), *place[1:])

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        self.on_validation_batch_start(trainer, pl_module, batch, *place)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        try:
            self.watch.end(trainer, pl_module, outputs, batch, evaluation_step(trainer), *place)
        except PredictionsNotFound as error:
            self._miss(trainer, error, trainer.sanity_checking or self._stage != "fit")

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self.on_validation_batch_end(trainer, pl_module, outputs, batch, *place)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.metrics.close()

    on_test_epoch_end = on_validation_epoch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking:
            self.watch.renew()
            return
        with self.ending(trainer, self._stage):
            self._gather(trainer, pl_module, "validate")
            if self._stage == "validate":
                # Validated before a fit: the weights may be the initial ones.
                self._conclude(trainer, pl_module, is_over=steps_taken(trainer) > 0 or trainer.ckpt_path is not None)
            elif self._affords(trainer):
                self._conclude(trainer, pl_module, is_last=False)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self.ending(trainer, "test"):
            self._gather(trainer, pl_module, "test")
            self._conclude(trainer, pl_module, is_over=True)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()
        self._take_training(trainer, pl_module)
        self._conclude(trainer, pl_module, is_over=not (trainer.interrupted or is_trial(trainer)))
        super().on_fit_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()
        self._take_training(trainer, pl_module)
        self._conclude(trainer, pl_module)
        super().on_exception(trainer, pl_module, exception)

    def _release(self) -> None:
        self.watch.stop()
        if self.learning is not None:
            self.learning.stop()

    def _miss(self, trainer: Trainer, error: PredictionsNotFound, may_raise: bool) -> None:
        self.watch.missing = str(error)
        if may_raise and self.on_missing == "raise":
            raise error
        self.left_out(trainer, f"{error}\n{type(self).__name__} leaves its section out.", error)

    def _gather(self, trainer: Trainer, module: LightningModule, stage: Literal["validate", "test"]) -> None:
        """Bring together what ranks saw; every rank must call this at the same place."""
        where = self.where(trainer)
        for finding in self.watch.metrics.findings(trainer.callback_metrics, where, stage):
            self.emit(trainer, finding)
        if (found := self.watch.gathered(trainer)) is None:
            if self.watch.missing and self.watch.unfollowed:
                self._miss(trainer, PredictionsNotFound(self.watch.missing), may_raise=False)
            return
        if stage == "validate" and self._stage == "fit":
            self.history.add(found, where.epoch, where.step)
        if trainer.is_global_zero:
            is_known, is_from_one = found.form.classes > 0, found.none == 0
            names, note = names_of(self.class_names, trainer, module, found.named, is_known, is_from_one)
            notes = [*self.watch.told(), *filter(None, [note])]
            self._last = found, AnalysedAt(stage, where.epoch, where.step, names, class_mapping(trainer)), notes
        self.watch.renew()

    def _take_training(self, trainer: Trainer, module: LightningModule) -> None:
        """Where nothing was validated, the training samples that were followed are all that there is to tell."""
        learning, is_told = self.learning, self._last is not None or bool(self.history.moments)
        if learning is None or is_told or self.watch.missing or not trainer.is_global_zero:
            return
        if (found := learning.alone()) is None:
            why = learning.why_not or "It needs two epochs of training, or validation data."
            _log.warning(f"{type(self).__name__} leaves its section out. {why}")
            return
        names, note = names_of(self.class_names, trainer, module, found.named)
        notes, at = [_NOT_VALIDATED, note], self.where(trainer)
        self._last = (
            found,
            AnalysedAt("validate", at.epoch, at.step, names, class_mapping(trainer)),
            [*filter(None, notes)],
        )

    def _affords(self, trainer: Trainer) -> bool:
        run = current_run(trainer)
        return run is not None and self._spent <= _SHARE * run.seconds

    def _conclude(self, trainer: Trainer, module: LightningModule, is_over: bool = False, is_last: bool = True) -> None:
        """Leave the last analysis in the run folder, with pictures and findings if there will be no other."""
        if (run := current_run(trainer)) is None or self._last is None:
            return
        began = time.monotonic()
        found, moment, notes = self._last
        named = settled_files(found, trainer, moment.stage, is_last)
        course, why_not = self.learning.told(trainer, is_last) if self.learning else (None, [])
        analysis = ErrorAnalysisResult(named.found, moment, self.history, [*notes, *named.notes, *why_not])
        pictures = self.pictures if is_last and named.may_draw else 0
        files = files_of(run.folder, moment.stage, self._stage == "fit", *one_of_several(self, trainer))
        for fields in write_error_files(run.folder, trainer, module, analysis, course, pictures, files):
            self.write(trainer, "artifact", **fields)
        if is_last:
            self._last = None
            where = Where(moment.epoch, moment.step, trainer.global_rank)
            for finding in analysis.findings(where, is_over, files.analysis):
                is_told = finding.rule == "no-better-than-trivial" and run.is_trivial_told
                if is_told or (run.is_broken and is_all_broken(finding)):
                    continue
                self.emit(trainer, unless_guessed(finding, self.watch.reader.guessed), about=files.analysis)
        self._spent += time.monotonic() - began
