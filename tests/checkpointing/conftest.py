"""What tests of checkpoints that train share."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a second, and is not the point here."""
    from lightning_debugkit.core.callback import DebugCallback  # late: most tests here do without Lightning

    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


@pytest.fixture
def poor_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network filesystems are: without links, and without a rename onto what is there."""
    real = Path.replace

    def replace_nothing(path: Path, target: Path) -> Path:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        return real(path, target)

    def no_links(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, replace_nothing)
    for name in ("symlink_to", "hardlink_to"):
        monkeypatch.setattr(Path, name, no_links)
    monkeypatch.setattr("os.link", no_links)
