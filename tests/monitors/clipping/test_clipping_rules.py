"""What is said about a row of steps; the rest is in the fault programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.monitors.clipping.clipped_step import (
    ClippedStep,
    PendingClippedStep,
    read_clipped_steps,
    tightest,
)
from lightning_debugkit.monitors.clipping.clipping_order import ClippingOrder, is_scaled
from lightning_debugkit.monitors.clipping.clipping_rules import ClippingRules


def step(number: int, norm: float, after: float, by: Any = "norm", **given: Any) -> ClippedStep:
    threshold = after if by in ("norm", "value") else None
    known = {"threshold": threshold, "is_exact": by == "norm", **given}
    return ClippedStep(Where(0, number), 0, norm, after, by=by, **known)


def told(steps: list[ClippedStep], *, is_adaptive: bool = False, judge: ClippingRules | None = None) -> list[Finding]:
    judge = judge or ClippingRules(90)
    found = [f for start in range(0, len(steps), 50) for f in judge.take(steps[start : start + 50], is_adaptive=False)]
    return list({f.rule: f for f in [*found, *judge.conclude(is_adaptive=is_adaptive)]}.values())


def norms(count: int, sigma: float = 0.3) -> list[float]:
    return np.random.default_rng(0).lognormal(0, sigma, count).tolist()


def test_a_module_that_averages_its_gradients_is_not_accused_of_clipping() -> None:
    """Each is a hundredth of what it was, but their sizes differ as before: nothing was cut to a threshold."""
    averaged = [step(i, norm, norm / 200, by="module", peak=norm / 900) for i, norm in enumerate(norms(300))]
    assert told(averaged) == []
    pinned = [step(i, norm, 0.005, by="module", peak=norm / 900) for i, norm in enumerate(norms(300))]
    assert [f.rule for f in told(pinned)] == ["clipping-severe", "clipping-always"]


def test_a_cut_by_value_is_known_by_the_largest_entry() -> None:
    cut = [step(i, norm, norm / 300, by="module", peak=1e-4) for i, norm in enumerate(norms(300))]
    (severe, _) = told(cut)
    assert (severe.evidence["cut"], severe.evidence["threshold"]) == ("entries", 1e-4)


def test_the_first_hundred_steps_may_all_be_clipped() -> None:
    early = [step(i, 4.0, 1.0) for i in range(100)] + [step(100 + i, 0.9, 0.9, threshold=1.0) for i in range(300)]
    assert told(early) == []


def test_steps_that_keep_most_of_their_length_are_not_told() -> None:
    assert told([step(i, 1.25, 1.0) for i in range(400)]) == []


def test_a_short_run_is_judged_at_its_end() -> None:
    assert [f.rule for f in told([step(i, 4.0, 1.0) for i in range(60)])] == ["clipping-always"]
    assert told([step(i, 4.0, 1.0) for i in range(30)]) == []


def test_who_trains_well_under_a_low_threshold_is_told_to_leave_it() -> None:
    """As the word language models of PyTorch's examples, with SGD and a threshold of 0.25."""
    (always,) = told([step(i, 4.0, 1.0) for i in range(60)])
    assert always.advice.endswith(
        "If the loss falls as it should, leave both: the learning rate in effect is 0.25 times yours."
    )


def test_with_adam_a_common_scale_is_worth_knowing_and_no_more() -> None:
    steps = [step(i, 4.0, 1.0) for i in range(60)]
    assert [f.severity for f in told(steps, is_adaptive=True)] == [Severity.INFO]


def test_every_alert_prints_norm_before_and_after_and_the_coefficient() -> None:
    for after in (1.0, 1e-3):
        for finding in told([step(i, 4.0, after) for i in range(250)]):
            assert "norm 4 before" in finding.message
            assert {"norm", "after", "coefficient", "threshold", "norms"} <= set(finding.evidence)


def test_a_threshold_that_is_never_reached_is_told_at_the_end() -> None:
    calm = [step(i, norm, norm, threshold=50.0) for i, norm in enumerate(norms(150))]
    (never,) = told(calm)
    assert (never.rule, never.severity) == ("clipping-never", Severity.INFO)
    assert never.evidence["largest"] == max(norms(150))
    assert told(calm[:40]) == []


def test_nothing_that_clips_by_design_is_told_to_clip_too_often() -> None:
    assert told([step(i, 4.0, 1.0) for i in range(400)], judge=ClippingRules(10, is_auto=True)) == []


def test_heavy_tails_are_told_only_while_nothing_clips() -> None:
    heavy = (np.random.default_rng(1).pareto(1.0, 400) + 1).tolist()
    unclipped = [step(i, norm, norm, by="nothing") for i, norm in enumerate(heavy)]
    (advised,) = told(unclipped)
    assert advised.rule == "clipping-advised"
    assert advised.evidence["suggested"] == pytest.approx(np.percentile(heavy[: advised.evidence["steps"]], 90))
    assert told([step(i, norm, min(norm, 9.0), threshold=9.0) for i, norm in enumerate(heavy)]) == []


def test_short_windows_do_not_count_for_the_tail() -> None:
    """The last window of an epoch is divided as if it were whole: its norm is smaller, or its noise larger."""
    spiky = [step(i, 50.0 if i % 30 == 29 else 1.0, 1.0, by="nothing", is_whole=i % 30 != 29) for i in range(400)]
    assert told(spiky) == []


def test_memory_survives_as_plain_values() -> None:
    judge = ClippingRules(90)
    told([step(i, norm, norm, by="nothing") for i, norm in enumerate(norms(120))], judge=judge)
    again = ClippingRules(90)
    again.load_state_dict(judge.state_dict())
    assert again.state_dict() == judge.state_dict()
    assert again.quantile(50) == pytest.approx(np.median(norms(120)))


def test_steps_that_are_not_finite_are_left_out() -> None:
    drafts = [
        PendingClippedStep(0, "norm", torch.tensor(value), threshold=1.0) for value in (2.0, torch.inf, torch.nan, 0.5)
    ]
    assert [(s.norm, s.after) for s in read_clipped_steps(drafts)] == [(2.0, pytest.approx(1.0)), (0.5, 0.5)]


def test_the_scale_is_taken_out_of_norm_and_threshold() -> None:
    (found,) = read_clipped_steps([PendingClippedStep(0, "norm", torch.tensor(2048.0), threshold=1.0, scale=1024.0)])
    assert (found.norm, found.threshold, found.after) == (2.0, 1 / 1024, pytest.approx(1 / 1024, rel=1e-5))
    assert is_scaled(found)


def test_a_threshold_times_the_scale_is_meant() -> None:
    (found,) = read_clipped_steps([PendingClippedStep(0, "norm", torch.tensor(2048.0), threshold=1024.0, scale=1024.0)])
    assert not is_scaled(found)


def test_the_tightest_part_stands_for_the_step() -> None:
    parts = [step(3, 2.0, 1.9), step(3, 2.0, 0.1), step(4, 2.0, 2.0)]
    assert [(s.where.step, s.after) for s in tightest(parts)] == [(3, 0.1), (4, 2.0)]


@pytest.mark.parametrize(
    ("events", "is_told"),
    [
        ("early step " * 3, True),
        ("early step " * 2, False),
        ("early late step " * 5, False),
        ("early step early step step early step", False),
    ],
)
def test_a_habit_is_three_steps_in_a_row(events: str, is_told: bool) -> None:
    order = ClippingOrder()
    for event in events.split():
        if event == "step":
            order.stepped(0)
        else:
            order.clipped(0, event == "early", "train.py:1: clip")
    assert [f.evidence["source"] for f in order.early(Where(0, 9))] == ["train.py:1: clip"] * is_told
