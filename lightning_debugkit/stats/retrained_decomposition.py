"""Bias, variance and noise in the statistical sense, from the predictions of a model retrained on other samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import mode

from lightning_debugkit.stats.arrays import Numbers, floats, integers


@dataclass(frozen=True)
class Parts:
    """The mean loss of retrained models, split.

    Args:
        loss: Mean over models and samples.
        bias: What the middle one of all predictions misses (squared, for the squared loss).
        variance: What the predictions of single models lose by straying from the middle one.
        noise: What the best possible prediction loses; None where it is not known, and then it is part of ``bias``.
    """

    loss: float
    bias: float
    variance: float
    noise: float | None = None

    @property
    def rest(self) -> float:
        """What the parts do not explain: zero without ``noise``, else an average of zero over other labels."""
        return self.loss - self.bias - self.variance - (self.noise or 0.0)


def squared_loss(predictions: Numbers, targets: Numbers, truth: Numbers | None = None) -> Parts:
    """Split the mean squared error; outputs of several numbers add up.

    Bias and variance are unbiased estimates: ``models - 1`` divides the variance, and what it adds to the square of the
    mean's miss is taken off. Few models can thus make a small bias negative.

    Args:
        predictions: Of each retrained model for the same samples.
        targets: What was observed.
        truth: The expected target of each sample, where it is known (or the mean of many observations).

    Shapes:
        predictions: (models, samples) or (models, samples, outputs); targets and truth: without the first.

    >>> squared_loss([[0.0], [2.0]], [4.0])  # squares 16 and 4; variance 2, so bias squared is 9 - 2 / 2
    Parts(loss=10.0, bias=8.0, variance=2.0, noise=None)

    References:
        Geman, Bienenstock and Doursat, Neural Networks and the Bias/Variance Dilemma, 1992, eq. 3.2-3.4. Unbiased:
        Yang et al., Rethinking Bias-Variance Trade-off, 2020, appendix.
    """
    guesses, seen = floats(predictions), floats(targets)
    models, samples = _shape(guesses, seen.shape)
    loss = float(((guesses - seen) ** 2).sum()) / models / samples
    variance = float(guesses.var(axis=0, ddof=1).sum()) / samples
    if truth is None:
        return Parts(loss, loss - variance, variance)
    best = _alike(floats(truth), seen)
    bias = float(((guesses.mean(axis=0) - best) ** 2).sum()) / samples - variance / models
    return Parts(loss, bias, variance, float(((seen - best) ** 2).sum()) / samples)


@dataclass(frozen=True)
class ZeroOneParts(Parts):
    """The mean classification error of retrained models, split: ``bias + variance + noise`` is the loss exactly.

    Args:
        loss: Mean over models and samples.
        bias: Share of samples whose most frequent prediction is not the best.
        variance: ``variance_unbiased - variance_biased``.
        noise: What labels that differ from the best class add; None where the best class is not known.
        variance_unbiased: What straying costs where the most frequent prediction is right.
        variance_biased: What straying gains where it is wrong: some models hit the right class.
    """

    variance_unbiased: float = math.nan
    variance_biased: float = math.nan


def zero_one_loss(predictions: Numbers, targets: Numbers, truth: Numbers | None = None) -> ZeroOneParts:
    """Split the classification error; of equally frequent predictions the lowest class is the main one.

    Args:
        predictions: Class predicted by each retrained model for the same samples.
        targets: Classes observed.
        truth: The most probable class of each sample, where it is known.

    Shapes:
        predictions: (models, samples) int; targets and truth: (samples,) int.

    >>> found = zero_one_loss([[0, 1], [0, 1], [1, 0]], [0, 0])
    >>> found.loss, found.bias, found.variance_unbiased, found.variance_biased  # 3 of 6 wrong
    (0.5, 0.5, 0.166667, 0.166667)

    References:
        Domingos, A Unified Bias-Variance Decomposition, 2000, theorems 1 and 2. There the noise is weighted with c1
        and the variance with c2, sample by sample; here the products are summed.
    """
    guesses, seen = integers(predictions), integers(targets)
    _shape(guesses, seen.shape)
    best = seen if truth is None else integers(_alike(integers(truth), seen))
    main = mode(guesses, axis=0).mode
    biased = main != best
    strays = (guesses != main).mean(axis=0)
    hits = (guesses == best).mean(axis=0)
    costs, gains = float((strays * ~biased).mean()), float((hits * biased).mean())
    loss, pure = float((guesses != seen).mean()), float((guesses != best).mean())
    noise = None if truth is None else loss - pure
    return ZeroOneParts(loss, float(biased.mean()), costs - gains, noise, costs, gains)


def cross_entropy(log_probs: Numbers, targets: Numbers, truth: Numbers | None = None) -> Parts:
    """Split the cross entropy; the middle prediction is the normalised geometric mean of the probabilities.

    The variance is the mean Kullback-Leibler divergence from it to the predictions. A jackknife corrects it for the
    small number of models, as the division by ``models - 1`` does in the squared loss.

    Args:
        log_probs: Logarithms of the class probabilities of each retrained model for the same samples.
        targets: Classes observed.
        truth: The true class probabilities of each sample, where they are known (or shares of many annotators).

    Shapes:
        log_probs: (models, samples, classes); targets: (samples,) int; truth: (samples, classes).

    >>> half, most = math.log(0.5), [math.log(0.8), math.log(0.2)]
    >>> same = cross_entropy([[[half, half]], [[half, half]]], [0])  # models that agree
    >>> same.loss, same.bias, same.variance
    (0.6931, 0.6931, 0.0)

    References:
        Heskes, Bias/Variance Decompositions for Likelihood-Based Estimators, 1998, eq. 3-5; Yang et al., Rethinking
        Bias-Variance Trade-off, 2020, section 3.3. Efron and Stein, The Jackknife Estimate of Variance, 1981.
    """
    logs, seen = floats(log_probs), integers(targets)
    models, samples = _shape(logs[..., 0], seen.shape)
    if not np.isfinite(logs).all():
        raise ValueError(
            "cross_entropy needs finite log_probs, got some that are not; take log_softmax, not log of softmax."
        )
    total = logs.sum(axis=0)
    loss = float(-np.take_along_axis(total, seen[:, None], axis=1).mean()) / models
    plain = -logsumexp(total / models, axis=-1).mean()
    without = np.mean([-logsumexp((total - one) / (models - 1), axis=-1).mean() for one in logs])
    variance = float(models * plain - (models - 1) * without)
    if truth is None:
        return Parts(loss, loss - variance, variance)
    best = floats(truth)
    if best.shape != total.shape:
        raise ValueError(f"cross_entropy needs truth of shape {total.shape}, got {best.shape}; one row a sample.")
    noise = -float(np.where(best > 0, best * np.log(np.where(best > 0, best, 1)), 0).sum()) / samples
    expected = -float(np.where(best > 0, best * total, 0).sum()) / models / samples
    return Parts(loss, expected - noise - variance, variance, noise)


def _shape(predictions: NDArray[Any], wanted: tuple[int, ...]) -> tuple[int, int]:
    if predictions.shape[1:] != wanted or predictions.shape[0] < 2 or not wanted or not wanted[0]:
        raise ValueError(
            f"A decomposition needs predictions of two models or more for the samples of targets, got shape "
            f"{predictions.shape} for targets of {wanted}; stack one row of predictions a model."
        )
    return predictions.shape[0], wanted[0]


def _alike(truth: NDArray[Any], targets: NDArray[Any]) -> NDArray[Any]:
    if truth.shape != targets.shape:
        raise ValueError(f"A decomposition needs truth of the shape of targets {targets.shape}, got {truth.shape}.")
    return truth
