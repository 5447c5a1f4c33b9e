"""What people would use instead, on the same programs, each added to every ``Trainer`` as its documentation has it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.faults.corpus import Case
from benchmarks.faults.running import execute
from benchmarks.faults.scoring import share

FORMS = ("detected", "accused")
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


def told(group: str, case: Case, mended: bool, seed: int, limit: float) -> set[str] | None:
    """Return the peers of a group that told a person anything in one run of ``case``; `None` where it cannot run."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        shutil.copy(case.path, folder)
        script = (
            f"from benchmarks.faults.peer_adapters import install\n\ninstall({group!r})\n\n"
            f"from {case.name} import main\n\nmain({mended}, {seed})\n"
        )
        ended, output = execute(Path(folder), script, {}, limit)
    if ended == "skipped":
        return None
    said = {name for name in PEERS[group] if f"peer says: {name}: " in output}
    return said | ({ANOMALY} if group == "anomaly" and "returned nan values in its" in output else set())


def compare(programs: list[Case], seeds: int, limit: float) -> dict[str, dict[str, dict[str, Any]]]:
    """Run every peer that is installed on every program; return the faults told and the healthy accused."""
    faults = [case for case in programs if not case.healthy]
    return counted(
        {
            group: {
                form: [told(group, case, mended, seed, limit) for case in of for seed in range(seeds)]
                for form, mended, of in zip(FORMS, (False, True), (faults, programs), strict=True)
            }
            for group in PEERS
        }
    )


def counted(runs: Mapping[str, Mapping[str, list[set[str] | None]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return how often each peer told something, and how often at least one of those did that accuse nothing.

    Args:
        runs: For each group, and each of ``"detected"`` and ``"accused"``, the peers that told something in each run;
            `None` for a run that was not possible. The runs of all groups are in the same order.
    """
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for group, names in PEERS.items():
        for name, module in names.items():
            if find_spec(module) is not None:
                rows[name] = {form: _share({name}, of) for form, of in runs[group].items()}
    silent = {name for name, forms in rows.items() if not forms["accused"]["hits"]}
    both = {form: [_union(said) for said in zip(*(runs[g][form] for g in PEERS), strict=True)] for form in FORMS}
    if len(silent) > 1:
        rows["those that accuse nothing, together"] = {form: _share(silent, of) for form, of in both.items()}
    return rows


def _union(said: Iterable[set[str] | None]) -> set[str] | None:
    known = [names for names in said if names is not None]
    return set().union(*known) if known else None


def _share(names: set[str], runs: Iterable[set[str] | None]) -> dict[str, Any]:
    possible = [said for said in runs if said is not None]
    return share(sum(bool(names & said) for said in possible), len(possible))
