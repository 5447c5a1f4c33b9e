"""How each training sample fares from epoch to epoch, read off the training steps as they run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer
from lightning_debugkit.core.distributed import gathered_from_ranks
from lightning_debugkit.data.batches import CannotSplit, batch_size
from lightning_debugkit.data.evaluation_order import LoaderOrder, Rows
from lightning_debugkit.data.loaders import length_of_loader, loaders_of
from lightning_debugkit.evaluation.error_analysis.collected_answers import (
    AnswerCollector,
    CollectedAnswers,
    merged_answers,
)
from lightning_debugkit.evaluation.error_analysis.index_evidence import IndexEvidence
from lightning_debugkit.evaluation.error_analysis.multiclass import both, in_range
from lightning_debugkit.evaluation.error_analysis.slice_columns import indices_of
from lightning_debugkit.evaluation.error_analysis.task import Task, check_same_task, fits, is_decided, shaped, task_of
from lightning_debugkit.evaluation.predictions.reader import PredictionReader, PredictionsNotFound
from lightning_debugkit.evaluation.predictions.readings import Reading
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses
from lightning_debugkit.stats import training_dynamics
from lightning_debugkit.stats.training_dynamics import REGIONS, Course, Dynamics

STEP = "training_step"
HARDEST = 25
_TOLD = ("confidence", "variability", "forgets", "ever_learnt", "aum")  # of each of them
_POINTS = 2_000


class TrainingAnswers:
    """Watch training batches; what was seen survives a checkpoint."""

    def __init__(self, reader: PredictionReader) -> None:
        self.reader = reader
        self.order = LoaderOrder(training=True)
        self.why_not = ""
        self.start: Dynamics | None = None  # what all ranks know since the last epoch
        self.mine: Dynamics | None = None
        self._form: Task | None = None
        self.evidence = IndexEvidence()

    def begin(self, module: LightningModule) -> None:
        """Get ready for a batch."""
        if not self.why_not:
            self.reader.begin(STEP, module, watch=True)

    def end(self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any) -> None:
        """Take up a batch that has run."""
        loaders = loaders_of(trainer.train_dataloader)
        # First of all: what fails below must not leave this batch's indices to the next.
        rows = self.order.rows(loaders[0]) if len(loaders) == 1 else None
        if self.why_not:
            return
        try:
            self._look(trainer, self.reader.read(STEP, module, outputs, batch), outputs, batch, rows)
        except (PredictionsNotFound, NoClasses) as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        self.why_not = f"Training dynamics are not known: {why.splitlines()[0].rstrip('.')}."
        self.start = self.mine = None
        self.reader.release()

    def _look(self, trainer: Trainer, found: Reading, outputs: Any, batch: Any, rows: Rows | None) -> None:
        loaders = loaders_of(trainer.train_dataloader)
        asked = None if rows is None or rows.indices is None else len(rows.indices)
        n = batch_size(batch, asked) or len(found.target)
        found = shaped(found, n)
        rows = None if rows is None else rows.of(n)
        index = None if rows is None else self._indices(rows, outputs, batch, n, length_of_loader(loaders[0].dataset))
        if rows is None or index is None:
            raise NoClasses("training data without indices (one DataLoader of a data set with a length has them)")
        form = self._form or task_of(found)
        if self._form is None and is_decided(form, found):
            self._form = form
        check_same_task(form, found)
        if not fits(form, found):
            raise NoClasses("answers of more than one kind")
        if form.task not in ("multiclass", "binary") or form.scores == "classes" or len(found.target) != n:
            raise NoClasses("what is not one scored class a sample")
        if form.soft and not bool(((found.target == 0) | (found.target == 1)).all()):
            raise NoClasses("targets that are mixtures of classes")
        if self.mine is None:
            self.start = self.start or Dynamics(len(loaders[0].dataset))
            self.mine = Dynamics.of(self.start.state())
        scores = both(form, found.predictions) if form.channel is None else found.predictions.detach().float()
        label = found.target.argmax(1) if form.soft else found.target.long()
        # A repetition is of no sample: it is not counted.
        index = index if rows.counted is None else index.where(rows.counted, -1)
        self.mine.update(index, *_margins(scores, label.to(scores.device), form, found.ignore_index))

    def _indices(self, rows: Rows, outputs: Any, batch: Any, n: int, length: int) -> Tensor | None:
        """Return the indices of a batch's samples: in the order they were asked for, unless the batch says better."""
        own = None if rows.is_sure or rows.indices is None else indices_of(batch, outputs, n)
        if own is None:
            if rows.indices is not None and not rows.is_sure:
                try:
                    self.evidence.keep(0, rows.indices, batch)
                except CannotSplit as error:
                    raise NoClasses(f"a batch that cannot be split: {error}") from error
            return rows.indices
        if bool(((own < 0) | (own >= length)).any()):
            raise NoClasses("an index in the batch that is no place in the training data")
        return own.cpu()

    def settle(self, trainer: Trainer) -> None:
        """Bring together what ranks saw in an epoch; every rank must call this at the same place."""
        parts = gathered_from_ranks(trainer, None if self.mine is None else self.mine.state())
        known = [Dynamics.of(part) for part in parts if part is not None]
        if known:
            start = self.start or Dynamics(known[0].n)
            self.start = training_dynamics.gathered_dynamics(start, known)
            self.mine = None

    def stop(self) -> None:
        """Leave module, torch and loader as they were; may be called twice."""
        self.reader.release()
        self.order.remove()

    def state_dict(self) -> dict[str, Tensor]:
        held = self.mine or self.start
        return {} if held is None else held.state()

    def load_state_dict(self, held: Any) -> None:
        self.start = Dynamics.of(held) if held else None
        self.mine = None

    def told(self, trainer: Trainer, is_last: bool) -> tuple[dict[str, Any] | None, list[str]]:
        """Return how samples fared as ``errors.json`` holds it, ``None`` if none was seen twice, and why it may not."""
        if self.evidence.is_pending:
            if not is_last:
                return None, []
            if unnamed := self.evidence.judge(loaders_of(trainer.train_dataloader)).unnamed:
                self._give_up(unnamed)
            self.evidence = IndexEvidence()
        held = self.mine or self.start
        return None if held is None else as_rows(held.course()), [self.why_not] if self.why_not else []

    def alone(self) -> CollectedAnswers | None:
        """Return an analysis with nothing counted, for what is known of training samples where nothing is validated."""
        held = self.mine or self.start
        if self._form is None or held is None or as_rows(held.course()) is None:
            return None
        return merged_answers([AnswerCollector(self._form, [], 1).payload()])


def _margins(scores: Tensor, label: Tensor, form: Task, ignore: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probability of the label, whether it is the likeliest, and its logit less the largest other."""
    valid, _ = in_range(label, scores.shape[1], ignore)
    at = torch.where(valid, label, 0)[:, None]
    logits = scores if form.scores == "logits" else scores.clamp(min=torch.finfo(torch.float32).tiny).log()
    own = logits.gather(1, at)[:, 0]
    others = logits.scatter(1, at, -torch.inf).amax(1)
    p = (own - logits.logsumexp(1)).exp()
    # What is not finite is not counted.
    return torch.where(valid, p, torch.nan), scores.argmax(1) == label, own - others


def as_rows(course: Course, seed: int = 0) -> dict[str, Any] | None:
    """Return the map of the training samples as ``errors.json`` holds it, ``None`` if none was seen twice."""
    region = course.region()
    known = np.flatnonzero(region >= 0)
    if not len(known):
        return None
    order = known[np.argsort(course.aum[known], kind="stable")]
    drawn = np.random.default_rng(seed).permutation(known)[:_POINTS]
    correct = course.correct / np.maximum(course.seen, 1)
    return {
        "regions": {name: int((region == number).sum()) for number, name in REGIONS.items()},
        "hardest": [
            {"index": row, **{name: getattr(course, name)[row].item() for name in _TOLD}}
            for row in order[:HARDEST].tolist()
        ],
        "points": [
            [float(course.variability[row]), float(course.confidence[row]), float(correct[row])]
            for row in np.sort(drawn).tolist()
        ],
        "never_learnt": int((~course.ever_learnt[known]).sum()),
        "forgotten": int((course.forgets[known] > 0).sum()),
    }
