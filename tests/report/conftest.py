"""Run folders to report on, written as the callbacks write them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from declared import as_declared

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.journal import Journal

Writer = Callable[..., Path]

LOSS = Finding(
    rule="nonfinite-loss",
    severity=Severity.ERROR,
    message="loss is inf at step 24: log(0) in training_step, sample 9 of the batch",
    where=Where(epoch=0, step=24, module="box"),
    evidence={
        "loss": math.inf,
        "batch_idx": 24,
        "samples": [9, 12],
        "dataset_indices": [777, 780],
        "op": "aten.log.default",
        "source": "train.py:28: t = torch.log(wh)",
        "parameters": ["box.weight", "box.bias"],
    },
    advice="Sample 9 has a box of zero height: drop such boxes in the Dataset, or clamp the argument of log.",
)
FLOOD = Finding(
    "dead-units", Severity.WARNING, "40 of 64 units never fire", Where(0, 10, module="net.1"), {"share": 0.625}
)
SEED = Finding("seed-not-set", Severity.INFO, "no seed is set", Where(0, 0), advice="Call seed_everything(42) first.")

RUN = {
    "kind": "run",
    "rank": 0,
    "versions": {"lightning_debugkit": "0.1.0", "lightning": "2.6.6", "torch": "2.13.0", "python": "3.11.7"},
    "commit": "abc123def4567890",
    "dirty": True,
    "seed": 42,
    "world_size": 1,
    "started": "2026-11-21T04:00:00+00:00",
    "config": {
        "model": "Net",
        "parameters": 12345,
        "precision": "32-true",
        "max_epochs": 3,
        "optimizers": ["Adam"],
        "accumulate_grad_batches": 1,
    },
}
END = {"kind": "end", "status": "finished", "exception": None, "step": 96, "epoch": 2, "seconds": 12.3, "rank": 0}


@pytest.fixture
def journal(tmp_path: Path) -> Writer:
    """Write findings and events, in this order, into a run folder and return it."""

    def write(*said: Finding | dict[str, Any], folder: Path = tmp_path) -> Path:
        for each in said:
            event = as_declared(each).to_event() if isinstance(each, Finding) else each
            Journal(folder, event.get("rank", event.get("where", {}).get("rank", 0))).append(event)
        return folder

    return write


@pytest.fixture
def rich(journal: Writer) -> Path:
    """A run with all that a report can show."""
    return write_rich(journal)


@pytest.fixture
def large(journal: Writer) -> Path:
    """512 looks at 200 parameters."""
    return write_rich(journal, layers=98, steps=512)


def write_rich(journal: Writer, layers: int = 18, steps: int = 60) -> Path:
    """Write a run of a detector whose loss breaks at step 24, with hostile names among its own."""
    random = np.random.default_rng(0)
    names = [f"backbone.layers.{layer}.{kind}" for layer in range(layers) for kind in ("weight", "bias")]
    names += ["box.weight", "box.bias", "head.<script>alert(1)</script>.weight"]
    folder = journal(RUN, SEED)
    events: list[dict[str, Any]] = []
    for step in range(steps):
        loss = math.inf if step == 24 else math.nan if step > 50 else 40 * math.exp(-step / 9) + random.random() / 9
        norms = {name: float(10 ** (2 - 5 * row / len(names) + random.normal() / 5)) for row, name in enumerate(names)}
        if step == 24:
            norms["box.weight"] = norms["box.bias"] = math.nan
        norms[names[3]] = 0.0
        place = {"epoch": step // 30, "step": step, "rank": 0}
        rate = 1e-3 * min(1.0, (step + 1) / 10)
        events += [
            {"kind": "measure", "name": "loss", "value": loss, **place},
            {"kind": "measure", "name": "gradient-norms", "value": norms, **place},
            {"kind": "measure", "name": "learning-rate", "value": {"Adam": rate, "SGD": rate / 3}, **place},
        ]
    journal(*events)
    dead = [Finding("dead-units", Severity.WARNING, f"{n} is dead", Where(0, 12, module=f"net.{n}")) for n in range(4)]
    journal(LOSS, FLOOD, *dead)
    journal(
        Finding(
            "input-not-normalized",
            Severity.WARNING,
            "inputs of <script>alert('message')</script> have mean 121 and deviation 64",
            Where(0, 3, module="<img src=x onerror=alert(2)>"),
            {"mean": 121.25, "source": "train.py:9: x = '<script>alert(3)</script>' # " + "long " * 40},
            "Divide by 255, then normalise: `Normalize(mean, std)`.",
        ),
    )
    write_samples(folder / "samples" / "step-24.npz")
    (folder / "bundles" / "step-24").mkdir(parents=True)
    return journal(
        {"kind": "artifact", "name": "samples", "path": "samples/step-24.npz", "epoch": 0, "step": 24, "rank": 0,
         "samples": [9, 12], "dataset_indices": [777, 780]},
        {"kind": "artifact", "name": "bundle", "path": "bundles/step-24", "epoch": 0, "step": 24, "rank": 0},
        {"kind": "measure", "name": "a-later-one", "epoch": 0, "step": 50, "rank": 0, "value": [1]},
        {**END, "status": "exception", "exception": {"type": "ValueError", "message": "is <b>inf</b>"}, "step": 60},
    )  # fmt: skip


def write_samples(file: Path) -> None:
    """Write a batch of two samples: a picture with holes, boxes of zero height, features and a label."""
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:32, :32] / 32
    picture = np.stack([np.stack([rows, columns, 1 - rows]), random.random((3, 32, 32))]).astype(np.float32)
    picture[0, 1, 4:9, 20:26] = np.nan
    features = random.normal(size=(2, 40)).astype(np.float32)
    features[1, 33] = np.inf
    boxes = np.array([[[1, 2, 5, 0], [3, 3, 8, 4]], [[0, 0, 9, 9], [2, 1, 4, np.nan]]], dtype=np.float32)
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file, image=picture, digit=random.random((2, 8, 8)), boxes=boxes, features=features, label=np.array([3, 7])
    )
