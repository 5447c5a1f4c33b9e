"""Find predictions and targets of a batch, the surest way first, and go the same way for every later batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import LightningModule

from lightning_debugkit.callbacks.predictions import comparisons, sources
from lightning_debugkit.callbacks.predictions.instruments import ForwardWatch, LossWatch, watching
from lightning_debugkit.callbacks.predictions.sources import Adapter, Reading, fit_together
from lightning_debugkit.callbacks.sharding import gathered, is_whole

_log = logging.getLogger("lightning_debugkit")
Way = Literal["returned", "forward", "loss"]
Rerun = Callable[[], Any]


class PredictionsNotFound(ValueError):
    """No predictions or targets could be found; the message says what was seen and how to mend it."""


class Reader:
    """Predictions and targets of a step's batches.

    Ways, in order: the adapter; what the step returns and what the batch holds, by names given or known; what
    ``forward`` of the module returned; what a loss function of torch was called with. The first batch of a step
    decides, by running it once more under both instruments if it must; later ones pay for the one they need only.

    Args:
        owner: Class that asks, for its error.
        adapter: Function of outputs and batch, or its dotted path.
        predictions: Name of the predictions in what the step returns.
        target: Name of the targets there or in the batch.
    """

    def __init__(
        self,
        owner: str,
        adapter: Adapter | str | None = None,
        predictions: str | None = None,
        target: str | None = None,
    ) -> None:
        self.owner = owner
        self.adapter = sources.resolve(adapter) if isinstance(adapter, str) else adapter
        self.predictions = predictions
        self.target = target
        self.ways: dict[str, Way] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self._seen: dict[str, tuple[int | None, str]] = {}
        self._call: dict[str, tuple[int, int]] = {}
        self._last: dict[str, bool] = {}
        self._forward: ForwardWatch | None = None
        self._losses: LossWatch | None = None

    def begin(self, step: str, module: LightningModule, watch: bool = False) -> None:
        """Get ready for a batch of ``step``; every call is followed by `read` or `release`.

        With ``watch``, or where no batch can run again, a first batch is watched as it runs.
        """
        self.release()
        watch = watch or not is_whole(module._trainer)
        if getattr(module, "_compiler_ctx", None) is not None:
            return  # nothing can be heard within compiled code: each batch is read by running it once more
        way = self.ways.get(step)
        both = watch and way is None and self.adapter is None
        if way == "forward" or both:
            self._forward = ForwardWatch(module)
        if way == "loss" or both:
            self._losses = LossWatch()
            self._losses.__enter__()

    def release(self) -> None:
        """Leave module and torch without instruments; may be called at any time."""
        if self._forward is not None:
            self._forward.remove()
        if self._losses is not None:
            self._losses.__exit__(None, None, None)
        self._forward = self._losses = None

    def read(self, step: str, module: LightningModule, outputs: Any, batch: Any, rerun: Rerun | None = None) -> Reading:
        """Return predictions and targets of the batch that has just run.

        Args:
            step: Name of the step, such as ``validation_step``.
            module: Module whose step it is.
            outputs: What the step returned.
            batch: What it was given.
            rerun: Runs the step once more, without a trace, and returns its outputs.

        Raises:
            PredictionsNotFound: They are nowhere to be found.
        """
        forward, losses = self._forward, self._losses
        self.release()
        found = self._returned(step, outputs, batch)
        way: Way = "returned"
        if found is None and self.adapter is None:
            if forward is None and losses is None and rerun is not None:
                with watching(module) as (forward, losses):
                    outputs = rerun()
            found, way = self._watched(step, outputs, batch, forward, losses)
        if found is None:
            raise PredictionsNotFound(self._unseen(step, outputs, batch, forward, losses))
        if self.ways.get(step) != way or self.places.get(step) != found.places:
            self.ways[step], self.places[step] = way, found.places
            _log.info(f"{self.owner}: predictions from {found.places[0]}, targets from {found.places[1]}")
        # Ranks that share a batch are all here: a tensor that is dealt out to them is brought together.
        return replace(found, predictions=gathered(found.predictions), target=gathered(found.target))

    def _returned(self, step: str, outputs: Any, batch: Any) -> Reading | None:
        if self.adapter is not None:
            return sources.adapted(self.adapter, outputs, batch)
        predictions = sources.predictions_in(outputs, step, self.predictions)
        target = sources.target_in(outputs, batch, step, self.target)
        self._check_names(step, outputs, batch, predictions is not None, target is not None)
        if predictions is None or target is None:
            return None
        if not (self.predictions or self.target) and not fit_together(predictions[1], target[1]):
            return None
        return Reading(predictions[1], target[1], (predictions[0], target[0]))

    def _watched(
        self, step: str, outputs: Any, batch: Any, forward: ForwardWatch | None, losses: LossWatch | None
    ) -> tuple[Reading | None, Way]:
        scores = forward.only(outputs) if forward is not None and not self.predictions else None
        target = sources.target_in(outputs, batch, step, self.target)
        compared = comparisons.of(losses)
        if scores is not None and target is not None and fit_together(scores, target[1]):
            # Where a loss was seen, it must be of these: a forward may return an embedding, a batch may hold labels
            # that nobody uses.
            same = [call for call in compared if comparisons.is_same(call, scores, target[1])]
            if same or not compared or sources.is_detections(scores):
                seen = (same[0].ignore_index, same[0].function) if same else self._seen.get(step, (None, ""))
                self._seen[step] = seen
                self._last[step] = (
                    comparisons.has_classes_last(same[0], scores) if same else self._last.get(step, False)
                )
                scores = scores.movedim(-1, 1) if self._last[step] else scores
                return Reading(scores, target[1], ("forward()", target[0]), *seen), "forward"
        at, of = self._call.get(step, (None, 0))
        if at is None or of != len(compared):
            at = comparisons.settled(compared, None if target is None else target[1])
        if at is None:
            return None, "loss"
        self._call[step] = at, len(compared)
        return compared[at], "loss"

    def _check_names(self, step: str, outputs: Any, batch: Any, has_predictions: bool, has_target: bool) -> None:
        """Refuse a name that leads nowhere; what a training step returns is its loss, as a rule."""
        if step == "training_step":
            return
        returned = f"{step}() returned {sources.shown(outputs)}"
        if self.predictions and not has_predictions:
            raise PredictionsNotFound(
                f"{self.owner} needs predictions= to name an entry of what {step}() returns, got {self.predictions!r}; "
                f"{returned}."
            )
        if (self.predictions or self.target) and not has_target:
            raise PredictionsNotFound(
                f"{self.owner} needs target= to name an entry of what {step}() returns or of the batch, "
                f"got {self.target!r}; {returned}, the batch is {sources.shown(batch)}."
            )

    def _unseen(
        self, step: str, outputs: Any, batch: Any, forward: ForwardWatch | None, losses: LossWatch | None
    ) -> str:
        calls = comparisons.shown(losses)
        seen = [shown for shown in map(sources.shown, forward.outputs if forward else []) if shown != "nothing"]
        return (
            f"{self.owner} needs the model's predictions and their targets, and found none for this batch.\n"
            f"  {step}() returned: {sources.shown(outputs)}\n"
            f"  the batch is: {sources.shown(batch)}\n"
            f"  forward() returned: {'; '.join(seen[:3]) or 'not called'}\n"
            + (f"  loss functions were given: {calls}\n" if calls else "")
            + "Mend it in one of three ways:\n"
            f'  1. return them from {step}: return {{"loss": loss, "logits": logits, "target": y}}\n'
            f'  2. or name their keys: {self.owner}(predictions="my_scores", target="my_label")\n'
            f'  3. or give a function: {self.owner}(adapter=lambda outputs, batch: (outputs[0], batch["y"]))'
        )
