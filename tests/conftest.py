"""What tests that train share."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
collect_ignore = ["typed_program.py"]  # for mypy alone: it trains nothing that it could read


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n`` each process takes tests that stand together, so that what they share is made once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny nets run best on one thread, when other tests run beside; forks need it."""
    import torch  # late: the tests of finding and journal do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_modules_of_a_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test imports from its folder, as by a replay in this process, is no source of the tests that follow."""
    before, folder = {*sys.modules}, str(tmp_path_factory.getbasetemp())
    yield
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def _no_reference_of_a_test_in_this_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that trains in this process is a run of this repository's code, which `CodeSnapshot` would keep."""
    from lightning_debugkit.provenance.capture import capture
    from lightning_debugkit.provenance.repository import git

    usual = git.open_repository

    def elsewhere_only(path: Path, *args: Any, **options: Any) -> Any:
        if Path(path).resolve().is_relative_to(ROOT):
            raise git.Unavailable("no-repository")
        return usual(path, *args, **options)

    monkeypatch.setattr(capture.git, "open_repository", elsewhere_only)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are whole but for their figures, which take most of the time."""
    from lightning_debugkit.report import figures
    from lightning_debugkit.report.parts import Drawing, Figure

    def empty(drawing: Drawing) -> Figure:
        return Figure(drawing.name, drawing.title, drawing.alt, "<svg/>", drawing.caption)

    monkeypatch.setattr(figures, "drawn", empty)


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """A rank that hangs is ended with its test."""
    yield
    for child in multiprocessing.active_children():
        child.kill()
