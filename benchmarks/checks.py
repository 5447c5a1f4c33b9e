"""What the checks before training cost, and what those of the data find beside their peers.

    python benchmarks/checks.py cost [--rounds 3]
    python benchmarks/checks.py data [--peers]

``cost``: CPU seconds (one thread) of fits with and without ``PreflightCheck`` and ``DataCheck``, all rows in turn; from
the difference, and the time of a step, how many training steps the checks took. Budget: ``standard`` the time of 10
steps and 0.5 s, ``thorough`` that of 60 steps or 10 s.
``data``: fingerprints and copies of one million samples (150 MB, 10 s), the neighbour test on 20,000 x 784 (3 s), and
each rule of the data on digits with a planted fault and without: found, accused, seconds, peak memory. With ``--peers``
the same data go through cleanvision (near duplicates), cleanlab's Datalab (near duplicates, non-iid order, class
balance) and deepchecks (leaks, drift, class balance), as far as they are installed; each has a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import DataCheck, PreflightCheck
from lightning_debugkit.core.finding import Where
from lightning_debugkit.data import duplicates, labels, near_duplicates, neighbours, values
from lightning_debugkit.data.seen import Seen

HERE = Where(0, 0)
Split = tuple[torch.Tensor, np.ndarray[Any, Any]]


class Net(pl.LightningModule):
    """A perceptron of a million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 10))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-3)


SETTINGS: dict[str, Callable[[], list[pl.Callback]]] = {
    "none": list,
    "standard": lambda: [PreflightCheck(), DataCheck()],
    "thorough": lambda: [PreflightCheck(overfit_batch=True), DataCheck(baseline=True)],
}


def fit_seconds(name: str, steps: int) -> float:
    """Return the CPU seconds of a fit of so many steps of 128 samples."""
    make = torch.Generator().manual_seed(0)
    x = torch.randn(steps * 128, 784, generator=make)
    y = x[:, :10].argmax(1)
    loaders = DataLoader(TensorDataset(x, y), 128), DataLoader(TensorDataset(x[:1280], y[:1280]), 128)
    pl.seed_everything(0, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, default_root_dir=folder, callbacks=SETTINGS[name](),
        )  # fmt: skip
        began = time.process_time()
        trainer.fit(Net(), *loaders)
        return time.process_time() - began


def cost(rounds: int) -> None:
    """Print the cost of the checks in training steps."""
    fit_seconds("standard", 60)  # imports and first calls
    taken: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for name in SETTINGS:
            taken.setdefault((name, 100), []).append(fit_seconds(name, 100))
        taken.setdefault(("none", 300), []).append(fit_seconds("none", 300))
    bare = median(taken["none", 100])
    step = (median(taken["none", 300]) - bare) / 200
    print(f"a step {1000 * step:.1f} ms")
    for name in list(SETTINGS)[1:]:
        more = median(taken[name, 100]) - bare
        print(f"{name:10s} {more:6.2f} s more, the time of {more / step:5.0f} steps")


def halves() -> tuple[Split, Split]:
    """Return digits for training and for validation, none in both."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    pixels = torch.tensor(x[order] / 16, dtype=torch.float32)
    return (pixels[:1200], y[order][:1200]), (pixels[1200:], y[order][1200:])


def planted(rule: str) -> tuple[Split, Split]:
    """Return the same with one fault."""
    (x, y), (val, told) = halves()
    noise = torch.randn(60, 64, generator=torch.Generator().manual_seed(1))
    if rule == "train-val-overlap":
        val, told = torch.cat([val, x[:60]]), np.concatenate([told, y[:60]])
    elif rule == "near-duplicates":
        val, told = torch.cat([val, x[:60] + 0.02 * noise]), np.concatenate([told, y[:60]])
    elif rule == "input-shift":
        val = val * 255
    elif rule == "class-shift":
        val, told = val[told < 4], told[told < 4]
    elif rule == "class-imbalance":
        kept = np.flatnonzero((y == 0) | (np.arange(len(y)) % 130 == 0))
        x, y = x[kept], (y[kept] != 0).astype(np.int64)
    elif rule == "unshuffled-training-data":
        order = np.argsort(y, kind="stable")
        x, y = x[order], y[order]
    elif rule == "labels-unrelated-to-inputs":
        told = np.random.default_rng(2).permutation(told)
    return (x, y), (val, told)


RULES = (
    "train-val-overlap", "near-duplicates", "input-shift", "class-shift", "class-imbalance",
    "unshuffled-training-data", "labels-unrelated-to-inputs",
)  # fmt: skip


def kit(train: Split, val: Split) -> set[str]:
    """Return what the kit's rules say of two splits."""
    seen = Seen(), Seen()
    for each, (x, y) in zip(seen, (train, val), strict=True):
        for start in range(0, len(x), 32):
            each.take((x[start : start + 32], torch.tensor(y[start : start + 32])))
    one, other = seen
    known, told = one.classes, other.classes
    inputs, valued = one.values, other.values
    assert inputs is not None
    assert valued is not None
    assert known is not None
    assert told is not None
    found = [
        *duplicates.judge(one.prints, other.prints, True, False, one.is_rich, HERE),
        *labels.judge_order(list(one.by_batch), HERE),
        *labels.judge_counts(known, told, True, HERE),
        *values.judge(inputs, valued, HERE),
        *near_duplicates.judge(one.thumbnails, other.thumbnails, len(one.shape) == 1, False, HERE),
    ]
    agreement = neighbours.agreement(inputs, known), neighbours.agreement(valued, told)
    if agreement[0] is not None and agreement[1] is not None:
        found += neighbours.judge(agreement[0], agreement[1], HERE)
    return {finding.rule for finding in found}


def cleanvision(train: Split, val: Split) -> set[str]:
    """Return near and exact duplicates that cleanvision sees among the pictures of both splits."""
    from cleanvision import Imagelab
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        for at, row in enumerate(torch.cat([train[0], val[0]])):
            pixels = (255 * row.clamp(0, 1)).round().to(torch.uint8).reshape(8, 8).numpy()
            Image.fromarray(pixels).resize((64, 64)).save(Path(folder) / f"{at:05d}.png")
        lab = Imagelab(data_path=folder)
        lab.find_issues({"near_duplicates": {}, "exact_duplicates": {}}, n_jobs=1)
    counts = {kind: int(lab.issues[f"is_{kind}_issue"].sum()) for kind in ("near_duplicates", "exact_duplicates")}
    names = {"near_duplicates": "near-duplicates", "exact_duplicates": "train-val-overlap"}
    return {names[kind] for kind, count in counts.items() if count}


def datalab(train: Split, val: Split) -> set[str]:
    """Return what cleanlab's Datalab says of the two splits in one, its issues by the names of our rules."""
    from cleanlab import Datalab

    features = torch.cat([train[0], val[0]]).numpy()
    every = np.concatenate([train[1], val[1]])
    lab = Datalab(data={"y": every}, label_name="y", verbosity=0)
    lab.find_issues(features=features, issue_types={"near_duplicate": {}, "non_iid": {}, "class_imbalance": {}})
    summary = lab.get_issue_summary().set_index("issue_type")
    names = {
        "near_duplicate": ("near-duplicates", "train-val-overlap"),
        "non_iid": ("unshuffled-training-data", "class-shift", "input-shift"),
        "class_imbalance": ("class-imbalance",),
    }
    return {name for kind, told in names.items() if summary["num_issues"].get(kind, 0) for name in told}


def deepchecks(train: Split, val: Split) -> set[str]:
    """Return which checks of deepchecks fail their own default conditions, by the names of our rules."""
    import pandas as pd
    from deepchecks.tabular import Dataset
    from deepchecks.tabular.checks import ClassImbalance, FeatureDrift, LabelDrift, TrainTestSamplesMix

    sets = [Dataset(pd.DataFrame(x.numpy()).assign(label=y), label="label", cat_features=[]) for x, y in (train, val)]
    checks = {
        "train-val-overlap": TrainTestSamplesMix().add_condition_duplicates_ratio_less_or_equal(),
        "input-shift": FeatureDrift().add_condition_drift_score_less_than(),
        "class-shift": LabelDrift().add_condition_drift_score_less_than(),
        "class-imbalance": ClassImbalance().add_condition_class_ratio_less_than(),
    }
    told = set()
    for rule, check in checks.items():
        result = check.run(sets[0]) if rule == "class-imbalance" else check.run(*sets)
        told |= {rule} if not result.passed_conditions() else set()
    return told


READERS: dict[str, tuple[Callable[[Split, Split], set[str]], tuple[str, ...]]] = {
    "kit": (kit, RULES),
    "cleanvision": (cleanvision, ("near-duplicates", "train-val-overlap")),
    "datalab": (datalab, ("near-duplicates", "train-val-overlap", "unshuffled-training-data", "class-imbalance")),
    "deepchecks": (deepchecks, ("train-val-overlap", "input-shift", "class-shift", "class-imbalance")),
}


def peak() -> float:
    """Return the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_all(reader: str) -> dict[str, Any]:
    """Return what one reader says of each fault and of sound data: to be called in a process of its own."""
    read, named = READERS[reader]
    warnings.simplefilter("ignore")
    told: dict[str, list[str]] = {}
    before, began = peak(), 0.0
    for rule in ("", *named):
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                told[rule] = sorted(read(*planted(rule)))
        except ImportError as error:
            return {"missing": str(error)}
        except Exception as error:  # a peer that breaks on the data is told of, too
            return {"broke": f"{type(error).__name__}: {error}"[:200]}
        began = began or time.process_time()  # imports are in the first, and not counted
    return {"told": told, "seconds": (time.process_time() - began) / len(named), "mb": peak() - before}


def million() -> dict[str, Any]:
    """Return what it costs to take and compare one million samples of 64 numbers: to be called in its own process."""
    make = torch.Generator().manual_seed(0)
    seen = Seen(1_000_000)
    seconds = 0.0
    block = torch.rand(1000, 64, generator=make)
    seen.take((block, torch.zeros(1000, dtype=torch.long)))
    seen = Seen(1_000_000)
    before = peak()
    for at in range(1000):
        block = torch.rand(1000, 64, generator=make) if at % 10 else block
        began = time.process_time()
        seen.take((block, torch.zeros(1000, dtype=torch.long)))
        seconds += time.process_time() - began
    began = time.process_time()
    found = list(duplicates.judge(seen.prints, seen.prints[:1000], True, False, seen.is_rich, HERE))
    seconds += time.process_time() - began
    return {"told": [one.message for one in found], "seconds": seconds, "mb": peak() - before}


def neighbour_test() -> dict[str, Any]:
    """Return what the neighbour test takes for 20,000 samples of 784 numbers: to be called in its own process."""
    make = torch.Generator().manual_seed(0)
    x = torch.rand(20_000, 784, generator=make)
    kinds = np.arange(20_000) % 10
    x += torch.tensor(kinds, dtype=torch.float32)[:, None] / 10
    before, began = peak(), time.process_time()
    found = neighbours.agreement(x, kinds)
    return {"told": [str(found)], "seconds": time.process_time() - began, "mb": peak() - before}


def alone(*arguments: str) -> dict[str, Any]:
    """Return what a process of its own printed last."""
    done = subprocess.run(
        [sys.executable, __file__, *arguments], capture_output=True, text=True, timeout=280, check=False
    )
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else {"broke": done.stderr.strip()[-120:]}


def data(has_peers: bool) -> None:
    """Print what is found, accused, and what it takes."""
    for name in ("million", "neighbour_test"):
        one = alone(name)
        print(f"{name}: {one.get('seconds', 0):.1f} s, {one.get('mb', 0):.0f} MB; {one.get('told', one)}")
    for reader in READERS if has_peers else ("kit",):
        found = alone("read_all", reader)
        if "told" not in found:
            print(f"{reader}: {found}")
            continue
        named = READERS[reader][1]
        hits = [rule for rule in named if rule in found["told"][rule]]
        accused = sorted(set(found["told"][""]) & set(named))
        print(f"{reader}: {len(hits)} of {len(named)}, {found['seconds']:.2f} s a data set, {found['mb']:.0f} MB")
        print(f"    not found: {', '.join(rule for rule in named if rule not in hits) or 'none'}")
        print(f"    accused in sound data: {', '.join(accused) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "data", "read_all", "million", "neighbour_test"))
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "cost":
        cost(given.rounds)
    elif given.what == "data":
        data(given.peers)
    else:
        called: dict[str, Callable[..., dict[str, Any]]] = {
            "read_all": read_all,
            "million": million,
            "neighbour_test": neighbour_test,
        }
        print(json.dumps(called[given.what](*given.rest)))


if __name__ == "__main__":
    main()
