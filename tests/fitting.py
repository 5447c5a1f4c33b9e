"""Fits on one thread, without a report unless it is the point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from provenance.packages import MODEL

from lightning_debugkit import CodeSnapshot
from lightning_debugkit.core.callback import DebugCallback


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """All of this folder trains."""


@pytest.fixture(autouse=True)
def no_report(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second: only tests that use ``with_report`` do it."""
    if "with_report" not in request.fixturenames:
        monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


@pytest.fixture
def no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no code, where a kit trains that is not about it: all files of this repository would take a second."""
    monkeypatch.setattr(CodeSnapshot, "_begin", lambda self, trainer, module: None)


@pytest.fixture
def with_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render the report after all, as if the fit had been long."""
    monkeypatch.setattr("lightning_debugkit.core.run.SHORT", 0.0)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project that is no repository, with a package whose name no other test has."""
    root = tmp_path / "project"
    package = root / f"pkg_{tmp_path.name}"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    (package / "__init__.py").write_text("")
    (package / "model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.chdir(root)
    yield package
    for name in [name for name in sys.modules if name.startswith(package.name)]:
        del sys.modules[name]
