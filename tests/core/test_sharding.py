"""Where each process holds a part of the model, the kit changes nothing, accuses nobody, and nobody waits for it."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.tensor import Shard, distribute_tensor
from torch.utils.data import DataLoader, TensorDataset
from two_ranks import SIZES, OnCpu, count_of, on_two_ranks, strategy

from lightning_debugkit import ExactResume, GradientAnomalyDetector, Severity, debugkit, load_model, read_journal
from lightning_debugkit.cli import diff, restore, show
from lightning_debugkit.core.sharding import holds_whole_model, unseen_shards
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
from lightning_debugkit.report import render

pytestmark = [pytest.mark.timeout(150), pytest.mark.filterwarnings("ignore")]

KINDS = ("fsdp", "fsdp2", "tensor")
STEPS = 12
_done: dict[str, tuple[Path, list[dict[str, Any]]]] = {}


class Net(pl.LightningModule):
    """Three layers; those of ``fsdp2`` cannot be cut evenly in two."""

    def __init__(self, kind: str, fault: str = "") -> None:
        super().__init__()
        self.save_hyperparameters()
        self.kind, self.fault = kind, fault
        wide = 16 if kind == "tensor" else 17
        self.net = nn.Sequential(nn.Linear(8, wide), nn.ReLU(), nn.Linear(wide, 6), nn.ReLU(), nn.Linear(6, 3))

    def configure_model(self) -> None:
        if self.kind in ("fsdp", "fsdp-hybrid") or any(hasattr(p, "to_local") for p in self.parameters()):
            return
        if self.kind == "tensor":
            from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

            mesh = self.device_mesh["tensor_parallel"]
            parallelize_module(self.net, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = self.device_mesh["data_parallel"]
        if self.kind == "hybrid":
            mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicas", "shards"))
        for layer in [self.net[0], self.net[2], self.net]:
            fully_shard(layer, mesh=mesh)

    def on_train_epoch_start(self) -> None:
        if self.fault == "weights" and self.global_rank == 1:
            weight = next(self.parameters())
            with torch.no_grad():
                (weight.to_local() if hasattr(weight, "to_local") else weight).fill_(torch.nan)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        scores = self.net(x)
        loss = F.cross_entropy(scores, y)
        if batch_idx == 5 and (self.kind == "tensor" or self.trainer.global_rank == 1):
            loss = loss + torch.log(torch.zeros(())) if self.fault == "loss" else loss
            loss = loss + torch.sqrt(0 * scores.sum()) if self.fault == "gradient" else loss
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        scores = self.net(batch[0])
        loss = F.cross_entropy(scores, batch[1])
        if self.kind == "tensor":  # as a last layer gives them that leaves its scores dealt out
            scores = distribute_tensor(scores, self.device_mesh["tensor_parallel"], [Shard(1)])
        return {"loss": loss, "logits": scores, "target": batch[1]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        held = self.net[4] if self.fault == "optimizer" else self
        return torch.optim.AdamW(held.parameters(), lr=1e-2)


class WholeNorms(pl.Callback):
    """The second road: gradients are brought together, and each is measured as a whole."""

    def __init__(self) -> None:
        self.norms: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if isinstance(trainer.strategy, OnCpu):
            from torch.distributed.fsdp import FullyShardedDataParallel

            with FullyShardedDataParallel.summon_full_params(trainer.strategy.model, with_grads=True):
                held = {n.replace("_fsdp_wrapped_module.", ""): p.grad for n, p in pl_module.named_parameters()}
                self.norms.append({name: float(grad.norm()) for name, grad in held.items()})
            return
        grads = {name: p.grad for name, p in pl_module.named_parameters()}
        whole = {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in grads.items()}
        self.norms.append({name: float(grad.norm()) for name, grad in whole.items()})


def shares(module: pl.LightningModule) -> list[bytes]:
    held = [p.to_local() if hasattr(p, "to_local") else p for p in module.parameters()]
    return [p.detach().numpy().tobytes() for p in held]


def fit(
    folder: Path,
    kind: str,
    callbacks: Sequence[pl.Callback],
    fault: str = "",
    epochs: int = 1,
    logger: CSVLogger | bool = False,
    **options: Any,
) -> tuple[pl.LightningModule, str]:
    pl.seed_everything(3, verbose=False)
    module = Net(kind, fault)
    samples = torch.Generator().manual_seed(0)
    batch = 8 // SIZES.get(kind, (2, 1))[0]
    count = 8 * STEPS + 30
    x = torch.randn(count, 8, generator=samples)
    y = (3 * x[:, :3]).argmax(1)  # something that can be learned: else validation is rightly no better than a guess
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=count_of(kind),
        strategy=strategy(kind),
        max_epochs=epochs,
        default_root_dir=folder,
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(each, pl.callbacks.Checkpoint) for each in callbacks),
        callbacks=list(callbacks),
    )
    loader = DataLoader(TensorDataset(x[:-30], y[:-30]), batch, shuffle=True)
    val = DataLoader(TensorDataset(x[-30:], y[-30:]), batch)
    try:
        trainer.fit(module, loader, val, **options)
    except Exception as error:
        return module, f"{type(error).__name__}: {error}"
    return module, ""


def work(rank: int, folder: Path, kind: str) -> dict[str, Any]:
    # Saving brings modules back to their shards, in both runs.
    bare, told = fit(folder / "bare", kind, [ModelCheckpoint(dirpath=folder / "bare")])
    without, errors = shares(bare), [told]
    whole = WholeNorms()
    kept = ModelCheckpoint(dirpath=folder, filename="kept")
    kit = [*debugkit("thorough", loggers="all"), ExactResume()]
    watched, told = fit(folder / "kit", kind, [*kit, kept, whole], logger=CSVLogger(folder / "kit", "", ""))
    alike = shares(watched) == without
    errors.append(told)
    going_on = [*debugkit(), ExactResume()]
    errors.append(fit(folder / "resumed", kind, going_on, epochs=2, ckpt_path=folder / "kept.ckpt")[1])
    errors.append(fit(folder / "loss", kind, [GradientAnomalyDetector(action="skip")], "loss")[1])
    errors.append(fit(folder / "gradient", kind, [GradientAnomalyDetector(action="warn")], "gradient")[1])
    errors.append(fit(folder / "hooks", kind, [GradientAnomalyDetector("skip", hooks="always")], "gradient")[1])
    errors.append(fit(folder / "optimizer", kind, [GradientAnomalyDetector()], "optimizer")[1])
    errors.append(fit(folder / "weights", kind, [GradientAnomalyDetector(action="warn")], "weights")[1])
    raised = fit(folder / "raised", kind, [GradientAnomalyDetector()], "loss")[1]
    return {"alike": alike, "errors": errors, "norms": whole.norms, "raised": raised}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def job(kind: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of all runs of a strategy, made once, and what its two ranks say."""
    if kind not in _done:
        folder = tmp_path_factory.mktemp(kind)
        _done[kind] = folder, on_two_ranks(work, folder, kind)
    return _done[kind]


Job = tuple[Path, list[dict[str, Any]]]


def grave(folder: Path) -> list[tuple[str, int]]:
    journal = read_journal(folder / "debugkit")
    assert not (troubles := journal.of_kind("trouble")), troubles
    return [(each.rule, each.where.rank) for each in journal.findings if each.severity >= Severity.WARNING]


def test_the_weights_are_those_without_the_kit(job: Job) -> None:
    assert [rank["alike"] for rank in job[1]] == [True, True]


def test_all_runs_come_to_their_end(job: Job) -> None:
    assert [rank["errors"] for rank in job[1]] == [[""] * 8] * 2


@pytest.mark.parametrize("run", ["kit", "resumed"])
def test_nothing_is_said_against_a_healthy_run(job: Job, run: str) -> None:
    assert grave(job[0] / run) == []


def assert_norms_of_the_whole(folder: Path, answers: Sequence[dict[str, Any]]) -> None:
    measures = read_journal(folder / "debugkit").of_kind("measure")
    for rank, answer in enumerate(answers):
        told = [each["value"] for each in measures if each["name"] == "gradient-norms" and each["rank"] == rank]
        assert len(told) == len(answer["norms"]) == STEPS
        for seen, whole in zip(told, answer["norms"], strict=True):
            assert seen == pytest.approx(whole, rel=1e-5)


def test_norms_are_those_of_the_whole(job: Job) -> None:
    assert_norms_of_the_whole(job[0] / "kit", job[1])


def work_of_copies(rank: int, folder: Path, kind: str) -> dict[str, Any]:
    bare, told = fit(folder / "bare", kind, [])
    without, whole = shares(bare), WholeNorms()
    watched, said = fit(folder / "kit", kind, [*debugkit("thorough"), whole])
    return {"alike": shares(watched) == without, "errors": [told, said], "norms": whole.norms}


@pytest.mark.parametrize("kind", ["hybrid", "fsdp-hybrid"])
def test_two_copies_that_are_each_cut_in_two_are_one_model(kind: str, tmp_path: Path) -> None:
    """Hybrid sharding: each entry lies on two of four ranks, and counts once."""
    answers = on_two_ranks(work_of_copies, tmp_path, kind, count=4)
    assert [(rank["alike"], rank["errors"]) for rank in answers] == [(True, ["", ""])] * 4
    assert grave(tmp_path / "kit") == []
    assert_norms_of_the_whole(tmp_path / "kit", answers)


def test_what_is_left_out_is_said_once(job: Job) -> None:
    measures = read_journal(job[0] / "kit/debugkit").of_kind("measure")
    assert [each["rank"] for each in measures if each["name"] == "gradients-unseen"] == [0]
    (unseen,) = [each["value"]["why"] for each in measures if each["name"] == "gradients-unseen"]
    assert "norms are summed over all of them" in unseen
    render(job[0] / "kit/debugkit")
    assert unseen in (job[0] / "kit/debugkit/report.md").read_text()


def test_the_logger_has_the_norm_of_the_whole_at_each_step_once(job: Job) -> None:
    with (job[0] / "kit/metrics.csv").open() as file:
        told = [float(row["debugkit/grad_norm"]) for row in csv.DictReader(file) if row["debugkit/grad_norm"]]
    whole = [sum(norm**2 for norm in norms.values()) ** 0.5 for norms in job[1][0]["norms"]]
    assert told == pytest.approx(whole, rel=1e-4)


def test_every_sample_counts_once(job: Job) -> None:
    errors = json.loads((job[0] / "kit/debugkit/errors.json").read_text())
    assert errors["n"] == 30


def test_a_loss_that_breaks_on_one_rank_is_told_by_it(job: Job, kind: str) -> None:
    ranks = (0, 1) if kind == "tensor" else (1,)  # those of one tensor-parallel group share their batch
    assert grave(job[0] / "loss") == [("nonfinite-loss", rank) for rank in ranks]
    assert all(rank["raised"].startswith("TrainingAnomaly: nonfinite-loss: loss is -inf at step 5") for rank in job[1])


def test_a_gradient_that_breaks_is_told_though_the_step_cannot_run_again(job: Job) -> None:
    # What is broken stays broken: the validation of each rank has it as well, later.
    assert grave(job[0] / "gradient")[0] == ("nonfinite-gradient", 0)
    found, *later = read_journal(job[0] / "gradient/debugkit").findings
    assert {each.rule for each in later} <= {"nonfinite-validation"}
    assert "which runs no step by itself" in found.message


def test_hooks_name_the_module_by_the_path_that_the_user_knows(job: Job) -> None:
    found = read_journal(job[0] / "hooks/debugkit").findings
    assert {each.where.module for each in found} == {"net.4"}


def test_a_shard_that_is_broken_is_told_by_its_rank_and_the_others_do_not_wait(job: Job) -> None:
    found = read_journal(job[0] / "weights/debugkit").findings
    (broken,) = [each for each in found if each.rule == "nonfinite-parameter"]
    assert (broken.where.rank, broken.where.module) == (1, "net.0.weight")


def test_parameters_in_no_optimizer_are_told(job: Job) -> None:
    assert {rule for rule, _ in grave(job[0] / "optimizer")} == {"parameter-not-in-optimizer"}


def test_the_folder_of_a_sharded_checkpoint_loads_with_its_code(job: Job, kind: str) -> None:
    folder = job[0] / "kept.ckpt"
    manifest, source = read_snapshot(folder)
    assert manifest["model"]["qualname"] == "Net"
    assert source is not None
    model = load_model(folder, code="snapshot", trust_code=True)
    plain = load_model(folder, code="current")
    assert isinstance(model, pl.LightningModule)
    assert isinstance(plain, pl.LightningModule)
    assert type(model) is not type(plain)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), plain.parameters(), strict=True))
    assert [p.shape for p in plain.parameters()] == [p.shape for p in Net(kind).parameters()]


def test_deepspeed_is_no_ddp() -> None:
    trainer: Any = SimpleNamespace(strategy=object.__new__(DeepSpeedStrategy))
    assert isinstance(trainer.strategy, DDPStrategy)
    assert not holds_whole_model(trainer)
    assert "only loss and schedule are watched" in unseen_shards(trainer, wiring=True)


class Malicious:
    """Runs when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.fixture
def folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sharded checkpoint that may be spoiled."""
    if "fsdp2" not in _done:
        made = tmp_path_factory.mktemp("fsdp2")
        _done["fsdp2"] = made, on_two_ranks(work, made, "fsdp2")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(_done["fsdp2"][0] / "kept.ckpt", tmp_path / "x.ckpt")
    return tmp_path / "x.ckpt"


@pytest.mark.parametrize("trust", [{"code": "current"}, {"code": "snapshot", "trust_code": True}])
def test_what_describes_the_shards_cannot_run(folder: Path, trust: dict[str, Any]) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match=r"its \.metadata names posix\.mkdir, which describes no shard"):
        load_model(folder, **trust)
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", ["meta.pt", "__0_0.distcp"])
def test_without_trust_nothing_else_in_the_folder_runs_either(folder: Path, name: str) -> None:
    if name == "meta.pt":
        held = torch.load(folder / name, weights_only=False)
        torch.save({**held, "trap": Malicious()}, folder / name)
    else:
        torch.save(Malicious(), folder / name)
        metadata = FileSystemReader(folder).read_metadata()
        for place in metadata.storage_data.values():
            place.offset, place.length = 0, (folder / name).stat().st_size
        (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(
        ValueError, match=r"needs trust_code=True to unpickle|its shards cannot be read \(UnpicklingError"
    ):
        load_model(folder, code="current")
    assert not Path("ran").exists()


def test_the_trap_of_those_tests_would_have_sprung(folder: Path) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(AttributeError):
        FileSystemReader(folder).read_metadata()
    assert Path("ran").exists()


def test_shards_outside_of_the_folder_are_refused(folder: Path) -> None:
    metadata = FileSystemReader(folder).read_metadata()
    place = next(iter(metadata.storage_data.values()))
    place.relative_path = "../elsewhere.distcp"
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match=r"leads out of the folder, to '\.\./elsewhere\.distcp'"):
        load_model(folder, code="current")


def test_more_weights_than_the_files_hold_are_refused(folder: Path) -> None:
    metadata = FileSystemReader(folder).read_metadata()
    metadata.state_dict_metadata["state_dict.net.0.weight"].size = torch.Size([10**9, 10**3])
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(ValueError, match="its weights should take 4,000,000,"):
        load_model(folder, code="current")


def test_the_commands_take_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show.run(str(folder))[0].splitlines()[2].endswith("Net")
    assert "The model's code is identical" in diff.run(str(folder))[0]
    told, status = restore.run(str(folder), "restored")
    assert status == 0
    assert "files in" in told
