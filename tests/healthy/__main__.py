"""Print, for every program (or those named): seconds, optimiser steps, first and last value of what it logs."""

import logging
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from healthy import PROGRAMS, fit


class Curves(Callback):
    """Every value the module logs, step by step."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: object) -> None:
        for name, value in trainer.logged_metrics.items():
            self.values[name].append(float(value))


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for name in names or PROGRAMS:
        curves = Curves()
        with tempfile.TemporaryDirectory() as root:
            start = time.perf_counter()
            trainer = fit(PROGRAMS[name](), Path(root), curves)
            seconds = time.perf_counter() - start
        told = ", ".join(f"{key} {fmean(v[:3]):.4g} -> {fmean(v[-10:]):.4g}" for key, v in curves.values.items())
        print(f"{name:32} {seconds:5.1f} s {trainer.global_step:5d} steps   {told}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
