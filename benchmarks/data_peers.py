"""The checks of data by cleanvision, cleanlab's Datalab and deepchecks, on splits in files: see ``checks.py data``.

    python benchmarks/data_peers.py READER RULE FILE...

Needs NumPy and the peer alone, so that each can have an environment of its own (deepchecks 0.19.1 does not import
with scikit-learn 1.9). Each FILE is an ``.npz`` with ``x`` (n, d), ``y`` (n,) of training, ``val`` and ``told`` of
validation, and ``shape`` of one sample. Prints as JSON which files are accused of RULE, and what that took.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Splits = Mapping[str, NDArray[Any]]


def save_pictures(splits: Splits, folder: Path) -> None:
    """Write the pictures of both splits, as cleanvision reads them: that is not counted."""
    from PIL import Image

    every = np.concatenate([splits["x"], splits["val"]]).reshape(-1, *splits["shape"][-2:])
    for at, row in enumerate(every):
        pixels = (255 * row.clip(0, 1)).round().astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(folder / f"{at:05d}.png")


def cleanvision(rule: str, splits: Splits, folder: Path) -> bool:
    """Tell whether cleanvision sees near or exact duplicates among the pictures of both splits."""
    from cleanvision import Imagelab

    kind = {"near-duplicates": "near_duplicates", "train-val-overlap": "exact_duplicates"}[rule]
    lab = Imagelab(data_path=str(folder))
    lab.find_issues({kind: {}}, n_jobs=1)
    return bool(lab.issues[f"is_{kind}_issue"].any())


def datalab(rule: str, splits: Splits, folder: Path) -> bool:
    """Tell whether cleanlab's Datalab sees an issue of the kind in training, or copies in the two splits as one."""
    from cleanlab import Datalab

    kind = {
        "near-duplicates": "near_duplicate",
        "train-val-overlap": "near_duplicate",
        "unshuffled-training-data": "non_iid",
        "class-imbalance": "class_imbalance",
    }[rule]
    kept = ("x", "val") if kind == "near_duplicate" else ("x",)
    labels = np.concatenate([splits["y" if name == "x" else "told"] for name in kept])
    lab = Datalab(data={"y": labels}, label_name="y", verbosity=0)
    lab.find_issues(features=np.concatenate([splits[name] for name in kept]), issue_types={kind: {}})
    return bool(lab.get_issue_summary().set_index("issue_type")["num_issues"].get(kind, 0))


def deepchecks(rule: str, splits: Splits, folder: Path) -> bool:
    """Tell whether the check of deepchecks fails its own default condition."""
    import pandas as pd
    from deepchecks.tabular import Dataset, checks

    one, other = (
        Dataset(pd.DataFrame(splits[x]).rename(columns=str).assign(label=splits[y]), label="label", cat_features=[])
        for x, y in (("x", "y"), ("val", "told"))
    )
    if rule == "class-imbalance":
        result = checks.ClassImbalance().add_condition_class_ratio_less_than().run(one)
    else:
        check = {
            "train-val-overlap": checks.TrainTestSamplesMix().add_condition_duplicates_ratio_less_or_equal(),
            "input-shift": checks.FeatureDrift().add_condition_drift_score_less_than(),
            "class-shift": checks.LabelDrift().add_condition_drift_score_less_than(),
        }[rule]
        result = check.run(one, other)
    return not result.passed_conditions()


# Pictures alone are for cleanvision; rules without an entry have no counterpart there.
Reader = Callable[[str, Splits, Path], bool]
READERS: dict[str, tuple[Reader, str, tuple[str, ...]]] = {
    "cleanvision": (cleanvision, "cleanvision", ("near-duplicates", "train-val-overlap")),
    "datalab": (
        datalab,
        "cleanlab.datalab.datalab",
        ("near-duplicates", "train-val-overlap", "unshuffled-training-data", "class-imbalance"),
    ),
    "deepchecks": (
        deepchecks,
        "deepchecks.tabular.checks",
        ("train-val-overlap", "input-shift", "class-shift", "class-imbalance"),
    ),
}


def peak() -> float:
    """Return the largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_all(read: Reader, rule: str, files: list[str]) -> dict[str, Any]:
    """Return what one reader says of each file, CPU seconds a file, and by how much memory grew."""
    warnings.simplefilter("ignore")
    told: dict[str, bool | str] = {}
    before, seconds = peak(), 0.0
    for file in files:
        with tempfile.TemporaryDirectory() as folder, np.load(file) as held, contextlib.redirect_stdout(io.StringIO()):
            splits = dict(held)
            if read is cleanvision:
                save_pictures(splits, Path(folder))
            began = time.process_time()
            try:
                told[Path(file).stem] = read(rule, splits, Path(folder))
            except Exception as error:  # a peer that breaks on the data is told of, too
                told[Path(file).stem] = f"{type(error).__name__}: {error}"[:100]
            seconds += time.process_time() - began
    return {"told": told, "seconds": seconds / len(files), "mb": peak() - before}


if __name__ == "__main__":
    READ, MODULE, _ = READERS[sys.argv[1]]
    importlib.import_module(MODULE)  # not counted
    print(json.dumps(read_all(READ, sys.argv[2], sys.argv[3:])))
