"""Find predictions and targets of a batch, the surest way first, and go the same way for every later batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from lightning_debugkit.core.arguments import Needs, function_at
from lightning_debugkit.core.compat import LightningModule, is_compiled_as_a_whole, trainer_of
from lightning_debugkit.core.patching import has_compiled_code
from lightning_debugkit.core.sharding import gathered_shards, holds_whole_model
from lightning_debugkit.core.step_hooks import ForwardWatch, LossWatch, is_detections, watching
from lightning_debugkit.evaluation.predictions import loss_inputs, named_entries, not_found_messages, readings
from lightning_debugkit.evaluation.predictions.loss_inputs import LossInputs
from lightning_debugkit.evaluation.predictions.named_entries import Place
from lightning_debugkit.evaluation.predictions.readings import Adapter, Reading, fit_together

_log = logging.getLogger("lightning_debugkit")
Way = Literal["returned", "forward", "loss"]
Rerun = Callable[[], Any]


class PredictionsNotFound(ValueError):
    """No predictions or targets could be found; the message says what was seen and how to mend it."""


def check_sources(owner: str, predictions: Any, target: Any, adapter: Any, on_missing: Any) -> None:
    """Raise unless entries are named, ``adapter`` is a function or the dotted path of one, and the choice is known."""
    needs = Needs(owner)
    for name, value in (("predictions", predictions), ("target", target)):
        fits = value is None or isinstance(value, str)
        needs.that(name, fits, "as the name of an entry", value, "leave it out to search")
    needs.function("adapter", adapter, "it gets outputs and batch, and returns predictions and targets")
    needs.one_of("on_missing", on_missing, ("raise", "warn"), "'raise' says it at once")


class PredictionReader:
    """Predictions and targets of a step's batches.

    Ways, in order: the adapter; what the step returns and what the batch holds, by names given or known; what
    ``forward`` of the module returned; what a loss function of torch was called with. The first batch of a step
    decides, by running it once more under both instruments if it must; later ones pay for the one they need only.

    Args:
        owner: Class that asks, for its error.
        adapter: Function of outputs and batch, or its dotted path.
        predictions: Name of the predictions in what the step or ``forward`` returns.
        target: Name of the targets in what the step returns or in the batch.
    """

    def __init__(
        self,
        owner: str,
        adapter: Adapter | str | None = None,
        predictions: str | None = None,
        target: str | None = None,
    ) -> None:
        self.owner = owner
        self.adapter = function_at(adapter) if isinstance(adapter, str) else adapter
        self.predictions = predictions
        self.target = target
        self.ways: dict[str, Way] = {}
        self.places: dict[str, tuple[str, str]] = {}
        self._heard: dict[str, LossInputs] = {}
        self._call: dict[str, tuple[int, int]] = {}
        self._forward: ForwardWatch | None = None
        self._losses: LossWatch | None = None
        self._compiled: bool | None = None
        self.guessed: set[str] = set()  # steps whose targets no loss function was heard to take
        self.masked: set[str] = set()  # steps that leave answers out of their loss by a mask of each batch

    def begin(self, step: str, module: LightningModule, watch: bool = False) -> None:
        """Get ready for a batch of ``step``; every call is followed by `read` or `release`.

        With ``watch``, or where no batch can run again, a first batch is watched as it runs.
        """
        self.release()
        watch = watch or not holds_whole_model(trainer_of(module))
        if is_compiled_as_a_whole(module):
            return  # nothing can be heard within compiled code: each batch is read by running it once more
        way = self.ways.get(step)
        both = watch and way is None and self.adapter is None
        is_quiet = self._is_compiled(module) and holds_whole_model(trainer_of(module))
        if is_quiet and both and step != "training_step":
            return  # the first batch decides by running once more, where compiled code runs as it was written
        if way == "forward" or both:
            self._forward = ForwardWatch(module, is_compiled=is_quiet)
        if (way == "loss" or both or step in self.masked) and not is_quiet:
            self._losses = LossWatch()
            self._losses.put_around(module, step)

    def _is_compiled(self, module: LightningModule) -> bool:
        if self._compiled is None:
            self._compiled = has_compiled_code(module)
        return self._compiled

    @property
    def note(self) -> str:
        """What is to be said of how batches are read, empty if nothing."""
        if self._compiled and "loss" in self.ways.values():
            return "A part of the model is compiled: each batch is run once more to read what its loss was given."
        return ""

    def release(self) -> None:
        """Leave module and torch without instruments; may be called at any time."""
        if self._forward is not None:
            self._forward.remove()
        if self._losses is not None:
            self._losses.remove()
        self._forward = self._losses = None

    def read(self, step: str, module: LightningModule, outputs: Any, batch: Any, rerun: Rerun | None = None) -> Reading:
        """Return predictions and targets of the batch that has just run.

        Args:
            step: Name of the step, such as ``validation_step``.
            module: Module whose step it is.
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
                    outputs = self._again(step, rerun)
            found, way = self._watched(step, outputs, batch, forward, losses)
        elif found is not None and self.adapter is None:
            if losses is None and step in self.masked and rerun is not None:
                with watching(module) as (_, losses):
                    rerun()
            found = self._as_classes(step, found, batch, losses)
        if found is None:
            seen = forward.others(outputs) if forward else []
            raise PredictionsNotFound(
                not_found_messages.not_found_message(self.owner, (f"{step}()", outputs), batch, seen, losses)
            )
        if self.ways.get(step) != way or self.places.get(step) != found.places:
            self.ways[step], self.places[step] = way, found.places
            _log.info(f"{self.owner}: predictions from {found.places[0]}, targets from {found.places[1]}")
        # Ranks that share a batch are all here: a tensor that is dealt out to them is brought together.
        found = replace(found, predictions=gathered_shards(found.predictions), target=gathered_shards(found.target))
        found = loss_inputs.without_masked(found)
        if losses is not None and (losses.masks.single or losses.masks.counted):
            self.masked.add(step)
        return found

    def _again(self, step: str, rerun: Rerun) -> Any:
        """Return the outputs of the step, run again.

        Raises:
            PredictionsNotFound: It cannot be: some programs use their batch up.
        """
        try:
            return rerun()
        except Exception as error:
            told = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PredictionsNotFound(
                f"{self.owner} runs {step} again on its batch to hear its loss function, and that failed: {told}. "
                "Return predictions and targets from the step, or name them with predictions= and target=."
            ) from error

    def _returned(self, step: str, outputs: Any, batch: Any) -> Reading | None:
        if self.adapter is not None:
            return readings.adapted(self.adapter, outputs, batch)
        predictions, target = self._found(step, outputs, batch, [])
        if predictions is None or target is None:
            return None
        if not (self.predictions or self.target) and not fit_together(predictions[1], target[1]):
            return None
        return Reading(predictions[1], target[1], (predictions[0], target[0]))

    def _found(self, step: str, outputs: Any, batch: Any, forward: Sequence[Any]) -> tuple[Place | None, Place | None]:
        """Return predictions and targets, and their places in words: by the names given, else by those known."""
        returned = (f"{step}()", outputs)
        if self.predictions:
            heard = [("forward()", output) for output in forward]
            having = [place for place in heard if self._named("predictions", self.predictions, [place])]
            known = having if len(having) == 1 else []  # of two calls nobody knows which is meant
            predictions = self._named("predictions", self.predictions, [returned, *known])
        else:
            predictions = readings.predictions_in(outputs, step)
        if self.target:
            taken = predictions[1] if predictions else None
            return predictions, self._named("target", self.target, [returned, ("batch", batch)], taken)
        return predictions, readings.target_in(outputs, batch, step)

    def _named(self, argument: str, name: str, places: Sequence[Place], taken: Any = None) -> Place | None:
        try:
            return named_entries.named_in(places, name, taken)
        except named_entries.Ambiguous as error:
            raise PredictionsNotFound(f"{self.owner} needs {argument}= to name one entry, got {error}.") from error

    def _as_classes(self, step: str, found: Reading, batch: Any, losses: LossWatch | None) -> Reading:
        """Return what a step returned as its loss had it: classes, though written as floats, and those to ignore."""
        if losses is not None:
            compared = loss_inputs.of(losses, batch)
            self._heard[step] = loss_inputs.inputs_beside(compared, found.predictions, found.target)
            return self._heard[step].applied(found)
        return self._without_mask(step).applied(found)

    def _without_mask(self, step: str) -> LossInputs:
        """Return what was heard of an earlier batch: its mask was that batch's own."""
        return replace(self._heard.get(step, LossInputs()), counted=None, is_followed=step not in self.masked)

    def _watched(
        self, step: str, outputs: Any, batch: Any, forward: ForwardWatch | None, losses: LossWatch | None
    ) -> tuple[Reading | None, Way]:
        outs = forward.others(outputs) if forward is not None else []
        predictions, target = self._found(step, outputs, batch, outs)
        if step != "training_step":  # what that returns is its loss, as a rule: names need not be there
            self._check_names((f"{step}()", outputs), batch, outs, predictions is not None, target is not None)
        compared = loss_inputs.of(losses, batch)
        if not self.predictions:
            scores = forward.only(outputs) if forward is not None else None
            predictions = None if scores is None else ("forward()", scores)
        if predictions and target and (self.predictions or fit_together(predictions[1], target[1])):
            # Where a loss was seen, it must be of these: a forward may return an embedding, a batch may hold labels
            # that nobody uses. What is named is meant.
            heard = loss_inputs.loss_inputs(compared, predictions[1], target[1])
            if heard or not compared or self.predictions or is_detections(predictions[1]):
                if losses is not None and not (heard or self.predictions or self.target):
                    self.guessed.add(step)
                self._heard[step] = heard or self._without_mask(step)
                found = Reading(predictions[1], target[1], (predictions[0], target[0]))
                return self._heard[step].applied(found), "forward"
        compared = [call for call in compared if not loss_inputs.is_of_residuals(call, batch)]
        at, of = self._call.get(step, (None, 0))
        if at is None or of != len(compared):
            at = loss_inputs.chosen_inputs(compared, None if target is None else target[1])
        if at is None:
            return None, "loss"
        self._call[step] = at, len(compared)
        return compared[at], "loss"

    def _check_names(
        self, returned: Place, batch: Any, forward: Sequence[Any], has_predictions: bool, has_target: bool
    ) -> None:
        """Refuse a name that leads nowhere."""
        if self.predictions and not has_predictions:
            raise PredictionsNotFound(
                not_found_messages.misnamed_message(self.owner, self.predictions, returned, forward)
            )
        if (self.predictions or self.target) and not has_target:
            raise PredictionsNotFound(
                not_found_messages.misnamed_target_message(self.owner, self.target, returned, batch)
            )
