"""Bias, variance and noise: what adds up exactly, and problems whose parts are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, rel_entr
from scipy.stats import mode

from lightning_debugkit.stats.retrained_decomposition import cross_entropy, squared_loss, zero_one_loss

numbers = st.floats(-100, 100)
TOLERANCE = {"rel": 1e-9, "abs": 1e-9}


@settings(deadline=None)
@given(data=st.data(), models=st.integers(2, 6), outputs=st.sampled_from([(), (3,)]))
def test_squared_loss_is_bias_and_variance_exactly(data: st.DataObject, models: int, outputs: tuple[int, ...]) -> None:
    predictions = data.draw(arrays(np.float64, (models, 4, *outputs), elements=numbers))
    targets = data.draw(arrays(np.float64, (4, *outputs), elements=numbers))
    found = squared_loss(predictions, targets)
    miss = ((predictions - targets) ** 2).reshape(models, 4, -1).sum(axis=2)
    spread = ((predictions - predictions.mean(axis=0)) ** 2).reshape(models, 4, -1).sum(axis=(0, 2)) / (models - 1)
    assert found.loss == pytest.approx(miss.mean(), **TOLERANCE)
    assert found.variance == pytest.approx(spread.mean(), **TOLERANCE)
    assert found.bias + found.variance == pytest.approx(found.loss, **TOLERANCE)
    assert found.noise is None


def test_the_parts_of_a_mean_that_is_drawn_to_zero_are_known() -> None:
    """The model is c times the mean of m targets of N(mu, 1): bias ((1 - c) mu)^2, variance c^2 / m, noise 1."""
    rng = np.random.default_rng(0)
    c, mu, m, models, samples = 0.8, 3.0, 5, 4, 40_000
    truth = np.full(samples, mu)
    predictions = c * rng.normal(mu, 1, (models, samples, m)).mean(axis=2)
    found = squared_loss(torch.from_numpy(predictions), mu + rng.normal(size=samples), truth)
    assert found.bias == pytest.approx(((1 - c) * mu) ** 2, rel=0.03)
    assert found.variance == pytest.approx(c * c / m, rel=0.03)
    assert found.noise == pytest.approx(1, rel=0.03)
    assert found.rest == pytest.approx(0, abs=0.03)
    assert found.bias + found.variance + found.noise == pytest.approx(0.36 + 0.128 + 1, rel=0.02)


def test_two_models_are_as_right_on_average_as_twenty() -> None:
    """Ordinary least squares on new noise: variance 3 / 30 at the training points, no bias, whatever the models."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 3))
    truth = x @ [1.0, -2.0, 0.5]
    hat = x @ np.linalg.pinv(x)
    for models in (2, 20):
        runs = [
            squared_loss((hat @ (truth + rng.normal(size=(models, 30))).T[:, :]).T, truth, truth)
            for _ in range(4_000 // models)
        ]
        assert np.mean([run.variance for run in runs]) == pytest.approx(0.1, rel=0.05)
        assert np.mean([run.bias for run in runs]) == pytest.approx(0, abs=0.004)


classes = st.integers(0, 3)


@settings(deadline=None)
@given(data=st.data(), models=st.integers(2, 7))
def test_classification_error_is_its_parts_exactly(data: st.DataObject, models: int) -> None:
    predictions = data.draw(arrays(np.int64, (models, 5), elements=classes))
    targets = data.draw(arrays(np.int64, 5, elements=classes))
    truth = data.draw(arrays(np.int64, 5, elements=classes))
    for best in (None, truth):
        found = zero_one_loss(predictions, targets, best)
        assert found.loss == pytest.approx((predictions != targets).mean(), **TOLERANCE)
        assert found.rest == pytest.approx(0, abs=1e-12)
        assert found.variance == found.variance_unbiased - found.variance_biased
        main = mode(predictions, axis=0).mode  # the lowest of equally frequent ones, too
        assert found.bias == pytest.approx((main != (targets if best is None else best)).mean())


@settings(deadline=None)
@given(data=st.data(), models=st.integers(2, 7))
def test_with_two_classes_the_factors_are_those_of_domingos(data: st.DataObject, models: int) -> None:
    """Theorem 2: loss = c1 N + B + c2 V, with c1 = 2 P(hit) - 1 and c2 = 1 or -1, sample by sample."""
    predictions = data.draw(arrays(np.int64, (models, 6), elements=st.integers(0, 1)))
    targets, best = (data.draw(arrays(np.int64, 6, elements=st.integers(0, 1))) for _ in range(2))
    found = zero_one_loss(predictions, targets, best)
    main = mode(predictions, axis=0).mode
    c1 = 2 * (predictions == best).mean(axis=0) - 1
    c2 = np.where(main == best, 1, -1)
    assert found.noise == pytest.approx((c1 * (targets != best)).mean(), **TOLERANCE)
    assert found.variance == pytest.approx((c2 * (predictions != main).mean(axis=0)).mean(), **TOLERANCE)


def test_the_parts_of_a_coin_that_models_toss_are_known() -> None:
    """Labels are 1 with 0.9; on the one half of the samples models say 1 with 0.8, on the other with 0.3.

    Bias 1/2; variance (0.2 - 0.3) / 2; noise 0.1 (2 * 0.8 - 1 + 2 * 0.3 - 1) / 2; error 0.26 and 0.66.
    """
    rng = np.random.default_rng(2)
    says = np.repeat([0.8, 0.3], 4_000)
    predictions = (rng.random((101, 8_000)) < says).astype(int)
    labels = (rng.random(8_000) < 0.9).astype(int)
    found = zero_one_loss(predictions, torch.from_numpy(labels), np.ones(8_000))
    assert found.bias == pytest.approx(0.5, abs=0.001)
    assert found.variance_unbiased == pytest.approx(0.1, abs=0.003)
    assert found.variance_biased == pytest.approx(0.15, abs=0.003)
    assert found.noise == pytest.approx(0.01, abs=0.003)
    assert found.loss == pytest.approx((0.26 + 0.66) / 2, abs=0.005)


def geometric(log_probs: np.ndarray) -> np.ndarray:
    mean = np.exp(log_probs.mean(axis=0))
    return mean / mean.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(data=st.data(), models=st.integers(2, 5))
def test_cross_entropy_is_two_divergences_and_an_entropy(data: st.DataObject, models: int) -> None:
    """For each model taken for itself, before the correction for few models; a sum over classes, by scipy."""
    logs = log_softmax(data.draw(arrays(np.float64, (models, 4, 3), elements=st.floats(-8, 8))), axis=2)
    truth = np.random.default_rng(models).dirichlet(np.ones(3), 4)
    targets = data.draw(arrays(np.int64, 4, elements=st.integers(0, 2)))
    middle = geometric(logs)
    variance = rel_entr(middle, np.exp(logs)).sum(axis=2).mean()
    left_out = [
        rel_entr(geometric(np.delete(logs, i, 0)), np.exp(np.delete(logs, i, 0))).sum(axis=2).mean()
        for i in range(models)
    ]
    corrected = models * variance - (models - 1) * np.mean(left_out)
    found = cross_entropy(logs, targets, truth)
    assert found.loss == pytest.approx(-np.mean([logs[m, i, targets[i]] for m in range(models) for i in range(4)]))
    assert found.variance == pytest.approx(corrected, rel=1e-6, abs=1e-9)
    assert found.bias == pytest.approx(rel_entr(truth, middle).sum(axis=1).mean() + variance - corrected, abs=1e-9)
    assert found.noise == pytest.approx(-(truth * np.log(truth)).sum(axis=1).mean())
    plain = cross_entropy(logs, targets)
    assert plain.bias + plain.variance == pytest.approx(plain.loss, **TOLERANCE)


def test_the_parts_of_logits_with_normal_errors_are_known() -> None:
    """Two classes whose log odds are N(2, 1.5^2) for a true probability of 0.7: integrals in closed form or by scipy.

    The geometric mean has the mean log odds, so the bias is a divergence from 0.7 to sigmoid(2).
    """
    rng = np.random.default_rng(3)
    models, samples = 8, 20_000
    odds = rng.normal(2.0, 1.5, (models, samples))
    logs = log_softmax(np.stack([np.zeros_like(odds), odds], axis=2), axis=2)
    truth = np.tile([0.3, 0.7], (samples, 1))
    found = cross_entropy(logs, (rng.random(samples) < 0.7).astype(int), truth)
    middle = np.array([1, math.exp(2)]) / (1 + math.exp(2))
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    loss = float(weights @ (np.logaddexp(0, 2 + 1.5 * points) - 0.7 * (2 + 1.5 * points)) / weights.sum())
    noise, bias = -(0.7 * math.log(0.7) + 0.3 * math.log(0.3)), float(rel_entr([0.3, 0.7], middle).sum())
    assert found.noise == pytest.approx(noise)
    assert found.bias == pytest.approx(bias, abs=0.01)
    assert found.variance == pytest.approx(loss - noise - bias, abs=0.01)
    assert found.rest == pytest.approx(0, abs=0.02)


def test_few_models_hardly_understate_the_variance_of_cross_entropy() -> None:
    """Three models against two hundred; without the correction, a third would be missing."""
    rng = np.random.default_rng(4)
    logs = log_softmax(rng.normal(size=(200, 3_000, 3)), axis=2)
    targets = np.zeros(3_000, int)
    many, few = cross_entropy(logs, targets).variance, cross_entropy(logs[:3], targets).variance
    plain = rel_entr(geometric(logs[:3]), np.exp(logs[:3])).sum(axis=2).mean()
    assert few == pytest.approx(many, rel=0.06)
    assert plain < 0.75 * many


def test_equal_models_have_no_variance() -> None:
    same = np.tile(np.random.default_rng(5).integers(0, 3, 10), (4, 1))
    logs = log_softmax(np.random.default_rng(6).normal(size=(1, 10, 3)), axis=2).repeat(4, axis=0)
    assert squared_loss(same, np.zeros(10)).variance == 0
    assert zero_one_loss(same, np.zeros(10)).variance == 0
    assert cross_entropy(logs, np.zeros(10)).variance == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("decompose", [squared_loss, zero_one_loss])
@pytest.mark.parametrize("shape", [(1, 3), (2, 4), (3,)])
def test_one_model_or_other_samples_are_refused(decompose: type[squared_loss], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"A decomposition needs predictions of two models or more for the samples"):
        decompose(np.zeros(shape), np.zeros(3))


@pytest.mark.parametrize("decompose", [squared_loss, zero_one_loss])
def test_truth_is_known_for_each_sample(decompose: type[squared_loss]) -> None:
    with pytest.raises(ValueError, match=r"needs truth of the shape of targets \(3,\), got \(2,\)"):
        decompose(np.zeros((2, 3)), np.zeros(3), np.zeros(2))


def test_probabilities_of_zero_are_refused() -> None:
    logs = np.array([[[0.0, -np.inf]], [[0.0, -np.inf]]])
    with pytest.raises(ValueError, match="needs finite log_probs, got some that are not; take log_softmax"):
        cross_entropy(logs, [0])
    with pytest.raises(ValueError, match=r"needs truth of shape \(1, 2\), got \(2,\); one row a sample"):
        cross_entropy(np.full((2, 1, 2), math.log(0.5)), [0], [0.5, 0.5])
