"""The batches of one pass over validation or test data: read, compared and taken up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.distributed import gathered_from_ranks
from lightning_debugkit.core.step_hooks import is_detections
from lightning_debugkit.data.batches import CannotSplit, batch_size, take
from lightning_debugkit.data.evaluation_order import LoaderOrder, Rows, answered_loader
from lightning_debugkit.data.loaders import begins, is_at_once, loaders_of_pass
from lightning_debugkit.evaluation.bias_variance.train_error import again
from lightning_debugkit.evaluation.error_analysis.collected_answers import (
    AnswerCollector,
    CollectedAnswers,
    merged_answers,
)
from lightning_debugkit.evaluation.error_analysis.error_analysis_notes import UNFOLLOWED
from lightning_debugkit.evaluation.error_analysis.index_evidence import IndexEvidence
from lightning_debugkit.evaluation.error_analysis.loss_check import LossCheck
from lightning_debugkit.evaluation.error_analysis.slice_columns import columns_of, indices_of
from lightning_debugkit.evaluation.error_analysis.stage_metrics import StageMetrics
from lightning_debugkit.evaluation.error_analysis.task import Task as Form
from lightning_debugkit.evaluation.error_analysis.task import (
    TaskName,
    check_same_task,
    fits,
    is_decided,
    is_still,
    of_places,
    shaped,
    task_of,
)
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound
from lightning_debugkit.evaluation.predictions.readings import Reading, shown_structure
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses


class EvaluationPass:
    """Looks at every batch of a pass; what stays from pass to pass is how the module is read."""

    def __init__(
        self,
        reader: PredictionReader,
        task: TaskName | None,
        loaders: Sequence[int] | None,
        slices: Sequence[str] | None,
        most: int,
    ) -> None:
        self.reader = reader
        self.task = task  # kind of question, `None` to tell by the first batch
        self.loaders = loaders  # loaders that count, all if `None`
        self.slices = slices  # entries of the batch to search weak slices by, all that fit if `None`
        self.most = most  # samples that all ranks together remember one by one
        self.order = LoaderOrder()
        self.missing = ""
        self.metrics = StageMetrics()
        self.forms: dict[str, Form] = {}
        self.renew()

    def renew(self) -> None:
        """Begin anew: another pass."""
        self.order.begin()
        self.gathering: AnswerCollector | None = None
        self.check = LossCheck()
        self.evidence = IndexEvidence()
        self.notes: dict[str, None] = {}
        self.batches = self.without = self.lost = 0
        self.why_lost = ""
        self.unfollowed = False
        self.metrics.renew()

    def lacking(self, trainer: Trainer) -> PredictionsNotFound | None:
        """Return what to say if none of the loaders that count is among those that are there."""
        there = len(loaders_of_pass(trainer, trainer.testing))
        absent = [number for number in self.loaders or () if number >= there] if there else []
        if not absent or self.missing:
            return None
        if len(absent) < len(self.loaders or ()):
            self.note(f"There is no loader {' and no loader '.join(map(str, absent))}: {there} are there, from 0 on.")
            return None
        return PredictionsNotFound(
            f"{self.reader.owner} needs loaders below {there}, as there are so many, got {self.loaders!r}; "
            "loaders=[0] counts the first."
        )

    def note(self, text: str) -> None:
        self.notes[text] = None

    def begin(self, module: LightningModule, step: str, dataloader_idx: int = 0) -> None:
        """Get ready for a batch."""
        self.metrics.begin(module)
        if self._counts(dataloader_idx):
            self.reader.begin(step, module, watch=True)

    def end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        step: str,
        batch_idx: int,
        at: int = 0,
    ) -> None:
        """Take up a batch that has run.

        Raises:
            PredictionsNotFound: There are none, or they are no answers that can be counted.
        """
        loaders = loaders_of_pass(trainer, step == "test_step")
        # First of all: what fails below must not leave this batch's indices to the next.
        if is_at_once(trainer):
            rows = [self.order.rows(loader) for loader in loaders]
        else:
            rows = [self.order.rows(loaders[at] if at < len(loaders) else None)]
        if not self._counts(at):
            return
        try:
            self._take_up(trainer, module, outputs, batch, (step, batch_idx, at), loaders, rows)
        except PredictionsNotFound:
            raise
        except Exception as error:
            self.lost += 1
            self.why_lost = self.why_lost or f"{type(error).__name__}: {error}"
            raise

    def _take_up(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: Any,
        batch: Any,
        place: tuple[str, int, int],
        loaders: Sequence[Any],
        of_each: Sequence[Rows],
    ) -> None:
        step, batch_idx, at = place
        rerun = again(trainer, module, step, batch, batch_idx, at)
        self.batches += 1
        try:
            found = self._read(step, module, outputs, batch, rerun)
        except PredictionsNotFound:
            if step not in self.reader.places:
                raise
            self.without += 1
            return
        if found.counted is not None:
            self.note("Answers that the step leaves out of its loss by a mask are not counted.")
        self.unfollowed |= not found.is_followed
        rows = of_each[0]
        if is_at_once(trainer):
            at, rows, batch, note = answered_loader(trainer, step == "test_step", batch, found.target, of_each)
            self.note(note)
        # Detections come with a list of targets; the batch's own lists are told from columns by guessing.
        asked = getattr(loaders[at] if at < len(loaders) else None, "batch_size", None)
        asked = asked if rows.indices is None else len(rows.indices)
        size = (None if is_detections(found.predictions) else batch_size(batch, asked)) or len(found.target)
        found = shaped(found, size)
        form = self._form(step, found, batch)
        if not fits(form, found):
            self.note("Batches with answers of another kind than the first are left out.")
            return
        n = len(found.predictions)
        rows = rows.of(n) if n == size else Rows(None, may_repeat=rows.may_repeat)
        if rows.may_repeat:
            self.note("Which share of the data a rank read is not known: a sample that two of them got counts twice.")
        columns = self._columns(batch, outputs, found, at if len(loaders) > 1 else None)
        indices = self._indices(batch, outputs, n, rows, loaders, at)
        if rows.counted is not None:
            keep = rows.counted.nonzero()[:, 0]
            found, columns = found.of_rows(keep), take(columns, n, keep.tolist())
            indices = None if indices is None else indices[keep.to(indices.device)]
        if self.gathering is None:
            self.gathering = AnswerCollector(form, list(columns), math.ceil(self.most / trainer.world_size))
        self.gathering.add(found, indices, columns)
        if rows.counted is None:
            self.check.compare(outputs, form, found)

    def _indices(self, batch: Any, outputs: Any, n: int, rows: Rows, loaders: Sequence[Any], at: int) -> Tensor | None:
        """Return the indices of a batch's samples: in the order they were asked for, unless the batch says better."""
        recorded = None if rows.indices is None else rows.indices + begins(loaders, at)
        if recorded is not None and rows.is_sure:
            return recorded
        own = indices_of(batch, outputs, n)
        indices = recorded if own is None else own
        if rows.indices is not None and indices is not None:
            try:
                self.evidence.keep(at, indices.cpu(), batch, is_own=own is not None)
            except CannotSplit as error:
                self.note(f"Samples have no names: the batch cannot be split, {error}.")
                return own
        return indices

    def _columns(self, batch: Any, outputs: Any, found: Reading, loader: int | None) -> dict[str, Any]:
        n = len(found.predictions)
        columns = columns_of(batch, outputs, n, self.slices, (found.predictions, found.target))
        if lacking := [name for name in self.slices or () if name not in columns]:
            self.note(f"Slices by {', '.join(lacking)} are not searched: the batch has no such entry for each sample.")
        number = "loader (number)" if "loader" in columns else "loader"
        return columns if loader is None else {**columns, number: [float(loader)] * n}

    def _read(self, step: str, module: LightningModule, outputs: Any, batch: Any, rerun: Any) -> Reading:
        try:
            return self.reader.read(step, module, outputs, batch, rerun)
        except PredictionsNotFound:
            raise
        except Exception as error:
            if self.reader.adapter is None:
                raise
            raise PredictionsNotFound(
                f"{self.reader.owner} needs an adapter that returns predictions and targets, got "
                f"{type(error).__name__}: {error} from it; {step}() returned {shown_structure(outputs)}, "
                f"the batch is {shown_structure(batch)}."
            ) from error

    def told(self) -> list[str]:
        """Return how to read the numbers."""
        self.note(self.reader.note)
        places = next(iter(reversed(self.reader.places.values())), None)
        if not places:
            return list(filter(None, self.notes))
        one, other = places
        apart = f"Predictions are from {one}, targets from {other}."
        return [f"Predictions and targets are from {one}." if one == other else apart, *filter(None, self.notes)]

    def _counts(self, dataloader_idx: int) -> bool:
        return not self.missing and (self.loaders is None or dataloader_idx in self.loaders)

    def _form(self, step: str, found: Reading, batch: Any) -> Form:
        form = self.forms.get(step)
        try:
            if form is None:
                form = of_places(task_of(found, self.task), found, batch)
                if is_decided(form, found):
                    self.forms[step] = form
                if self.gathering is not None and self.gathering.form != form:
                    self.gathering.reread(form)
                return form
            if self.task is None:
                check_same_task(form, found)
            if not is_still(form, found.predictions):
                form = self.forms[step] = replace(form, scores="logits")
                if self.gathering is not None:
                    self.gathering.reread(form)
                self.note("Scores lay between 0 and 1 at first and do not any more: only now they are read as logits.")
        except NoClasses as error:
            self.gathering = None
            task = f"task {self.task!r}" if self.task else "classes"
            raise PredictionsNotFound(
                f"{self.reader.owner} needs predictions of {task} with their targets, got {error} "
                f"(from {found.origin}); name others by predictions= and target=, or give an adapter."
            ) from error
        return form

    def stop(self) -> None:
        """Leave module, torch and loaders as they were; may be called twice."""
        self.reader.release()
        self.order.remove()

    def gathered(self, trainer: Trainer) -> CollectedAnswers | None:
        """Return what all ranks saw; every rank must call this at the same place."""
        mine: Any = None
        if self.missing:
            self.note(f"What rank {trainer.global_rank} saw is left out: its predictions could not be found.")
        elif self.gathering is not None:
            try:
                mine = (self.gathering.payload(), self.check.result())
            except Exception as error:  # no rank may be left waiting
                mine = None
                self.note(f"What rank {trainer.global_rank} saw is lost: {type(error).__name__}: {error}.")
        ranks = gathered_from_ranks(
            trainer, (mine, list(self.notes), (self.batches, self.without, self.lost, self.why_lost))
        )
        for note in (note for _, notes, _ in ranks for note in notes):
            self.note(note)
        batches, without, lost, why = zip(*(counts for *_, counts in ranks), strict=True)
        if sum(without):
            self.note(
                f"{sum(without):,} of {sum(batches):,} batches had no predictions and targets: they are left out."
            )
        if sum(lost):
            told = next(filter(None, why))
            self.note(f"{sum(lost):,} of {sum(batches):,} batches could not be taken up, and are left out: {told}.")
        held = [each for each, *_ in ranks if each is not None]
        found = merged_answers([payload for payload, _ in held])
        if found is not None:
            found.evidence = self.evidence
            apart = [result for _, result in held]
            self.note(LossCheck.told(apart, found.form))
            if self.unfollowed and LossCheck.differs(apart):
                self.missing = UNFOLLOWED
                return None
        return found
