"""The code is formatted, linted and typed."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIKE_THE_NEWEST = pytest.mark.skipif(
    version("numpy").startswith("1."), reason="NumPy 1, and matplotlib of its time, have other types, or none"
)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["ruff", "check", "."], id="lint"),
        pytest.param(["ruff", "format", "--check", "."], id="format"),
        pytest.param(["mypy"], id="types", marks=LIKE_THE_NEWEST),
    ],
)
def test_the_code_passes(command: list[str]) -> None:
    pytest.importorskip(command[0])
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
