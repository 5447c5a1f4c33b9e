"""What tests of checkpoints that train share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second, and is not the point here."""
    from lightning_debugkit.core.callback import DebugCallback  # late: most tests here do without Lightning

    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)
