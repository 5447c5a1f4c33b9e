"""Training steps that give no loss: batch after batch, or most of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from lightning_debugkit.core.compat import LightningModule
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.monitors.parameters.broken_at_start import broken_parameters
from lightning_debugkit.replay.diagnosis import Diagnosis
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances
from lightning_debugkit.replay.nonfinite_rules import finding as worded
from lightning_debugkit.stats.tensor_norms import version

NO_LOSS = Rule(
    "no-loss",
    Severity.ERROR,
    "training_step gave no loss in {told}: these batches train nothing{why}",
    "{remedy}",
    section="loss",
    can_follow=("nonfinite-parameter", "optimizer-nonfinite"),
)

# Choices, not laws. Programs skip batches on purpose (no object in the picture, no positive pair): even with half of
# the batches skipped at random, twenty in a row come once in a million.
_CONSECUTIVE = 20
_LONG = 100  # in a row: nobody's data is sorted like that by intent
_MOST = 0.5  # of an epoch's batches
_FEW = 10  # batches that are judged together at least
_ASKED = 3  # batches without a loss, after which one is run again to learn why


class Losses:
    """Count the batches that gave a loss and those that gave none."""

    def __init__(self) -> None:
        self.given = 0
        self.without = 0
        self.consecutive = 0
        self._since = Where(0, 0)
        self._batch = 0
        self._epoch = [0, 0]  # batches since the last judgement: all, without a loss
        self._marks = (0, 0)  # backward passes and looks, as of the last batch
        self._versions: list[tuple[int, int]] = []
        self._unheard = False
        self._found: Diagnosis | None = None
        self._asked = False

    def after_batch(
        self,
        where: Where,
        batch_idx: int,
        module: LightningModule,
        marks: tuple[int, int],
        ask: Callable[[], Diagnosis | None],
    ) -> Iterator[Finding]:
        """Count a batch, and yield the finding once a row of them is too long to be meant.

        Args:
            batch_idx: Position of the batch in its epoch.
            marks: Backward passes and looks of the whole fit.
            ask: Runs the batch again and says what is not finite in it.
        """
        gave = marks != self._marks
        self._marks = marks
        if not gave:
            gave = self._moves(module)
        if self._unheard:
            return
        self._epoch[0] += 1
        if gave:
            self.given += 1
            self.consecutive = 0
            self._versions = []  # those of the next row are compared with each other alone
            return
        if self.consecutive == 0:
            self._since, self._batch = where, batch_idx
        self.consecutive += 1
        self.without += 1
        self._epoch[1] += 1
        if self.without == _ASKED and not self._asked:
            self._asked = True
            self._found = ask()
        if (self.consecutive == _CONSECUTIVE and not self.given) or self.consecutive == _LONG:
            yield self._row(where, module)

    def end_epoch(self, where: Where, module: LightningModule, last: bool = False) -> Iterator[Finding]:
        """Yield the finding for an epoch whose last batches, or most of them, gave no loss."""
        total, without = self._epoch
        if self.consecutive >= _CONSECUTIVE or (last and not self.given and self.without):
            yield self._row(where, module)
        elif total >= _FEW and without > _MOST * total:
            told = f"{without} of {total} batches of epoch {where.epoch}"
            yield self._finding(where, module, told, severity=Severity.WARNING, batches=total, without=without)
        if total >= _FEW:
            self._epoch = [0, 0]

    def _row(self, where: Where, module: LightningModule) -> Finding:
        if not self.given:
            told = f"any of the {self.without} batches so far"
        else:
            told = f"the last {self.consecutive} batches, since batch {self._batch} of epoch {self._since.epoch}"
        return self._finding(where, module, told, batches=self.given + self.without, without=self.without)

    def _finding(
        self, where: Where, module: LightningModule, told: str, severity: Severity | None = None, **numbers: int
    ) -> Finding:
        why, evidence = "", {}
        remedy = "Look at the lines of training_step that return None, and at how often they run."
        broken = _broken(module)
        if broken:
            why = f"; {broken} holds numbers that are not finite, so that every loss of it is not either"
            remedy = "Load a checkpoint of before it broke. Let the fit end where a loss is not finite, not skip: what "
            remedy += "breaks weights can then be named."
        elif self._found is not None:
            word = worded(where, self._found, Circumstances(-1), seen="")
            why = f"; in a batch run again, {word.message.partition(': ')[2]}"
            remedy, evidence = word.advice, dict(word.evidence)
            evidence.pop("batch_idx", None)
        found = NO_LOSS.found(where, severity=severity, told=told, why=why, remedy=remedy, **numbers)
        return replace(found, evidence={**numbers, "since_step": self._since.step, "broken": broken, **evidence})

    def _moves(self, module: LightningModule) -> bool:
        """Tell whether the user's own backward and step, which no hook hears, have written since the last batch.

        From then on nothing is judged: the batches so far have trained, too, and those to come are not heard either.
        """
        if self._unheard or self.consecutive < _CONSECUTIVE - 2:
            return self._unheard
        trained = [p for p in module.parameters() if p.requires_grad]
        before, self._versions = self._versions, [(_version(p), version(p)) for p in trained]
        self._unheard = bool(before) and before != self._versions
        if self._unheard:
            self.without = self.consecutive = 0
            self._epoch = [0, 0]
        return self._unheard


def _version(parameter: Tensor) -> int:
    return -1 if parameter.grad is None else hash((id(parameter.grad), version(parameter.grad)))


def _broken(module: LightningModule) -> str:
    """Return a parameter that is not finite, empty if there is none; read only where batches give no loss."""
    names = broken_parameters(module)
    return names[0] if names else ""
