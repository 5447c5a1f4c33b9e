"""The parts of the checkpoint callback by themselves: which metrics are fresh, and when ranks ask for the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_debugkit.checkpointing.fresh_metrics import FreshMetrics
from lightning_debugkit.checkpointing.save_times import Clock
from lightning_debugkit.checkpoints import Every, Moment


def test_a_value_is_fresh_once_also_if_it_is_the_same_again() -> None:
    metrics = FreshMetrics()
    logged: dict[str, Any] = {"loss": torch.tensor(0.5), "acc": torch.tensor(0.25)}
    assert metrics.look(logged) == {"loss": 0.5, "acc": 0.25}
    assert metrics.look(logged) == {}
    logged["loss"] = torch.tensor(0.5)
    assert metrics.look(logged) == {"loss": 0.5}
    logged["acc"].add_(1)
    assert metrics.look(logged) == {"acc": 1.25}


def test_a_view_of_an_old_value_is_old() -> None:
    """Lightning hands out a detached view of what it holds, a new one at each look."""
    metrics = FreshMetrics()
    held = torch.tensor(0.5)
    assert metrics.look({"loss": held.detach()}) == {"loss": 0.5}
    assert metrics.look({"loss": held.detach()}) == {}


def test_old_memory_is_not_taken_for_an_old_value() -> None:
    metrics = FreshMetrics()
    seen = [metrics.look({"loss": torch.tensor(float(count))}) for count in range(200)]
    assert seen == [{"loss": float(count)} for count in range(200)]


def test_what_is_no_number_is_passed_over() -> None:
    assert FreshMetrics().look({"a": "text", "b": torch.zeros(2), "c": 3}) == {"c": 3.0}


class Ranks:
    """Two ranks as the first one sees them, with a count of their talks."""

    world_size = 2

    def __init__(self) -> None:
        self.talks = 0
        self.strategy = SimpleNamespace(broadcast=self.broadcast)

    def broadcast(self, value: Any) -> Any:
        self.talks += 1
        return value


@pytest.mark.parametrize("pace", [0.1, 1.0, 20.0])
def test_time_is_asked_for_seldom_and_not_late(pace: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty hours of steps: a few talks for each interval, and no multiple is seen later than a step after it."""
    now = [0.0]
    monkeypatch.setattr("lightning_debugkit.checkpointing.save_times.time.monotonic", lambda: now[0])
    clock, ranks, rule = Clock(), Ranks(), Every(hours=1)
    step, passed, late = 0, 0, []
    while now[0] < 20 * 3600:
        step += 1
        now[0] += pace
        agreed = clock.agreed(ranks, step, always=False)
        if agreed is None:
            continue
        moment = Moment(step, 0, agreed)
        clock.ask_again(moment, (rule,))
        if int(rule.place(moment)) > passed:
            passed = int(rule.place(moment))
            late.append(agreed - 3600 * passed)
    assert passed == 20
    assert max(late) <= pace
    assert ranks.talks < 20 * 20
