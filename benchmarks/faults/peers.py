"""What people would use instead, on the same programs, each added to every ``Trainer`` as its documentation has it."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.faults.corpus import Case
from benchmarks.faults.running import execute
from benchmarks.faults.scoring import share

ANOMALY = "Trainer(detect_anomaly=True)"
PEERS = {
    "anomaly": {ANOMALY: "lightning"},
    "watching": {
        "EarlyStopping(check_finite=True)": "lightning",
        "torchtest2": "torchtest2",
        "guardtower": "guardtower",
        "torchmortem": "torchmortem",
        "gradsnitch": "gradsnitch",
        "runmedic": "runmedic",
        "pytscope": "pytscope",
        "arc-vigil": "arc_vigil",
    },
}
# Of those that were to be compared.
NOT_RUN = {
    "gradscope 0.1.0": "cannot be imported: its wheel lacks `gradscope.backends`",
    "pulseml 1.3.14": "an agent that asks a language model, under a proprietary licence; its documentation has no "
    "use of its checks alone",
}


def told(group: str, case: Case, mended: bool, seed: int, limit: float) -> set[str]:
    """Return the peers of a group that told a person anything in one run of ``case``."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        shutil.copy(case.path, folder)
        script = (
            f"from benchmarks.faults.peer_adapters import install\n\ninstall({group!r})\n\n"
            f"from {case.name} import main\n\nmain({mended}, {seed})\n"
        )
        _, output = execute(Path(folder), script, {}, limit)
    said = {name for name in PEERS[group] if f"peer says: {name}: " in output}
    return said | ({ANOMALY} if group == "anomaly" and "returned nan values in its" in output else set())


def compare(programs: list[Case], seeds: int, limit: float) -> dict[str, dict[str, dict[str, Any]]]:
    """Run every peer that is installed on every program; print and return the faults told and the healthy accused."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for group, names in PEERS.items():
        faults = [told(group, c, False, seed, limit) for c in programs if not c.healthy for seed in range(seeds)]
        sound = [told(group, c, True, seed, limit) for c in programs for seed in range(seeds)]
        for name, module in names.items():
            if find_spec(module) is None:
                continue
            forms = {"detected": faults, "accused": sound}
            rows[name] = {form: share(sum(name in said for said in of), len(of)) for form, of in forms.items()}
            print(name, *(f"{form} {part['hits']} of {part['of']}" for form, part in rows[name].items()), flush=True)
    return rows
