"""Each fault is found and named where it lies; the same program mended is left in peace."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
from faults import FAULTS, RANKS, Fault, Program
from lightning.pytorch.callbacks import Checkpoint

import lightning_debugkit
from lightning_debugkit import Finding, Severity, read_journal

pytestmark = [
    pytest.mark.usefixtures("one_thread", "undrawn"),
    pytest.mark.filterwarnings("ignore"),  # a faulty program has every right to be warned
]


WATCHERS = ("GradientAnomalyDetector", "GradientClippingMonitor", "ActivationMonitor", "PreflightCheck", "DataCheck")


def fit(program: Program, folder: Path, *watchers: str) -> Exception | None:
    """Run the program under the kit's callbacks, the first with its arguments; return the exception that ended it."""
    arguments = [program.callback, *[{}] * len(watchers)]
    watching = [getattr(lightning_debugkit, name)(**given) for name, given in zip(watchers, arguments, strict=False)]
    options = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, **program.trainer}
    saves = any(isinstance(callback, Checkpoint) for callback in program.callbacks)
    quiet = {"enable_checkpointing": saves, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(callbacks=[*program.callbacks, *watching], logger=False, **quiet, **options)
    ckpt_path = program.ckpt_path(folder) if program.ckpt_path else None
    try:
        trainer.fit(program.module, program.train, program.val, ckpt_path=ckpt_path)
        if program.test is not None:
            trainer.test(program.module, program.test, verbose=False)
    except Exception as error:
        return error
    return None


def warned(folder: Path) -> list[Finding]:
    """The findings to act on; the kit must not have stumbled itself."""
    journals = [read_journal(path) for path in sorted(folder.glob("debugkit*"))]
    troubles = [trouble for journal in journals for trouble in journal.of_kind("trouble")]
    assert not troubles, "\n".join(map(str, troubles))
    found = [finding for journal in journals for finding in journal.findings]
    return [finding for finding in found if finding.severity >= Severity.WARNING]


def lies_in(module: str, places: tuple[str, ...], *, exactly: bool) -> bool:
    """Is the module one of the places, or, where that is as good, something in one of them?"""
    inside = tuple(f"{place}{sign}" for place in places if place for sign in ".[")
    return module in places or (not exactly and module.startswith(inside))


def misses(finding: Finding, fault: Fault) -> list[str]:
    """What the finding should say and does not."""
    seen, where = finding.evidence, finding.where
    fragments = {key: (str(seen.get(key)), getattr(fault, key)) for key in ("source", "op")}
    values = {key: (seen.get(key), getattr(fault, key)) for key in ("samples", "batch_idx")}
    values |= {"step": (where.step, fault.at_step), "rank": (where.rank, fault.rank)}
    wrong = [
        f"{key} {got!r} without {part!r}"
        for key, (got, part) in fragments.items()
        if part and part.lower() not in got.lower()
    ]
    wrong += [f"{key} {got!r}, not {want!r}" for key, (got, want) in values.items() if want is not None and got != want]
    if fault.module is not None and not lies_in(where.module, fault.module, exactly=fault.raises is True):
        wrong.append(f"module {where.module!r}, not one of {fault.module}")
    if not fault.splits and (seen.get("samples") or "split" not in f"{finding.message} {dict(seen)}"):
        wrong.append(f"samples {seen.get('samples')!r}, not none with a word on why the batch cannot be split")
    return wrong


def assert_found(fault: Fault, folder: Path) -> Finding:
    """Return the finding of the fault's rule that names it rightly; tell what is there if none does."""
    found = warned(folder)
    named = [finding for finding in found if finding.rule == fault.rule]
    assert named, f"no {fault.rule} among {[(one.rule, one.where.module, one.message) for one in found]}"
    wrong = [misses(finding, fault) for finding in named]
    assert [] in wrong, "\n".join(
        f"{one.message}\n    {dict(one.evidence)}\n    {bad}" for one, bad in zip(named, wrong, strict=True)
    )
    return named[wrong.index([])]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named(name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    program = fault.build(False)
    error = fit(program, tmp_path, fault.by)
    finding = assert_found(fault, tmp_path)
    if fault.raises is not None:
        assert fault.raises == (error is not None), repr(error)
    if fault.raises:
        assert getattr(error, "finding", None) is not None, repr(error)
        assert error.finding.rule == fault.rule
    if program.recording is not None:
        batch_idx, samples, indices = program.recording.first_bad(batch_size=32)
        seen = finding.evidence
        assert finding.where.step == batch_idx
        if fault.raises:
            assert (seen["batch_idx"], seen["samples"], seen["dataset_indices"]) == (batch_idx, samples, indices)


def assert_left_in_peace(fault: Fault, folder: Path) -> None:
    """Not one callback of the kit accuses the mended program."""
    error = fit(fault.build(True), folder, *sorted(WATCHERS, key=lambda name: name != fault.by))
    assert error is None, repr(error)
    found = warned(folder)
    assert not found, "\n".join(f"{one.rule} at {one.where}: {one.message}" for one in found)


@pytest.mark.parametrize("name", FAULTS)
def test_the_mended_program_is_left_in_peace(name: str, tmp_path: Path) -> None:
    assert_left_in_peace(FAULTS[name], tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("name", RANKS)
def test_a_fault_of_one_rank_is_named(name: str, tmp_path: Path) -> None:
    """An exception in a worker reaches the parent as another: only that the fit ends is asked of it."""
    fault = RANKS[name]
    error = fit(fault.build(False), tmp_path, fault.by)
    assert_found(fault, tmp_path)
    assert fault.raises == (error is not None), repr(error)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.parametrize("name", RANKS)
def test_mended_ranks_are_left_in_peace(name: str, tmp_path: Path) -> None:
    assert_left_in_peace(RANKS[name], tmp_path)
