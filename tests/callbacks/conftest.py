"""Fits on one thread, without a report unless it is the point."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from lightning_debugkit.callbacks.base import DebugCallback


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second: only tests that use ``with_report`` do it."""
    if "with_report" not in request.fixturenames:
        monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


@pytest.fixture
def with_report() -> None:
    """Render the report after all."""
