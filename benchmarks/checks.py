"""What the checks before training cost, and what those of the data find beside their peers.

    python benchmarks/checks.py cost [--rounds 3]
    python benchmarks/checks.py data [--peer cleanvision=PYTHON] [--peer datalab=PYTHON] [--peer deepchecks=PYTHON]

``cost``: CPU seconds (one thread) of fits with and without ``PreflightCheck`` and ``DataCheck``, all rows in turn; from
the difference, and the time of a step, how many training steps the checks took. Budget: ``standard`` the time of 10
steps and 0.5 s, ``thorough`` that of 60 steps or 10 s.
``data``: fingerprints and copies of one million samples (150 MB, 10 s), the neighbour test on 20,000 x 784 (3 s), and
each rule of the data on digits with a planted fault and on sound data of four kinds: found, accused, CPU seconds a data
set, growth of the peak memory. A peer that is named with the interpreter of an environment that has it is asked the
same of the same data: ``data_peers.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import lightning.pytorch as pl
import numpy as np
import torch
from data_peers import READERS, Splits, peak, read_all
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import DataCheck, PreflightCheck
from lightning_debugkit.core.finding import Finding, Where
from lightning_debugkit.data import duplicates, labels, near_duplicates, neighbours, values
from lightning_debugkit.data.samples_seen import Seen

HERE = Where(0, 0)


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


def halves() -> Splits:
    """Return digits for training and for validation, none in both."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype(np.float32), y[order]
    return {"x": x[:1200], "y": y[:1200], "val": x[1200:], "told": y[1200:], "shape": np.array([1, 8, 8])}


def planted(rule: str) -> dict[str, Splits]:
    """Return digits with the fault of a rule, in some forms."""
    made = halves()
    x, y, val, told = (made[key] for key in ("x", "y", "val", "told"))
    rng = np.random.default_rng(1)

    def joined(copies: Any) -> Splits:
        more = np.concatenate([val, copies.astype(np.float32)])
        return made | {"val": more, "told": np.concatenate([told, y[: len(copies)]])}

    if rule == "train-val-overlap":
        return {"copies": joined(x[:60]), "few copies": joined(x[:12])}
    if rule == "near-duplicates":
        noise = rng.standard_normal((60, 64))
        saved = np.asarray(x[:60] * 255 / 8).round() * 8 / 255
        return {"noise": joined(x[:60] + 0.02 * noise), "fewer shades": joined(saved), "darker": joined(0.95 * x[:60])}
    if rule == "input-shift":
        return {"255": made | {"val": val * 255}, "centred": made | {"val": (val - 0.3) / 0.35}}
    if rule == "class-shift":
        return {"four classes": made | {"val": val[told < 4], "told": told[told < 4]}}
    if rule == "class-imbalance":
        kept, asked = (np.flatnonzero((each != 0) | (np.arange(len(each)) % 10 == 0)) for each in (y, told))
        answers = {"y": (y[kept] == 0).astype(np.int64), "told": (told[asked] == 0).astype(np.int64)}
        return {"one in a hundred": made | {"x": x[kept], "val": val[asked], **answers}}
    if rule == "unshuffled-training-data":
        order = np.argsort(y, kind="stable")
        return {"sorted": made | {"x": x[order], "y": y[order]}}
    return {"shuffled labels": made | {"told": np.random.default_rng(2).permutation(told)}}


def sound() -> dict[str, Splits]:
    """Return data without a fault: digits, rows with columns of few values, windows of a series, smooth pictures."""
    rng = np.random.default_rng(3)
    kinds, numbers = rng.integers(0, 5, (3000, 6)), rng.standard_normal((3000, 2))
    table = np.concatenate([kinds, numbers], 1)
    series = np.convolve(rng.standard_normal(3200), np.ones(12) / 12, "valid")
    windows = np.lib.stride_tricks.sliding_window_view(series, 24)[:3000]
    y, x = np.mgrid[0:16, 0:16]
    place, width = rng.uniform(4, 12, (2, 3000, 1, 1)), rng.uniform(1, 4, (3000, 1, 1))
    blobs = np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / width**2).reshape(3000, 256)
    answers = {
        "table": (numbers[:, 0] > 0).astype(np.int64),
        "windows": (windows[:, -1] > 0).astype(np.int64),
        "smooth pictures": (place[0, :, 0, 0] > 8).astype(np.int64),
    }
    made = {"digits": halves()}
    shapes = {"table": [8], "windows": [24], "smooth pictures": [1, 16, 16]}
    for name, rows in (("table", table), ("windows", windows), ("smooth pictures", blobs)):
        rows, labels = rows.astype(np.float32), answers[name]
        split = {"x": rows[:2000], "y": labels[:2000], "val": rows[2000:], "told": labels[2000:]}
        made[name] = split | {"shape": np.array(shapes[name])}
    return made


RULES = (
    "train-val-overlap", "near-duplicates", "input-shift", "class-shift", "class-imbalance",
    "unshuffled-training-data", "labels-unrelated-to-inputs",
)  # fmt: skip


def kit(rule: str, splits: Splits, folder: Path) -> bool:
    """Tell whether the kit's rule is broken."""
    seen = Seen(), Seen()
    for each, (x, y) in zip(seen, (("x", "y"), ("val", "told")), strict=True):
        inputs = torch.tensor(splits[x]).reshape(-1, *splits["shape"])
        for start in range(0, len(inputs), 32):
            each.take((inputs[start : start + 32], torch.tensor(splits[y][start : start + 32])))
    return any(finding.rule == rule for finding in _findings(rule, *seen))


def _findings(rule: str, one: Seen, other: Seen) -> Iterator[Finding]:
    known, told = one.classes, other.classes
    assert known is not None
    assert told is not None
    if rule == "train-val-overlap":
        yield from duplicates.judge(one.prints, other.prints, True, False, one.is_rich, HERE)
    elif rule == "near-duplicates":
        assert one.thumbnails is not None
        yield from near_duplicates.judge(one.thumbnails, other.thumbnails, len(one.shape) == 1, False, HERE)
    elif rule == "input-shift":
        yield from values.judge(one.values, other.values, HERE)
    elif rule == "unshuffled-training-data":
        yield from labels.judge_order(list(one.by_batch), HERE)
    elif rule == "labels-unrelated-to-inputs":
        assert one.values is not None
        assert other.values is not None
        agreement = neighbours.agreement(one.values, known), neighbours.agreement(other.values, told)
        if agreement[0] is not None and agreement[1] is not None:
            yield from neighbours.judge(agreement[0], agreement[1], HERE)
    else:
        yield from labels.judge_counts(known, told, True, HERE)


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


def alone(*command: str) -> dict[str, Any]:
    """Return what a process of its own printed last."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if done.returncode == 0 and lines else {"broke": done.stderr.strip()[-120:]}


def data(python: dict[str, str]) -> None:
    """Print what is found, accused, and what it takes, rule by rule.

    Args:
        python: The interpreter of each peer that is asked.
    """
    own = [sys.executable, __file__]
    for name in ("million", "neighbour_test"):
        one = alone(*own, name)
        print(f"{name}: {one.get('seconds', 0):.1f} s, {one.get('mb', 0):.0f} MB; {one.get('told', one)}")
    print(f"{'rule':27s}{'reader':13s}{'found':8s}{'accused':9s}{'s a set':9s}{'MB':6s}missed; accused")
    with tempfile.TemporaryDirectory() as folder:
        for rule in RULES:
            asked = {"faulty": planted(rule), "sound": sound()}
            for kind, sets in asked.items():
                Path(folder, rule, kind).mkdir(parents=True)
                for name, splits in sets.items():
                    np.savez(Path(folder, rule, kind, f"{name}.npz"), **splits)
            peers = str(Path(__file__).with_name("data_peers.py"))
            readers = [("kit", [*own, "read_all"])] + [
                (name, [python[name], peers, name]) for name in python if rule in READERS[name][2]
            ]
            for name, command in readers:
                _row(rule, name, command, Path(folder, rule))
                if rule == "near-duplicates":
                    _row(f"{rule}, 20,000", name, command, _large(Path(folder)))


def _large(folder: Path) -> Path:
    """Return a folder with 20,000 pictures of noise, 200 of them in validation and training, a little changed."""
    if not (made := folder / "large" / "faulty").exists():
        made.mkdir(parents=True)
        rng = np.random.default_rng(4)
        x = rng.random((20_000, 256), dtype=np.float32)
        x[-200:] = (x[:200] + 0.02 * rng.standard_normal((200, 256))).clip(0, 1)
        y = np.arange(20_000) % 2
        splits = {"x": x[:15_000], "y": y[:15_000], "val": x[15_000:], "told": y[15_000:]}
        np.savez(made / "noise.npz", **splits, shape=np.array([1, 16, 16]))
    return made.parent


def _row(rule: str, reader: str, command: list[str], folder: Path) -> None:
    files = [path for path in sorted(folder.rglob("*.npz")) if reader != "cleanvision" or _is_pictures(path)]
    got = alone(*command, rule.split(",")[0], *map(str, files))
    if "told" not in got:
        print(f"{rule:27s}{reader:13s}{got}")
        return
    faulty = [path.stem for path in files if path.parent.name == "faulty"]
    told = got["told"]
    accused = [path.stem for path in files if path.stem not in faulty and told[path.stem] is True]
    missed = [name for name in faulty if told[name] is not True]
    broke = {name: each for name, each in told.items() if isinstance(each, str)}
    print(
        f"{rule:27s}{reader:13s}{f'{len(faulty) - len(missed)} of {len(faulty)}':8s}"
        f"{f'{len(accused)} of {len(files) - len(faulty)}':9s}{got['seconds']:<9.2f}{got['mb']:<6.0f}"
        f"{', '.join(missed) or '-'}; {', '.join(accused) or '-'} {broke or ''}"
    )


def _is_pictures(path: Path) -> bool:
    with np.load(path) as splits:
        return len(splits["shape"]) == 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "data", "read_all", "million", "neighbour_test"))
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "cost":
        cost(given.rounds)
    elif given.what == "data":
        data(dict(each.split("=", 1) for each in given.peer))
    elif given.what == "read_all":
        print(json.dumps(read_all(kit, given.rest[0], given.rest[1:])))
    else:
        print(json.dumps({"million": million, "neighbour_test": neighbour_test}[given.what]()))


if __name__ == "__main__":
    main()
