"""Fits on one thread, without a report unless it is the point."""

from __future__ import annotations

import pytest

from lightning_debugkit.callbacks.base import DebugCallback


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this folder trains."""


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second: only tests that use ``with_report`` do it."""
    if "with_report" not in request.fixturenames:
        monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


@pytest.fixture
def with_report() -> None:
    """Render the report after all."""
