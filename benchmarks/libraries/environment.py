"""An environment of its own for each library, made by pip from pinned requirements."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_VERSIONS = (
    "import importlib.metadata as m, json, sys; "
    "found = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}; "
    "print(json.dumps({n: found.get(n) for n in sys.argv[1:]}))"
)


class NotInstalled(Exception):
    """Pip could not install a library; the text is the end of what it said."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment at ``folder``."""

    folder: Path

    @property
    def python(self) -> Path:
        place = ("Scripts", "python.exe") if sys.platform == "win32" else ("bin", "python")
        return self.folder.joinpath(*place)

    def make(self, requires: Sequence[str], torch: str, timeout: float) -> None:
        """Install torch, the kit and ``requires``; nothing is done if the same was installed here before.

        Raises:
            NotInstalled: Pip failed, or ran past ``timeout`` seconds.
        """
        wanted = json.dumps([torch, *requires])
        stamp = self.folder / "installed.json"
        if stamp.exists() and stamp.read_text() == wanted:
            return
        if not self.python.exists():
            venv.create(self.folder, with_pip=True)
        # With torch named in the same call, no library can draw another one.
        self._pip([torch], timeout)
        self._pip([torch, "-e", str(ROOT), *requires], timeout)
        stamp.write_text(wanted)

    def _pip(self, requirements: Sequence[str], timeout: float) -> None:
        command = [str(self.python), "-m", "pip", "install", "-q", *requirements]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"pip ran past {timeout:g} s") from None
        if done.returncode:
            raise NotInstalled(done.stderr.strip()[-1000:])

    def versions(self, *packages: str) -> dict[str, str | None]:
        """The installed versions of distributions, None for one that is not there."""
        command = [str(self.python), "-c", _VERSIONS, *packages]
        found: dict[str, str | None] = json.loads(subprocess.check_output(command, text=True))
        return found
