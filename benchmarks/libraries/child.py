"""Run programs of one library, each in a process of its own, and write down how each ended.

The library is imported once; each line of standard input, a `Job` as JSON, is then run in a fork of this process, so
that nothing of one run is left for the next. An answer, ``@ended`` or ``@timeout``, stands on a line of the output.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lightning_debugkit
from benchmarks.libraries.library import Library, Program
from lightning_debugkit import read_journal
from lightning_debugkit.core.journal import Events
from lightning_debugkit.core.run_folders import folded

_KIT = str(Path(lightning_debugkit.__file__).parent)


@dataclass(frozen=True)
class Job:
    """One run.

    Args:
        program: Its name within the library.
        preset: The kit's preset, empty for a run without it.
        folder: Where it runs: empty, and its own.
        out: The file that gets the outcome, as JSON.
        log: The file that gets all that is printed.
        timeout: Seconds after which it is killed.
    """

    program: str
    preset: str
    folder: str
    out: str
    log: str
    timeout: float


def main(name: str) -> None:
    library: Library = importlib.import_module(f"benchmarks.libraries.programs.{name}").LIBRARY
    torch.set_num_threads(1)
    for module in library.preload:
        importlib.import_module(module)
    for line in sys.stdin:
        job = Job(**json.loads(line))
        pid = os.fork()
        if not pid:
            _prepare(job)
            _run(library.programs[job.program], Path(job.out))
            return  # by the usual way out, on which what the program registered for its end runs
        print("@ended" if _waited(pid, job.timeout) else "@timeout", flush=True)


def _waited(pid: int, timeout: float) -> bool:
    """Whether the process ended in time; it is killed otherwise."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def _prepare(job: Job) -> None:
    """Make the fork a process like one that was started for this run."""
    with Path(job.log).open("w") as log, Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(job.folder)
    if job.preset:
        os.environ["LIGHTNING_DEBUGKIT"] = job.preset
    warnings.simplefilter("ignore")
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def _run(program: Program, out: Path) -> None:
    result: dict[str, Any] = {"ended": "finished", "traceback": "", "kit_in_traceback": False, "weights": {}}
    modules: Any = ()
    try:
        modules = program.run()
    except BaseException as error:
        told = traceback.format_exc()
        result |= {"ended": type(error).__name__, "error": str(error)[:500], "traceback": told[-6000:]}
        result["kit_in_traceback"] = _KIT in told and type(error).__name__ != "TrainingAnomaly"
    result["cpu_seconds"] = sum(os.times()[:4])
    result["random"] = _random_states()
    result["weights"] = dict(_weights(modules))
    result |= _seen(Path.cwd())
    out.write_text(json.dumps(result, indent=1, default=str))


def _weights(modules: Any) -> Iterator[tuple[str, str]]:
    """Yield a digest for each entry of the state of each module, to the bit."""
    for place, module in enumerate(modules if isinstance(modules, (list, tuple)) else [modules]):
        for key, value in module.state_dict().items():
            if isinstance(value, torch.Tensor):
                held = value.detach().as_subclass(torch.Tensor).cpu().contiguous()
                data = held.reshape(-1).view(torch.uint8).numpy().tobytes() if held.numel() else b""
                yield f"{place}.{key}", _digest(f"{held.dtype}{tuple(held.shape)}".encode() + data)


def _random_states() -> dict[str, str]:
    kind, keys, *rest = np.random.get_state()
    return {
        "python": _digest(repr(random.getstate()).encode()),
        "numpy": _digest(repr((kind, rest)).encode() + np.asarray(keys).tobytes()),
        "torch": _digest(torch.get_rng_state().numpy().tobytes()),
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _seen(folder: Path) -> dict[str, Any]:
    """What the kit's journals below ``folder`` hold, in order of the runs."""
    runs = list(_journals(folder))
    findings = [finding for events in runs for finding in events.findings]
    return {
        "runs": len(runs),
        "findings": [finding.to_event() for finding in findings],
        "troubles": [event for events in runs for event in events.of_kind("trouble")],
    }


def _journals(folder: Path) -> Iterable[Events]:
    found = sorted({path.parent for path in folder.rglob("journal-*.jsonl")}, key=lambda path: path.stat().st_ctime)
    yield from (read_journal(path) for path in found)
    for index in folder.rglob("fits.jsonl"):
        yield from folded(index).values()


if __name__ == "__main__":
    main(*sys.argv[1:])
