"""One program in a process of its own, in an empty folder, with a limit of time."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.corpus import Case
from benchmarks.faults.scoring import Score, findings_under, score

ROOT = Path(__file__).parents[2]
FRAME = re.compile(r'^\s*File "(.+?)", line \d+', re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What one run of one program gave.

    Args:
        score: What was said, judged.
        ended: ``"well"``, ``"raised"``, ``"skipped"`` (what it needs is not installed), ``"out of time"``, or
            ``"ended by the kit"``: an error from within it that is not its own ``TrainingAnomaly``.
        output: The last of what it printed.
    """

    score: Score
    ended: str
    output: str


def execute(folder: Path, script: str, environment: dict[str, str], python: str, limit: float) -> tuple[str, str]:
    """Run ``script`` in ``folder`` as a person would; return how it ended and all that it printed."""
    (folder / "train.py").write_text(script, encoding="utf-8")
    bare = {
        key: value for key, value in os.environ.items() if not key.startswith(("LIGHTNING_DEBUGKIT", "PYTEST", "PL_"))
    }
    try:
        done = subprocess.run(
            [python, "train.py"],
            cwd=folder,
            env={**bare, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        output = late.stdout or b""
        return "out of time", output.decode(errors="replace") if isinstance(output, bytes) else output
    if done.returncode == 0:
        return "well", done.stdout
    if done.stdout.splitlines()[-1:] and done.stdout.splitlines()[-1].startswith("skipped:"):
        return "skipped", done.stdout
    frames = FRAME.findall(done.stdout)
    by_kit = frames and "lightning_debugkit" in Path(frames[-1]).parts and "TrainingAnomaly" not in done.stdout
    return "ended by the kit" if by_kit else "raised", done.stdout


def run(case: Case, mended: bool, seed: int, limit: float = 120) -> Run:
    """Run ``case`` with the kit added by its environment variable alone, and judge its journals."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        shutil.copy(case.path, folder)
        script = f"from {case.name} import main\n\nmain({mended}, {seed})\n"
        ended, output = execute(folder, script, {"LIGHTNING_DEBUGKIT": case.preset}, sys.executable, limit)
        judged = score(findings_under(folder), case.diagnoses, case.place)
    return Run(judged, ended, output[-4000:])
