"""What limits this model: bias, variance, a shift of the data or a worn validation set; how sure, and what next."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric

from lightning_debugkit.core.anomaly import TrainingAnomaly
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.compat import is_trial
from lightning_debugkit.core.finding import Where
from lightning_debugkit.core.run import current_run, open_run
from lightning_debugkit.core.trivial_answer import unless_guessed
from lightning_debugkit.evaluation.bias_variance import results
from lightning_debugkit.evaluation.bias_variance.bias_variance_arguments import check_arguments, named_metric
from lightning_debugkit.evaluation.bias_variance.bias_variance_rules import bias_variance_findings, conclude
from lightning_debugkit.evaluation.bias_variance.data_passes import DataPasses
from lightning_debugkit.evaluation.bias_variance.error_history import ErrorHistory, errors_of, weights_fingerprint
from lightning_debugkit.evaluation.bias_variance.holdout import Holdout
from lightning_debugkit.evaluation.bias_variance.measurement import Measurement
from lightning_debugkit.evaluation.bias_variance.training_facts import TrainingFacts, training_facts_of
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound, check_sources

_log = logging.getLogger("lightning_debugkit")
Goal = float | tuple[int, int] | dict[str, float] | None
Missing = Literal["raise", "warn"]


class BiasVarianceReport(DebugCallback):
    """Split the error into avoidable bias, variance, distribution shift and validation overfitting, with bounds.

    The training error is measured in eval mode on a fixed part of the training data whenever the model is validated;
    the test error is that of ``trainer.test``. Weights, random numbers, metrics and logs stay as they would be without.
    The result is ``bias_variance.json`` in the run folder, a section of the report, and findings where a gap is beyond
    doubt.

    Args:
        goal: The error that could be reached, such as that of a human: a number, mistakes and samples ``(3, 100)``, or
            ``{"val_mae": 0.3}`` for a metric that the module logs.
        metric: ``error`` (the share of wrong answers, the default), a torchmetrics metric, or the name of a metric
            that the validation step logs.
        maximize: Whether larger values of the metric are better; read off the metric or its name if not given.
        train_dev: Share of the training data to hold out of training, to tell variance from a shift of the data.
        train_samples: Training samples on which the training error is measured.
        train_loader: Training data with the transforms of validation: a loader, or the name of a method of the module
            or the data module that returns one. The samples of the training loader otherwise.
        every_n_epochs: Epochs from one measurement of the training error to the next; ``auto`` measures as often as
            costs a tenth of the samples trained on. The last is always measured.
        roles: What each validation loader holds: ``val``, ``train_dev``, ``train``, or a name of its own.
        trials: Models that were compared on the validation data, this one included, such as hyper-parameter trials.
        interval: ``wilson``, or ``exact`` (Clopper-Pearson: never covers less than 95 %, often more) for error rates.
        group: Entry of the batch that says which samples belong together, such as those of one patient.
        predictions: Name of the predictions in what the step or ``forward`` returns.
        target: Name of the targets in what the step returns or in the batch.
        adapter: Function of the step's outputs and the batch, or its dotted path, that returns both.
        on_missing: ``raise`` in the sanity check where predictions cannot be found, or ``warn`` once and go without.
    """

    passes = (TrainingAnomaly, PredictionsNotFound)
    judges_answers = True
    reports_on = ("test",)

    def __init__(
        self,
        goal: Goal = None,
        metric: str | Metric | None = None,
        maximize: bool | None = None,
        train_dev: float = 0.0,
        train_samples: int = 10_000,
        train_loader: str | Callable[[], Any] | Any = None,
        every_n_epochs: int | Literal["auto"] = 1,
        roles: Sequence[str] | None = None,
        trials: int = 1,
        interval: Literal["wilson", "exact"] = "wilson",
        group: str | None = None,
        predictions: str | None = None,
        target: str | None = None,
        adapter: str | Callable[[Any, Any], Any] | None = None,
        on_missing: Missing = "raise",
    ) -> None:
        check_arguments(goal, metric, train_dev, train_samples, every_n_epochs, trials, interval)
        check_sources("BiasVarianceReport", predictions, target, adapter, on_missing)
        self.goal = goal
        self.metric = metric
        self.maximize = maximize
        self.train_dev = train_dev
        self.train_samples = train_samples
        self.train_loader = train_loader
        self.every_n_epochs = every_n_epochs
        self.roles = roles
        self.trials = trials
        self.interval = interval
        self.group = group
        self.predictions = predictions
        self.target = target
        self.adapter = adapter
        self.on_missing = on_missing
        self.memory = ErrorHistory()
        self.facts = TrainingFacts()
        self._stage = ""
        self._reset()

    def _reset(self) -> None:
        reader = PredictionReader(type(self).__name__, self.adapter, self.predictions, self.target)
        gauge = Measurement(named_metric(self.goal, self.metric), reader, self.group, self.interval)
        self.looks = DataPasses(gauge, self.train_samples, self.train_loader, self.roles)
        self._holdout = Holdout(self.train_dev) if self.train_dev else None

    def __getstate__(self) -> dict[str, Any]:
        # What watches a fit in progress stays with it.
        return {name: value for name, value in self.__dict__.items() if name not in ("looks", "_holdout")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "memory": self.memory.state_dict(), "facts": self.facts.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        held = state_dict.get("memory", {})
        if self._stage in ("validate", "test", "predict"):
            # A checkpoint that is tested knows less than a run that has gone on since.
            self.facts = self.facts if self.memory.moments else TrainingFacts.from_dict(state_dict.get("facts", {}))
            self.memory.recall(held)
            return
        super().load_state_dict(state_dict)
        self.memory.load_state_dict(held)
        self.facts = TrainingFacts.from_dict(state_dict.get("facts", {}))

    # The order below is the order of events in a run.

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._stage = stage
        if stage == "fit" and not self.idle:
            # Before anything is restored: a fit that resumes gets its memory back after this.
            self._reset()
            self.memory, self.facts = ErrorHistory(), TrainingFacts()
            if self._holdout is not None:
                self._holdout.install(trainer)
        elif stage == "test":
            self.looks.renew()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.facts = training_facts_of(trainer, pl_module)
        if self._holdout is not None and self._holdout.kept is not None:
            self.facts = replace(self.facts, samples=self._holdout.samples)
        if trainer.enable_validation and not self.looks.is_settled:
            # There was no sanity check to tell: better now than after an epoch.
            self._missed(trainer, lambda: self.looks.probe(trainer, pl_module), may_raise=True)

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        if self._stage != "fit":
            return
        if not any(place):  # the first batch of the first loader
            self.looks.renew()
            # Now the weights are those that are validated, whoever swaps them before or after.
            if not trainer.sanity_checking and self._is_due(trainer):
                self.looks.train(trainer, pl_module, self._holdout)
        self._missed(trainer, lambda: self.looks.begin(trainer, pl_module, "validation_step", batch, *place[1:]))

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        if self._stage == "fit":
            end = functools.partial(self.looks.end, trainer, pl_module, outputs, batch, "validation_step", *place)
            self._missed(trainer, end, may_raise=trainer.sanity_checking)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stage != "fit":
            return
        if trainer.sanity_checking:
            self._missed(trainer, lambda: self.looks.check_logged(trainer.callback_metrics), may_raise=True)
        else:
            self._measured(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        running = results.running_metric(trainer.callback_metrics, self.looks.gauge.names("train")[1:2])
        self.memory.running = running or self.memory.running
        if not trainer.enable_validation and self._is_due(trainer):
            self._train_only(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.facts = replace(self.facts, epochs=trainer.current_epoch)
        if self.memory.lacks_train(trainer, pl_module):
            self._train_only(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._release()
        self._conclude(trainer)
        super().on_fit_end(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if current_run(trainer) is None:
            open_run(trainer, pl_module)

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, *place: int) -> None:
        self._missed(trainer, lambda: self.looks.begin(trainer, pl_module, "test_step", batch, *place[1:]))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *place: int
    ) -> None:
        self._missed(trainer, lambda: self.looks.end(trainer, pl_module, outputs, batch, "test_step", *place))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self.ending(trainer, "test"):
            if found := self.looks.merged(trainer):
                self.memory.add_test(weights_fingerprint(pl_module), found)
                self._conclude(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._release()
        self._conclude(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _release(self) -> None:
        self.looks.stop()
        if self._holdout is not None:
            self._holdout.remove()

    def _is_due(self, trainer: Trainer) -> bool:
        if isinstance(self.every_n_epochs, int):
            return trainer.current_epoch % self.every_n_epochs == 0
        n = self.facts.samples or self.train_samples
        return self.memory.affords(min(self.train_samples, n), n * (trainer.current_epoch + 1))

    def _missed(self, trainer: Trainer, look: Callable[[], None], may_raise: bool = False) -> None:
        """Look, unless predictions could not be found before; say it once if they cannot be found now."""
        if self.looks.missing:
            return
        try:
            look()
        except PredictionsNotFound as error:
            self.looks.missing = str(error)
            if may_raise and self.on_missing == "raise":
                raise
            self.left_out(trainer, f"{error}\n{type(self).__name__} leaves its section out.", error)

    def _train_only(self, trainer: Trainer, module: LightningModule) -> None:
        self.looks.renew()
        self._missed(trainer, lambda: self.looks.train(trainer, module, self._holdout, alone=True))
        self._measured(trainer, module)

    def _measured(self, trainer: Trainer, module: LightningModule) -> None:
        found = self.looks.merged(trainer)
        if found:
            moment = self.memory.add(trainer, weights_fingerprint(module), found)
            point = results.point(errors_of(moment), moment["epoch"])
            if trainer.is_global_zero:
                self.write(trainer, "measure", name="bias-variance-errors", value=point)

    def _conclude(self, trainer: Trainer) -> None:
        """Say what is known by now; a later test knows more."""
        run = current_run(trainer)
        if run is None or not (self.memory.moments or self.memory.test) or not trainer.is_global_zero:
            return
        moment, speaks_of = results.subject(trainer, self.memory)
        case = results.case_of(self, trainer, moment)
        conclusion = conclude(case)
        held = results.as_measure(case, conclusion, speaks_of, self.memory)
        self.write(trainer, "measure", name="bias-variance", value=held)
        results.write_file(run.folder, results.as_file(case, conclusion))
        self.write(trainer, "artifact", name="bias and variance", path=results.FILE)
        where = self.where(trainer)
        if moment is not None:
            where = Where(moment["epoch"], moment["step"], trainer.global_rank)
        for finding in () if is_trial(trainer) else bias_variance_findings(case, conclusion, where):
            run.is_trivial_told |= finding.rule == "no-better-than-trivial"
            self.emit(trainer, unless_guessed(finding, self.looks.gauge.reader.guessed))
        _log.info(f"{type(self).__name__}: {conclusion.verdict}")
