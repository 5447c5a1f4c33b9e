"""One program in a process of its own, in an empty folder, with a limit of time."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import processes
from benchmarks.faults.corpus import Case
from benchmarks.faults.scoring import Score, findings_under, score

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


def execute(folder: Path, script: str, environment: dict[str, str], limit: float) -> tuple[str, str]:
    """Run ``script`` in ``folder`` as a person would; return how it ended and all that it printed."""
    code, output = processes.execute(folder, script, environment, limit)
    if code is None:
        return "out of time", output
    if code == 0:
        return "well", output
    if output.splitlines()[-1:] and output.splitlines()[-1].startswith("skipped:"):
        return "skipped", output
    frames = FRAME.findall(output)
    by_kit = frames and "lightning_debugkit" in Path(frames[-1]).parts and "TrainingAnomaly" not in output
    return "ended by the kit" if by_kit else "raised", output


def run(case: Case, mended: bool, seed: int, limit: float = 120) -> Run:
    """Run ``case`` with the kit added by its environment variable alone, and judge its journals."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        shutil.copy(case.path, folder)
        script = f"from {case.name} import main\n\nmain({mended}, {seed})\n"
        ended, output = execute(folder, script, {"LIGHTNING_DEBUGKIT": case.preset}, limit)
        judged = score(findings_under(folder), case.diagnoses, case.place)
    return Run(judged, ended, output[-4000:])
