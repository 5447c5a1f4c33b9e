"""A healthy run is left in peace: no warning, no fault of ours, not one bit of its weights changed."""

from pathlib import Path

import pytest
import torch
from healthy import PROGRAMS, fit

from lightning_debugkit import GradientAnomalyDetector, Severity, read_journal

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]

UNTOUCHED = (
    "cnn",
    "resnet_onecycle",
    "transformer_lm",
    "accumulation_and_clipping",
    "gan",
    "lbfgs_regression",
    "mean_teacher_batch_norm_in_train",
    "sharpness_aware",
    "skip_gram_sparse_gradients",
    "stochastic_depth",
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_healthy_program_is_not_accused(name: str, tmp_path: Path) -> None:
    fit(PROGRAMS[name](), tmp_path, GradientAnomalyDetector())

    journal = read_journal(tmp_path / "debugkit")
    accused = [finding for finding in journal.findings if finding.severity >= Severity.WARNING]
    assert not accused, "\n".join(f"{one.rule} at {one.where}: {one.message}" for one in accused)
    troubles = journal.of_kind("trouble")
    assert not troubles, "\n".join(map(str, troubles))
    assert [end["status"] for end in journal.of_kind("end")] == ["finished"]


@pytest.mark.parametrize("name", UNTOUCHED)
def test_watching_changes_no_bit_of_the_weights(name: str, tmp_path: Path) -> None:
    alone = PROGRAMS[name]()
    fit(alone, tmp_path / "alone")
    watched = PROGRAMS[name]()
    fit(watched, tmp_path / "watched", GradientAnomalyDetector())

    expected, found = alone.module.state_dict(), watched.module.state_dict()
    assert expected.keys() == found.keys()
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
