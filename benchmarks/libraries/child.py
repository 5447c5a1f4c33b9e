"""Run one program in this process and write down how it ended.

``python -m benchmarks.libraries.child LIBRARY PROGRAM OUT``. The preset is that of the environment variable; the
current folder is the program's own.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lightning_debugkit
from benchmarks.libraries.library import Library
from lightning_debugkit import read_journal
from lightning_debugkit.core.journal import Events
from lightning_debugkit.core.run_folders import folded

_KIT = str(Path(lightning_debugkit.__file__).parent)


def main(library: str, name: str, out: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    declared: Library = importlib.import_module(f"benchmarks.libraries.programs.{library}").LIBRARY
    result: dict[str, Any] = {"ended": "finished", "traceback": "", "kit_in_traceback": False, "weights": {}}
    modules: Any = ()
    try:
        modules = declared.programs[name].run()
    except BaseException as error:
        told = traceback.format_exc()
        result |= {"ended": type(error).__name__, "error": str(error)[:500], "traceback": told[-6000:]}
        result["kit_in_traceback"] = _KIT in told and type(error).__name__ != "TrainingAnomaly"
    result["cpu_seconds"] = sum(os.times()[:4])
    result["random"] = _random_states()
    result["weights"] = dict(_weights(modules))
    result |= _seen(Path.cwd())
    Path(out).write_text(json.dumps(result, indent=1, default=str))


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
        "findings": [
            {
                "rule": finding.rule,
                "severity": str(finding.severity),
                "message": finding.message,
                "step": finding.where.step,
                "module": finding.where.module,
                "evidence": dict(finding.evidence),
            }
            for finding in findings
        ],
        "troubles": [event for events in runs for event in events.of_kind("trouble")],
    }


def _journals(folder: Path) -> Iterable[Events]:
    found = sorted({path.parent for path in folder.rglob("journal-*.jsonl")}, key=lambda path: path.stat().st_ctime)
    yield from (read_journal(path) for path in found)
    for index in folder.rglob("fits.jsonl"):
        yield from folded(index).values()


if __name__ == "__main__":
    main(*sys.argv[1:])
