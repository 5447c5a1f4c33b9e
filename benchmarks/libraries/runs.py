"""The runs of one library: a process that has imported it, and forks for each program."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from benchmarks.libraries.environment import ROOT, Environment

_VARIABLE = "LIGHTNING_DEBUGKIT"
_FIXED = {
    "PYTHONPATH": str(ROOT),
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "MKL_CBWR": "COMPATIBLE",  # else sums depend on where in memory their operands lie
    "MPLBACKEND": "Agg",
    "WANDB_MODE": "disabled",
}


class Runs(AbstractContextManager["Runs"]):
    """Run programs of ``library``, which ``environment`` holds.

    Args:
        library: A module of ``programs``.
        environment: Where the library is installed.
        folder: What the runs leave, to be looked at until they are run again.
        timeout: Seconds for one run.
    """

    def __init__(self, library: str, environment: Environment, folder: Path, timeout: float) -> None:
        self.folder = folder.resolve()
        self.timeout = timeout
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = (self.folder / "library.log").open("w")
        variables = {key: value for key, value in os.environ.items() if key != _VARIABLE} | _FIXED
        self.process = subprocess.Popen(
            [str(environment.python.absolute()), "-m", "benchmarks.libraries.child", library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=variables,
            cwd=self.folder,  # some libraries choose where to log when they are imported
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        self._pipe(self.process.stdin).close()
        self.process.wait()
        self._pipe(self.process.stdout).close()
        self.log.close()

    def outcome(self, program: str, preset: str = "") -> dict[str, Any]:
        """Return how ``program`` ended under ``preset``, or without the kit.

        Raises:
            RuntimeError: The library cannot be imported.
        """
        folder = self.folder / program / (preset or "without")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        out, log = folder.with_suffix(".json"), folder.with_suffix(".log")
        out.unlink(missing_ok=True)
        job = {"program": program, "preset": preset, "folder": str(folder), "out": str(out), "log": str(log)}
        told = self._pipe(self.process.stdin)
        told.write(json.dumps(job | {"timeout": self.timeout}) + "\n")
        told.flush()
        answer = next((line for line in self._pipe(self.process.stdout) if line.startswith("@")), "")
        if not answer:
            raise RuntimeError(f"the library cannot be imported: see {self.log.name}")
        if "timeout" in answer:
            return {"ended": "timeout"}
        return json.loads(out.read_text()) if out.exists() else {"ended": "killed"}

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe
