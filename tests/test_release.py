"""Wheel and sdist hold what they should, and the wheel's own files run."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def sources() -> set[str]:
    files = (path for path in (ROOT / "lightning_debugkit").rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts and path.suffix != ".pyc"}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        names = {name for name in held.namelist() if ".dist-info/" not in name}
        (told,) = [name for name in held.namelist() if name.endswith(".dist-info/METADATA")]
        extras = email.message_from_bytes(held.read(told)).get_all("Provides-Extra")
    assert names == sources()
    assert {"lightning_debugkit/py.typed", "lightning_debugkit/configs/standard.yaml"} <= names
    assert {"demo", "rich", "data", "loggers", "docs", "test", "all"} <= set(extras or [])


def test_the_wheels_own_files_run(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        held.extractall(tmp_path / "installed")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    for words in (["config", "thorough"], ["rules"]):
        command = [sys.executable, "-m", "lightning_debugkit", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "no-gradient" in done.stdout
    where = [sys.executable, "-c", "import lightning_debugkit.report.to_html as m; print(m.__file__)"]
    done = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path))


def test_the_sdist_can_be_built_from(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as held:
        names = {name.partition("/")[2] for name in held.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "mkdocs.yml", "tests/test_release.py"} <= names
    assert sources() <= names
