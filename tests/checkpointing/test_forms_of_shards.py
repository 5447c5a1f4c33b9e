"""Each form in which several ranks save: gone on from as if nothing had stopped, on as many ranks or on others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from checkpointing.folders import flip
from checkpointing.sharding import Shared, fit, whole
from torch.utils.data import DataLoader, TensorDataset
from two_ranks import count_of, on_two_ranks, strategy

from lightning_debugkit import ExactResume, Severity, read_journal
from lightning_debugkit.checkpointing.records import read_records
from lightning_debugkit.checkpointing.verification import DamagedCheckpoint, damage

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.usefixtures("no_report", "no_process_left"),
    pytest.mark.filterwarnings("ignore"),
]

FORMS = {
    "four": "four ranks, FSDP2",
    "tensor": "tensor parallel",
    "both": "two by two ranks, FSDP2 and tensor parallel",
    "hybrid": "two copies of two ranks, FSDP2",
    "fsdp-hybrid": "two copies of two ranks, FSDP",
    "fsdp full": "FSDP, one file",
    "fsdp2 full": "FSDP2, one file",
}
_done: dict[str, tuple[Path, list[Any]]] = {}


def work(rank: int, folder: Path, kind: str) -> Any:
    fit(folder / "first", kind)
    trainer, resumed = fit(folder / "first", kind, ckpt_path="last", max_epochs=4)
    uninterrupted = fit(folder / "whole", kind, max_epochs=4)[1]
    equal = all(torch.equal(*pair) for pair in zip(whole(resumed), whole(uninterrupted), strict=True))
    return trainer.global_step, equal


@pytest.fixture
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    kind = str(request.param)
    if kind not in _done:
        folder = tmp_path_factory.mktemp("form")
        _done[kind] = folder, on_two_ranks(work, folder, kind, count=count_of(kind))
    return _done[kind]


@pytest.mark.parametrize("job", FORMS, ids=FORMS.get, indirect=True)
def test_every_form_goes_on_as_if_it_had_not_stopped(job: tuple[Path, list[Any]]) -> None:
    folder, answers = job
    (step, equal), *others = answers
    assert (equal, others) == (True, [(step, True)] * len(others))
    records = read_records(folder / "first/checkpoints")
    assert records[-1].step == step
    assert [damage(folder / "first/checkpoints" / record.name, record) for record in records] == [""] * len(records)
    journal = read_journal(folder / "first/debugkit")
    assert (journal.of_kind("trouble"), journal.findings) == ([], [])


def resume_on(rank: int, folder: Path, kind: str, ckpt_path: str) -> Any:
    try:
        trainer, module = fit(folder, kind, ckpt_path=ckpt_path, max_epochs=4)
    except DamagedCheckpoint as error:
        return [str(error)]
    return trainer.global_step, [tensor.tolist() for tensor in whole(module)]


@pytest.mark.parametrize("job", ["four"], indirect=True)
def test_shards_of_four_ranks_load_on_two(job: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """Nothing is trained, so that the weights of both are those in the folder."""
    shutil.copytree(job[0] / "first/checkpoints", tmp_path / "checkpoints", symlinks=True)
    answers = on_two_ranks(resume_on, tmp_path, "fsdp2", "last")
    again = on_two_ranks(resume_on, tmp_path, "four", "last", count=4)
    assert answers + again == [answers[0]] * 6
    assert answers[0][0] == 4


@pytest.mark.parametrize("job", ["fsdp full", "fsdp2 full"], indirect=True)
def test_a_whole_file_loads_on_another_number_of_ranks(job: tuple[Path, list[Any]], tmp_path: Path) -> None:
    shutil.copytree(job[0] / "first/checkpoints", tmp_path / "checkpoints", symlinks=True)
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    ((step, weights),) = on_two_ranks(resume_on, tmp_path, "one full", "last", count=1)
    assert (step, weights) == (8, [tensor.tolist() for tensor in saved["state_dict"].values()])
    first, second = (saved["optimizer_states"][0]["state"][0][name] for name in ("exp_avg", "exp_avg_sq"))
    assert not torch.equal(first, second), "each of Adam's states is there"


@pytest.mark.parametrize("job", ["fsdp2 full"], indirect=True)
def test_a_whole_file_that_is_asked_for_by_name_is_verified_too(job: tuple[Path, list[Any]], tmp_path: Path) -> None:
    shutil.copytree(job[0] / "first/checkpoints", tmp_path / "checkpoints", symlinks=True)
    path = tmp_path / "checkpoints" / read_records(tmp_path / "checkpoints")[-1].name
    flip(path, 0.5)
    answers = on_two_ranks(resume_on, tmp_path, "fsdp2 full", str(path))
    assert ["load another one." in str(answer) for answer in answers] == [True, True]


def resume_alone(rank: int, folder: Path, saved: Path, wide: int) -> None:
    pl.seed_everything(3, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu", devices=4, strategy=strategy("fsdp-hybrid"), default_root_dir=folder, logger=False,
        max_epochs=5, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ExactResume()],
    )  # fmt: skip
    data = DataLoader(TensorDataset(torch.randn(16, 4)), 4)
    trainer.fit(Shared("fsdp", wide=wide), data, data, ckpt_path=str(saved))


@pytest.mark.parametrize("job", ["fsdp-hybrid"], indirect=True)
def test_exact_resume_alone_says_that_hybrid_states_are_wrong(job: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """`findings/torch-hybrid-sharding-loads-wrong-moments.sh`; the twin is the form itself, which says nothing."""
    saved = job[0] / "first/checkpoints"
    on_two_ranks(resume_alone, tmp_path, saved / read_records(saved)[-1].name, 1, count=4)
    found = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "resume-not-exact"]
    assert {each.severity for each in found} == {Severity.WARNING}
    assert all("hybrid-sharding" in each.evidence["names"] for each in found)


@pytest.mark.parametrize("job", ["fsdp full"], indirect=True)
def test_of_one_file_the_states_are_right_under_hybrid_sharding_too(
    job: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    """Fewer ranks saved it, which is told; how the strategy would save is not what was loaded."""
    saved = job[0] / "first/checkpoints"
    on_two_ranks(resume_alone, tmp_path, saved / read_records(saved)[-1].name, 9, count=4)
    (found,) = (each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "resume-not-exact")
    assert "hybrid-sharding" not in found.evidence["names"]
