"""What people would use instead, on the same programs, each added to every ``Trainer`` as its documentation has it."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.faults.corpus import Case
from benchmarks.faults.running import execute
from benchmarks.faults.scoring import share

TOLD = "peer says: "


def detect_anomaly(given: dict[str, Any]) -> None:
    """``Trainer(detect_anomaly=True)``: its exception is what it says."""
    given.setdefault("detect_anomaly", True)


def check_finite(given: dict[str, Any]) -> None:
    """``EarlyStopping(check_finite=True)`` on the training loss, which is logged for it: its best chance."""
    from lightning.pytorch.callbacks import Callback, EarlyStopping

    class LogLoss(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            loss = outputs["loss"] if isinstance(outputs, dict) and "loss" in outputs else outputs
            if loss is not None and not isinstance(loss, dict):
                module.log("peer_loss", loss, on_step=False, on_epoch=True)

    class Tell(EarlyStopping):
        def on_train_end(self, trainer: Any, module: Any) -> None:
            if self.stopping_reason_message and "not finite" in self.stopping_reason_message:
                print(TOLD + self.stopping_reason_message)

    stopping = Tell("peer_loss", check_finite=True, patience=10**9, strict=False, check_on_train_epoch_end=True)
    own = given.get("callbacks") or []
    given["callbacks"] = [*(own if isinstance(own, list) else [own]), LogLoss(), stopping]


PEERS: dict[str, tuple[Callable[[dict[str, Any]], None], Callable[[str], bool]]] = {
    "Trainer(detect_anomaly=True)": (detect_anomaly, lambda output: "returned nan values in its" in output),
    "EarlyStopping(check_finite=True)": (check_finite, lambda output: TOLD in output),
}


def install(name: str) -> None:
    """Add a peer to every ``Trainer`` that this process builds."""
    from lightning.pytorch import Trainer

    bare = Trainer.__init__

    @functools.wraps(bare)
    def init(self: Any, *args: Any, **given: Any) -> None:
        PEERS[name][0](given)
        bare(self, *args, **given)

    Trainer.__init__ = init


def told(name: str, case: Case, mended: bool, seed: int, limit: float) -> bool:
    """Whether the peer told a person anything in one run of ``case``."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        shutil.copy(case.path, folder)
        script = (
            f"from benchmarks.faults.peers import install\n\ninstall({name!r})\n\n"
            f"from {case.name} import main\n\nmain({mended}, {seed})\n"
        )
        _, output = execute(Path(folder), script, {}, limit)
    return PEERS[name][1](output)


def compare(programs: list[Case], seeds: int, limit: float) -> list[dict[str, Any]]:
    """Run every peer on every program; print and return the faults that it told and the healthy ones it accused."""
    rows = []
    faulty = [case for case in programs if not case.healthy]
    for name in PEERS:
        found = [told(name, case, False, seed, limit) for case in faulty for seed in range(seeds)]
        accused = [told(name, case, True, seed, limit) for case in programs for seed in range(seeds)]
        print(f"{name:<34} detected {sum(found)} of {len(found)}, accused {sum(accused)} of {len(accused)}", flush=True)
        rows.append(
            {"peer": name, "detected": share(sum(found), len(found)), "accused": share(sum(accused), len(accused))}
        )
    return rows
