"""What error analysis costs, and what it finds: the kit beside scikit-learn, torchmetrics, fastai's way and cleanlab.

    python benchmarks/errors.py cost [--samples 1000000] [--rounds 3] [--only confusion]
    python benchmarks/errors.py found --folder FOLDER

``cost``: each row in a process of its own, all rows in turn, round after round; printed are medians of the CPU seconds
(one thread) and of the peak memory above what the process held before, without the making of the data. Where a peer
takes the whole input at once, its input is made beforehand and is not counted either. Budget: the kit is the fastest of
each table, and gathers 1,000,000 samples of 1,000 classes in less memory than one float32 batch of 65,536 rows, 262 MB.
``found``: precision and recall of label issues on MNIST's test set, judged by people; FOLDER holds
``mnist_test_set_pyx.npy``, ``mnist_test_set_original_labels.npy`` and ``mnist_mturk.json`` of cleanlab/label-errors.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from lightning_debugkit.stats.calibration import Calibration
from lightning_debugkit.stats.confused_pairs import merge_candidates, most_confused
from lightning_debugkit.stats.confusion import Confusion
from lightning_debugkit.stats.label_issues import label_issues
from lightning_debugkit.stats.per_class import per_class
from lightning_debugkit.stats.sample_records import Records
from lightning_debugkit.stats.top_losses import TopLosses
from lightning_debugkit.stats.training_dynamics import Dynamics
from lightning_debugkit.stats.weak_slices import scan_slices

_BLOCK = 8_192
_ONE_BATCH = 262  # MB: 65,536 rows of 1,000 float32


class Data:
    """Scores of samples of which a tenth is mistaken for the next class, and a twentieth is labelled so, by blocks."""

    def __init__(self, samples: int, classes: int) -> None:
        self.samples, self.classes = samples, classes
        self._noise = torch.randn(_BLOCK, classes, generator=torch.Generator().manual_seed(0))
        self._scores = torch.empty_like(self._noise)

    def blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Logits, labels, and whether these are wrong; the logits are written over by those of the next block."""
        make = torch.Generator().manual_seed(1)
        for start in range(0, self.samples, _BLOCK):
            n = min(_BLOCK, self.samples - start)
            truth = torch.randint(self.classes, (n,), generator=make)
            chance = torch.rand(n, generator=make)
            other = (truth + 1) % self.classes
            self._scores.copy_(self._noise.roll(int(torch.randint(_BLOCK, (), generator=make)), 0))
            rows = torch.arange(n)
            self._scores[rows, truth] += torch.where(chance < 0.1, 6.0, 10.0)
            self._scores[rows, other] += 5.0
            wrong = torch.rand(n, generator=make) < 0.05
            yield self._scores[:n], torch.where(wrong, other, truth), wrong

    def judged(self, indices: Sequence[int]) -> str:
        """How many label issues there are, and how good."""
        wrong = torch.cat([wrong for *_, wrong in self.blocks()])
        hits = int(wrong[torch.as_tensor(indices)].sum())
        return f"{len(indices)}: precision {hits / len(indices):.4f}, recall {hits / int(wrong.sum()):.4f}"

    def classes_only(self) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [(target, scores.argmax(1)) for scores, target, _ in self.blocks()]
        target, predicted = (torch.cat(column) for column in zip(*parts, strict=True))
        return target, predicted

    def probabilities(self) -> tuple[np.ndarray, np.ndarray]:
        table, labels = np.empty((self.samples, self.classes), np.float32), []
        for at, (scores, target, _) in enumerate(self.blocks()):
            table[at * _BLOCK : at * _BLOCK + len(scores)] = scores.softmax(1).numpy()
            labels.append(target)
        return table, torch.cat(labels).numpy()


class Clock:
    """CPU seconds and the peak of memory while it runs."""

    def __init__(self) -> None:
        self.seconds = self.megabytes = 0.0
        # Forgets the peak so far.
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._memory("VmRSS")

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._start
        self.megabytes = (self._memory("VmHWM") - self._before) / 1e3

    @staticmethod
    def _memory(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])


def counted_by_us(data: Data, batch: int) -> tuple[Clock, Any]:
    target, predicted = data.classes_only()
    parts = list(zip(target.split(batch), predicted.split(batch), strict=True))
    clock, confusion = Clock(), Confusion(data.classes)
    with clock:
        for one, other in parts:
            confusion.update(one, other)
        total = confusion.correct
    return clock, total


def counted_by_torchmetrics(data: Data, batch: int) -> tuple[Clock, Any]:
    from torchmetrics.classification import MulticlassConfusionMatrix

    target, predicted = data.classes_only()
    parts = list(zip(target.split(batch), predicted.split(batch), strict=True))
    clock, metric = Clock(), MulticlassConfusionMatrix(data.classes)
    with clock:
        for one, other in parts:
            metric.update(other, one)
        total = int(metric.compute().trace())
    return clock, total


def counted_by_sklearn(data: Data, batch: int) -> tuple[Clock, Any]:
    from sklearn.metrics import confusion_matrix

    target, predicted = (column.numpy() for column in data.classes_only())
    clock = Clock()
    with clock:
        total = int(np.trace(confusion_matrix(target, predicted, labels=range(data.classes))))
    return clock, total


def counted_by_fastai(data: Data, batch: int) -> tuple[Clock, Any]:
    """``ClassificationInterpretation.confusion_matrix`` of fastai 2.8."""
    if data.classes > 10:
        raise MemoryError(f"asks for {data.classes**2 * data.samples / 1e9:,.0f} GB")
    target, predicted = data.classes_only()
    clock, labels = Clock(), torch.arange(data.classes)
    with clock:
        found = ((predicted == labels[:, None]) & (target == labels[:, None, None])).long().sum(2)
    return clock, int(found.trace())


def issues_by_us(data: Data, batch: int) -> tuple[Clock, Any]:
    clock, records = Clock(), Records()
    for scores, target, _ in data.blocks():
        parts = list(zip(scores.split(batch), target.split(batch), strict=True))
        with clock:
            for one, other in parts:
                records.update(one, other)
    with clock:
        found = label_issues(records)
    return clock, f"{data.judged(found.indices)}, uncertain {found.uncertain}"


def issues_by_us_in_hand(data: Data, batch: int) -> tuple[Clock, Any]:
    """From the same probabilities as cleanlab, to find the same."""
    table, labels = data.probabilities()
    clock, records = Clock(), Records()
    with clock:
        for at in range(0, len(labels), batch):
            part = slice(at, at + batch)
            records.update(torch.from_numpy(table[part]), torch.from_numpy(labels[part]), is_logits=False)
        found = label_issues(records)
    return clock, f"{data.judged(found.indices)}, uncertain {found.uncertain}"


def issues_by_cleanlab(data: Data, batch: int) -> tuple[Clock, Any]:
    from cleanlab.filter import find_label_issues

    table, labels = data.probabilities()
    clock = Clock()
    with clock:
        found = find_label_issues(labels, table, n_jobs=1, return_indices_ranked_by="self_confidence")
    return clock, data.judged(found)


def issues_by_cleanlab_in_batches(data: Data, batch: int) -> tuple[Clock, Any]:
    from cleanlab.experimental.label_issues_batched import find_label_issues_batched

    table, labels = data.probabilities()
    clock = Clock()
    with clock:
        found = find_label_issues_batched(labels=labels, pred_probs=table, n_jobs=1, verbose=False)
    return clock, data.judged(found)


def everything(data: Data, batch: int) -> tuple[Clock, Any]:
    """One pass: confusion, records, calibration, top losses; then all that is made of them."""
    clock, confusion, records = Clock(), Confusion(data.classes), Records()
    calibration, top, first = Calibration(), TopLosses(25), 0
    for scores, target, _ in data.blocks():
        parts = list(zip(scores.split(batch), target.split(batch), strict=True))
        with clock:
            for one, other in parts:
                index = torch.arange(first, first + len(other))
                found = records.update(one, other, index)
                confusion.update(other, found.predicted)
                calibration.update(found.confidence, found.predicted == other)
                top.update(found.loss, other, found.predicted, index, found.probability, found.confidence)
                first += len(other)
    with clock:
        made = [most_confused(confusion, most=1_000), merge_candidates(confusion), per_class(confusion)]
        made += [calibration.ece(), top.sorted(), label_issues(records)]
    return clock, len(made)


def slices(data: Data, batch: int) -> tuple[Clock, Any]:
    rng = np.random.default_rng(0)
    columns = {f"column {k}": rng.integers(0, 8, data.samples) for k in range(10)}
    hard = (columns["column 0"] == 1) & (columns["column 1"] == 2)
    wrong = rng.random(data.samples) < np.where(hard, 0.3, 0.1)
    clock = Clock()
    with clock:
        found = scan_slices(columns, wrong).slices
    return clock, "; ".join(str(one.conditions) for one in found)


def dynamics(data: Data, batch: int) -> tuple[Clock, Any]:
    order, p = torch.randperm(data.samples), torch.rand(batch)
    clock, sums = Clock(), Dynamics(data.samples)
    with clock:
        for index in order.split(batch):
            part = p[: len(index)]
            sums.update(index, part, part > 0.5, part)
    return clock, int(sums.course().seen.sum())


Row = Callable[[Data, int], tuple[Clock, Any]]
TABLES: dict[str, dict[str, tuple[Row, tuple[int, ...]]]] = {
    "confusion": {
        "kit": (counted_by_us, (128, 1024)),
        "torchmetrics": (counted_by_torchmetrics, (128, 1024)),
        "scikit-learn, at once": (counted_by_sklearn, (0,)),
        "fastai's expression, at once": (counted_by_fastai, (0,)),
    },
    "label issues": {
        "kit, from logits": (issues_by_us, (1024,)),
        "kit, from probabilities": (issues_by_us_in_hand, (1024,)),
        "cleanlab": (issues_by_cleanlab, (0,)),
        "cleanlab, batched": (issues_by_cleanlab_in_batches, (0,)),
    },
    "all together": {"kit": (everything, (128, 1024))},
    "weak slices, 10 columns": {"kit": (slices, (0,))},
    "training dynamics, an epoch": {"kit": (dynamics, (256,))},
}
_NARROW = ("weak slices, 10 columns", "training dynamics, an epoch")


def measured(table: str, row: str, samples: int, classes: int, batch: int) -> dict[str, Any]:
    """Run one row in a process of its own."""
    command = [sys.executable, __file__, "row", table, row, str(samples), str(classes), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["killed"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    function = TABLES[options.table][options.row][0]
    clock, found = function(Data(options.samples, options.classes), options.batch)
    print(json.dumps({"seconds": clock.seconds, "megabytes": clock.megabytes, "found": found}))


def cost(options: argparse.Namespace) -> None:
    rows = [
        (table, name, classes, batch)
        for table, functions in TABLES.items()
        for classes in options.classes
        if table not in _NARROW or classes == 10
        for name, (_, batches) in functions.items()
        for batch in batches
        if options.only in table
    ]
    results: dict[tuple[str, str, int, int], list[dict[str, Any]]] = {key: [] for key in rows}
    for _ in range(options.rounds):
        for key in rows:
            table, name, classes, batch = key
            results[key].append(measured(table, name, options.samples, classes, batch))
    print("| what | by | classes | batch | CPU s | MB | found |\n|---|---|---|---|---|---|---|")
    for (table, name, classes, batch), runs in results.items():
        good = [run for run in runs if "error" not in run]
        cells: list[object] = [table, name, classes, batch or ""]
        if good:
            cells += [
                f"{median(run[unit] for run in good):.{digits}f}" for unit, digits in (("seconds", 2), ("megabytes", 0))
            ]
            cells.append(good[0]["found"])
        else:
            cells += ["-", "-", runs[0]["error"]]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def found(options: argparse.Namespace) -> None:
    """MNIST: an image's label is wrong if most of the people asked did not choose it."""
    from cleanlab.filter import find_label_issues

    table = np.load(options.folder / "mnist_test_set_pyx.npy").astype(np.float32)
    labels = np.load(options.folder / "mnist_test_set_original_labels.npy").astype(np.int64)
    judged = json.loads((options.folder / "mnist_mturk.json").read_text())
    wrong = {item["id"] for item in judged if 2 * item["mturk"]["given"] < sum(item["mturk"].values())}
    asked = {item["id"] for item in judged}
    print(f"{len(labels)} images, {len(asked)} of them judged, {len(wrong)} labels wrong\n")
    print("| by | issues | judged | wrong | precision of judged | recall | of the first 25, wrong |")
    print("|---|---|---|---|---|---|---|")
    records = Records()
    records.update(torch.from_numpy(table), torch.from_numpy(labels), is_logits=False)
    ours = label_issues(records).indices.tolist()
    theirs = find_label_issues(labels, table, n_jobs=1, return_indices_ranked_by="self_confidence").tolist()
    for name, indices in (("kit", ours), ("cleanlab", theirs)):
        hits, seen = len(wrong.intersection(indices)), len(asked.intersection(indices))
        first = len(wrong.intersection(indices[:25]))
        cells = [name, len(indices), seen, hits, f"{hits / max(seen, 1):.3f}", f"{hits / len(wrong):.3f}", first]
        print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    kind = kinds.add_parser("cost")
    kind.add_argument("--samples", type=int, default=1_000_000)
    kind.add_argument("--classes", type=int, nargs="+", default=[10, 1_000])
    kind.add_argument("--rounds", type=int, default=3)
    kind.add_argument("--only", default="", help="tables whose name holds this")
    kind.set_defaults(run=cost)
    kind = kinds.add_parser("found")
    kind.add_argument("--folder", type=Path, required=True)
    kind.set_defaults(run=found)
    kind = kinds.add_parser("row")
    for name in ("table", "row"):
        kind.add_argument(name)
    for name in ("samples", "classes", "batch"):
        kind.add_argument(name, type=int)
    kind.set_defaults(run=row)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
