"""A healthy run is left in peace: no warning, no fault of ours, not one bit of its weights changed."""

from pathlib import Path

import pytest
import torch
from healthy import PROGRAMS, clipping, fit
from lightning.pytorch import Callback, Trainer

from lightning_debugkit import (
    ActivationMonitor,
    DataCheck,
    GradientAnomalyDetector,
    GradientClippingMonitor,
    PreflightCheck,
    Severity,
    read_journal,
)

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]

UNTOUCHED = (
    "accumulation_and_clipping",
    "buckets_by_length",
    "clipped_at_the_start_of_the_next_batch",
    "cnn",
    "compiled_part",
    "dropout_of_a_half",
    "experts_that_are_rarely_asked",
    "gan",
    "gan_with_both_sides_clipped",
    "gates_that_start_open",
    "lbfgs_clipped",
    "lbfgs_regression",
    "mean_teacher_batch_norm_in_train",
    "mobile_net",
    "one_part_clipped",
    "relu_under_checkpointing",
    "resnet_onecycle",
    "scaled_and_clipped_by_the_trainer",
    "sharpness_aware",
    "skip_gram_sparse_gradients",
    "stochastic_depth",
    "transformer_lm",
    "unscaled_by_hand_then_clipped",
    "values_clipped_for_few_elements",
)


def watchers() -> list[Callback]:
    """The monitors, with activations looked at more often than by default."""
    return [
        PreflightCheck(),
        DataCheck(),
        GradientAnomalyDetector(),
        GradientClippingMonitor(),
        ActivationMonitor(every_n_steps=10),
    ]


def assert_left_in_peace(folder: Path) -> None:
    journal = read_journal(folder / "debugkit")
    accused = [finding for finding in journal.findings if finding.severity >= Severity.WARNING]
    assert not accused, "\n".join(f"{one.rule} at {one.where}: {one.message}" for one in accused)
    troubles = journal.of_kind("trouble")
    assert not troubles, "\n".join(map(str, troubles))
    assert {end["status"] for end in journal.of_kind("end")} == {"finished"}


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name not in UNTOUCHED])
def test_a_healthy_program_is_not_accused(name: str, tmp_path: Path) -> None:
    fit(PROGRAMS[name](), tmp_path, *watchers())
    assert_left_in_peace(tmp_path)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_a_healthy_pair_of_processes_is_not_accused(tmp_path: Path) -> None:
    pair = clipping.clipped_pair()
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(default_root_dir=tmp_path, callbacks=watchers(), **options, **pair.trainer).fit(pair.module, pair.train)
    assert_left_in_peace(tmp_path)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_watching_accuses_nobody_and_changes_no_bit_of_the_weights(name: str, tmp_path: Path) -> None:
    alone = PROGRAMS[name]()
    fit(alone, tmp_path / "alone")
    watched = PROGRAMS[name]()
    fit(watched, tmp_path / "watched", *watchers())

    assert_left_in_peace(tmp_path / "watched")
    expected, found = alone.module.state_dict(), watched.module.state_dict()
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
