"""Whether the numbers that validation predicts are any better than one answer for all samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.core.loss_functions import DIFFERENCE_LOSSES, in_order
from lightning_debugkit.core.trivial_answer import TRIVIAL
from lightning_debugkit.data.batches import tensors
from lightning_debugkit.stats.constant_answers import LEAST_LOSS

_SAYS = (
    "the model is no better than always answering the same number: its {loss} over {n} samples in validation is "
    "{own:.3g}, that of the best constant {least:.3g}, and predictions and targets are not correlated ({r:+.2f}, "
    "within {error:.2f} of 0)"
)
_FAR_SAYS = (
    "the predictions have not come near the targets: in validation they are {said:.3g} on average, the targets "
    "{wanted:.3g} with a spread of {spread:.3g}, and the {loss} over {n} samples is {own:.3g}, where the best constant "
    "has {least:.3g}"
)
_STANDARDISE = (
    "Standardise the targets (subtract their mean, divide by their standard deviation), or let the bias of the last "
    "layer start at their mean: steps of the size of the learning rate do not get there in time."
)

OF_BATCH = 512  # answers, at most, spread over the batch
_COLUMNS = 64  # of a sample, at most
_FEWEST = 100  # samples, without which a correlation says little
_GAIN = 0.005  # of the loss of the best constant, by which that of a model that has learned is less
_ABOVE, _BELOW = 2.0, 4.0  # standard errors around 0 that are chance; what is clearly negative is another fault
# Times the loss of the best constant, with a mean that lies so many spreads of the targets off: however few the steps
# were, what is predicted is of no use, and what it lacks is known.
_FAR, _OFF = 10.0, 3.0
_SKILL = 0.1  # of the variance: where as much may be explained, nothing is said (a choice)
_OFTEN = 0.5  # the best answer to targets of which more are one number is that number, whatever is known


@dataclass(frozen=True)
class Numbers:
    """Some of what a batch predicts.

    Shapes:
        prediction, target: (samples, columns), a column for each place of a sample.
    """

    function: str
    prediction: Tensor
    target: Tensor


@dataclass(frozen=True)
class AgainstConstant:
    """Predictions against the best constant of each column."""

    loss: str  # name of the loss function
    n: int  # samples
    own: float  # loss of the predictions
    least: float  # loss of the constants
    r: float  # mean correlation of the columns
    said: float  # mean of the predictions
    wanted: float  # mean of the targets
    spread: float  # mean standard deviation of the columns of the targets

    @property
    def is_far(self) -> bool:
        """Tell whether predictions are still on the way to where the targets lie."""
        is_off = abs(self.said - self.wanted) >= _OFF * self.spread
        return is_off and abs(self.said) < abs(self.wanted) and self.own >= _FAR * self.least

    @property
    def error(self) -> float:
        """Standard error of a correlation of 0; places of one sample may all say the same."""
        return 1 / math.sqrt(self.n)

    @property
    def is_trivial(self) -> bool:
        return (
            is_chance(self.r, self.error)
            and self.r + _ABOVE * self.error < math.sqrt(_SKILL)
            and self.own >= self.least - _GAIN * abs(self.least)
        )


def sampled_numbers(function: str, prediction: Tensor, target: Tensor, batch: Any) -> Numbers | None:
    """Return some of what a loss function compares, `None` where the targets are no numbers of the batch.

    What the step makes itself, such as noise or the answer of a teacher, may be unknowable on purpose.
    """
    if not target.ndim or prediction.shape != target.shape:
        return None
    prediction, target = in_order(function, prediction, target, lambda part: _is_of(batch, part))
    if not _is_of(batch, target):
        return None
    rows, columns = (part.reshape(len(target), -1) for part in (prediction, target))
    at = evenly_spread(len(rows), OF_BATCH)
    across = evenly_spread(rows.shape[1], _COLUMNS)
    return Numbers(function, rows[at][:, across].double().cpu(), columns[at][:, across].double().cpu())


def compared(parts: Sequence[Numbers]) -> AgainstConstant | None:
    """Return the comparison, `None` where it would say little."""
    function = parts[0].function
    if any(part.function != function or part.target.shape[1:] != parts[0].target.shape[1:] for part in parts):
        return None
    prediction, target = torch.cat([part.prediction for part in parts]), torch.cat([part.target for part in parts])
    varied = target.std(0) > 0
    prediction, target = prediction[:, varied], target[:, varied]
    if len(target) < _FEWEST or not target.numel() or not bool((prediction + target).isfinite().all()):
        return None
    if float((target == target.mode(0).values).double().mean()) > _OFTEN:
        return None
    r = float((_standard(prediction) * _standard(target)).mean())
    own = _loss(function, prediction, target)
    means = float(prediction.mean()), float(target.mean()), float(target.std(0).mean())
    measure = "mse_loss" if function == "gaussian_nll_loss" else function
    return AgainstConstant(measure, len(target), own, LEAST_LOSS[measure](target), r, *means)


def numbers_finding(where: Where, found: AgainstConstant | None) -> Finding | None:
    """Return the finding if the predictions are no better."""
    if found is not None and found.is_far and found.loss in DIFFERENCE_LOSSES:
        told: dict[str, Any] = {**vars(found), "is_far": True}
        return replace(TRIVIAL, says=_FAR_SAYS, advice=_STANDARDISE).found(where, **told)
    if found is None or not found.is_trivial:
        return None
    return replace(TRIVIAL, says=_SAYS).found(
        where, loss=found.loss, n=found.n, own=found.own, least=found.least, r=found.r, error=_ABOVE * found.error
    )


def _loss(function: str, prediction: Tensor, target: Tensor) -> float:
    if function == "gaussian_nll_loss":  # its means; what it says of the spread is not judged
        return float(F.mse_loss(prediction, target))
    if function == "poisson_nll_loss":  # of rates or of their logarithms: the one that speaks for the model
        either = (F.poisson_nll_loss(prediction, target, log_input=is_log) for is_log in (True, False))
        return min(float(loss) for loss in either if loss.isfinite())
    return float(getattr(F, function)(prediction, target))


def _standard(columns: Tensor) -> Tensor:
    """Return columns of mean 0 and spread 1; one that is constant is 0."""
    centred = columns - columns.mean(0)
    spread = columns.std(0, correction=0)
    return torch.where(spread > 1e-12 * columns.abs().mean(0), centred / spread, torch.zeros_like(centred))


def _is_of(batch: Any, target: Tensor) -> bool:
    """Tell whether the targets are a tensor of the batch, perhaps in other units."""
    if not target.is_floating_point():
        return False
    wanted = target.reshape(-1)
    for part in tensors(batch):
        if part.numel() == target.numel() and not part.is_complex():
            own = part.detach().reshape(-1).to(wanted)
            if torch.equal(own, wanted):  # as of a target that is taken as it comes: nothing is copied for it
                return True
            one, other = (_standard(each[:, None].double()) for each in (own, wanted))
            if torch.allclose(one, other, atol=1e-3):
                return bool((wanted != wanted[0]).any())
    return False


def is_chance(value: float, error: float) -> bool:
    """Tell whether a number that is 0 by chance, with this standard error, is so; what is far below is meant."""
    return -_BELOW * error <= value <= _ABOVE * error


def evenly_spread(size: int, most: int, device: torch.device | None = None) -> Tensor:
    """Return at most ``most`` positions at equal distances, (n,)."""
    return torch.arange(0, size, max(1, -(-size // most)), device=device)
