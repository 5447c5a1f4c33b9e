"""Checks of a module for tests: does it train, on a copy, without a finding?"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.journal import read_journal

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

# Extra passes are made in fits of at least 50 steps, and wiring is judged within the first 30.
STEPS = 60


def check(
    module: LightningModule,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    *,
    datamodule: LightningDataModule | None = None,
    steps: int = STEPS,
    ignore: Sequence[str] = (),
    folder: Path | None = None,
    **trainer: Any,
) -> list[Finding]:
    """Train a copy of ``module`` for some steps under the kit and return what it finds, of any severity, causes first.

    The module itself, its data and the random state of the process are left as they are; nothing is logged and no
    checkpoint is written.

    Args:
        module: What to train; it must be one that `copy.deepcopy` can copy.
        train_dataloaders: As for ``Trainer.fit``.
        val_dataloaders: As for ``Trainer.fit``.
        datamodule: As for ``Trainer.fit``, in place of loaders.
        steps: Optimizer steps; data that are shorter are gone through again.
        ignore: Names of rules that are left out.
        folder: Where the run folder is made, a temporary one if ``None``.
        **trainer: Further arguments of the Trainer, such as ``precision="bf16-mixed"``.

    Raises:
        ValueError: ``ignore`` names no rule.
        Exception: Whatever the training raises.
    """
    loaders = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders, "datamodule": datamodule}
    found, failure = watched(module, loaders, steps, ignore, folder, **trainer)
    if failure is not None:
        raise failure
    return found


def watched(
    module: LightningModule,
    data: Mapping[str, Any],
    steps: int = STEPS,
    ignore: Sequence[str] = (),
    folder: Path | None = None,
    **trainer: Any,
) -> tuple[list[Finding], Exception | None]:
    """Return what `check` finds, and what the training raised; ``data`` is what ``Trainer.fit`` gets of them."""
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers.logger import DummyLogger
    from lightning.pytorch.utilities.seed import isolate_rng

    from lightning_debugkit.core.compat import counterpart_of
    from lightning_debugkit.core.reporting import check as check_arguments
    from lightning_debugkit.data.callback import DataCheck
    from lightning_debugkit.monitors.activations.callback import ActivationMonitor
    from lightning_debugkit.monitors.callback import GradientAnomalyDetector
    from lightning_debugkit.monitors.clipping.callback import GradientClippingMonitor
    from lightning_debugkit.preflight.callback import PreflightCheck
    from lightning_debugkit.report.finding_order import findings_in_order

    check_arguments("check", None, "none", ignore)
    # What is found is returned, and a page in a temporary folder is gone when it could be read.
    quiet = mock.patch.object(logging.getLogger("lightning_debugkit"), "disabled", True)
    with tempfile.TemporaryDirectory(prefix="lightning-debugkit-check-") as temporary, isolate_rng(), quiet:
        root = Path(folder or temporary)
        watchers: list[Any] = [
            GradientAnomalyDetector(action="warn", bundle=False),
            PreflightCheck(overfit_batch=True),
            DataCheck(baseline=True),
            GradientClippingMonitor(),
            ActivationMonitor(every_n_steps=10),
        ]
        options: dict[str, Any] = {
            "accelerator": "auto",
            "devices": 1,
            "max_epochs": -1,
            "max_steps": steps,
            "limit_val_batches": 50,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": root,
        }
        fit = counterpart_of(Trainer, module)(callbacks=watchers, **{**options, **trainer})
        fit.loggers = [DummyLogger()]  # steps that write to `self.logger.experiment` write to nothing
        before = set(root.rglob("journal-0.jsonl"))
        failure: Exception | None = None
        try:
            fit.fit(copy.deepcopy(module), **data)
        except Exception as error:
            failure = error
        journals = sorted(set(root.rglob("journal-0.jsonl")) - before)
        found = [finding for journal in journals for finding in read_journal(journal).findings]
    return findings_in_order(finding for finding in found if finding.rule not in ignore), failure


def assert_trains(
    module: LightningModule, train_dataloaders: Any = None, val_dataloaders: Any = None, **options: Any
) -> None:
    """Raise ``AssertionError`` with the findings if a copy of ``module`` does not train as it should.

    For pytest: one call in place of the tests that people write by hand: a step changes what should change, the loss is
    not 0 and falls, frozen weights stay, predictions depend on the input and on nothing else.

    Args:
        module: What to train.
        train_dataloaders: As for ``Trainer.fit``.
        val_dataloaders: As for ``Trainer.fit``.
        **options: Those of `check`: ``datamodule``, ``steps``, ``ignore``, and arguments of the Trainer.

    Raises:
        AssertionError: There are findings of ``warning`` or above; of a training that raised, with what it raised as
            the cause.
        ValueError: ``ignore`` names no rule.
        Exception: Whatever the training raises, where nothing was found before.
    """
    loaders = {"train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders}
    found, failure = watched(module, {**loaders, "datamodule": options.pop("datamodule", None)}, **options)
    found = [finding for finding in found if finding.severity >= Severity.WARNING]
    if found:
        text = "\n".join(f"{one.rule}: {one.message}\n  {one.advice}" for one in found)
        raise AssertionError(text) from failure
    if failure is not None:
        raise failure
