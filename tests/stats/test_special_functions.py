"""The incomplete beta function and its quantiles against scipy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from lightning_debugkit.stats.special_functions import beta_quantile, incomplete_beta, student_quantile

shapes = st.floats(0.5, 1e5)


@settings(max_examples=200, deadline=None)
@given(a=shapes, b=shapes, place=st.floats(0.001, 0.999))
def test_the_incomplete_beta_function_is_scipys(a: float, b: float, place: float) -> None:
    x = float(special.betaincinv(a, b, place))
    assert incomplete_beta(a, b, x) == pytest.approx(special.betainc(a, b, x), rel=1e-7, abs=1e-8)


@pytest.mark.parametrize(("x", "expected"), [(-0.1, 0.0), (0.0, 0.0), (1.0, 1.0), (1.5, 1.0)])
def test_no_beta_variable_lies_outside_of_the_unit_interval(x: float, expected: float) -> None:
    assert incomplete_beta(2, 3, x) == expected


@settings(max_examples=100, deadline=None)
@given(a=shapes, b=shapes, probability=st.floats(0.001, 0.999))
def test_the_quantile_of_beta_is_scipys(a: float, b: float, probability: float) -> None:
    assert beta_quantile(probability, a, b) == pytest.approx(stats.beta.ppf(probability, a, b), rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(freedom=st.floats(1, 1e6), probability=st.floats(0.001, 0.999))
def test_the_quantile_of_students_t_is_scipys(freedom: float, probability: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(
        stats.t.ppf(probability, freedom), rel=1e-6, abs=1e-9
    )
