"""`cannot-overfit-batch`: what a loss can reach, who is judged, and that the run goes on as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from faults.preflight import FOUR_EPOCHS, Net, Regressor
from faults.registry import Classifier, Program, batches, diabetes, digits, mlp
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_debugkit import PreflightCheck, debugkit, read_journal
from lightning_debugkit.preflight.attainable import attainable, first_alike
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.overfit import ADAM_STEPS, HALF, PATIENCE, RATES
from lightning_debugkit.replay.source_lines import SourceLine

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def found_least(function: str, target: Tensor, prediction: Tensor, shared: bool, **options: Any) -> float:
    """The least of a loss, by descent: one answer for all samples, or one for each."""
    answer = torch.zeros_like(prediction[:1] if shared else prediction, requires_grad=True)
    optimizer = torch.optim.LBFGS([answer], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = getattr(F, function)(answer.expand_as(prediction), target, **options)
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    return float(closure())


CALLS = [
    ("cross_entropy", torch.tensor([0, 1, 1, 2]), torch.zeros(4, 3), {}),
    ("cross_entropy", torch.tensor([0, 1, 1, 2]), torch.zeros(4, 3), {"label_smoothing": 0.2}),
    ("cross_entropy", torch.tensor([[0, 1], [1, -100], [1, 2], [0, 0]]), torch.zeros(4, 3, 2), {}),
    ("cross_entropy", torch.rand(4, 3).softmax(1), torch.zeros(4, 3), {}),
    ("binary_cross_entropy_with_logits", torch.tensor([0.0, 1.0, 1.0, 0.3]), torch.zeros(4), {}),
    (
        "binary_cross_entropy_with_logits",
        torch.tensor([0.0, 1.0, 1.0, 0.0]),
        torch.zeros(4),
        {"pos_weight": torch.tensor(3.0)},
    ),
    ("mse_loss", torch.rand(4, 3), torch.zeros(4, 3), {}),
    ("mse_loss", torch.rand(4, 3), torch.zeros(4, 3), {"reduction": "sum"}),
]


@pytest.mark.parametrize(("function", "target", "prediction", "options"), CALLS)
def test_what_a_loss_can_reach_is_what_descent_reaches(
    function: str, target: Tensor, prediction: Tensor, options: dict[str, Any]
) -> None:
    found = attainable(LossCall(function, prediction, target, options, SourceLine()), torch.arange(4))
    assert found is not None
    # One answer for all samples may still differ along their further dimensions.
    assert found.constant == pytest.approx(found_least(function, target, prediction, True, **options), abs=2e-3)
    assert found.least == pytest.approx(found_least(function, target, prediction, False, **options), abs=2e-3)


def test_equal_inputs_with_different_targets_keep_a_loss_up() -> None:
    alike = first_alike([torch.tensor([[1.0], [2.0], [1.0], [3.0]])], 4)
    assert alike.tolist() == [0, 1, 0, 3]
    call = LossCall("cross_entropy", torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), {}, SourceLine())
    found = attainable(call, alike)
    assert found is not None
    assert found.least == pytest.approx(0.5 * 0.6931, abs=1e-3)  # two of four samples cannot do better than a coin


def checked(program: Program, folder: Path) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    options = {**QUIET, **program.trainer}
    kit = PreflightCheck(overfit_batch=True)
    pl.Trainer(default_root_dir=folder, callbacks=[kit], **options).fit(program.module, program.train, program.val)
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble")
    [told] = [m["value"] for m in journal.of_kind("measure") if m["name"] == "preflight"]
    return [finding.rule for finding in journal.findings], told.get("by_heart", {}), told["left_out"]


def test_a_sound_program_learns_in_a_few_steps_and_its_curve_is_reported(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    found, told, left_out = checked(Program(Net(True), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert found == []
    assert left_out == {}
    assert told["samples"] == 4
    assert told["reach"]["constant"] == pytest.approx(1.386, abs=1e-2)  # four digits of four classes: ln 4
    curve = told["curves"][list(told["curves"])[-1]]
    assert curve[-1] < 0.7 < curve[0]


def test_a_rate_that_is_meant_for_a_long_run_is_no_fault(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    program = Program(Net(True, rate=1e-7), batches(*digits()), trainer=FOUR_EPOCHS)
    found, told, _ = checked(program, tmp_path)
    assert found == []
    assert next(iter(told["curves"])) == "Adam as configured"
    assert len(told["curves"]) > 1


class Smooth(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y, label_smoothing=0.4)


class Halved(Classifier):
    """Each image comes twice, with two labels."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)


class Denoiser(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        noise = torch.randn_like(batch[0])
        return F.mse_loss(self(batch[0] + noise), noise)


class Summed(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y) + 0.01 * sum(p.square().sum() for p in self.parameters())


class Manual(Classifier):
    def __init__(self) -> None:
        super().__init__(True)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def test_label_smoothing_is_no_fault(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    found, told, left_out = checked(Program(Smooth(True), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert (found, left_out) == ([], {})
    assert told["reach"]["least"] > 0.5


def test_two_labels_for_one_image_are_no_fault(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    x, _ = digits(1)
    program = Program(Halved(True), batches(x.repeat(512, 1), torch.arange(512) % 2), trainer=FOUR_EPOCHS)
    found, _, left_out = checked(program, tmp_path)
    assert "cannot-overfit-batch" not in found
    assert "one answer is right" in left_out["cannot-overfit-batch"]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (lambda: Denoiser(True, mlp(64, 64)), "its loss is random by design"),
        (lambda: Summed(True), "its loss is not that of one loss function of torch alone"),
        (Manual, "the program steps its optimizers itself, or has several"),
        (
            lambda: Classifier(True, nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Linear(1, 10))),
            "the model has 20 weights",
        ),
    ],
)
def test_what_is_not_judged_is_said(module: Any, why: str, tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    found, _, left_out = checked(Program(module(), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert found == []
    assert why in left_out["cannot-overfit-batch"]


class Everything(Net):
    """Dropout, batch norm, a counter and momentum: all that learning by heart could leave changed."""

    def __init__(self) -> None:
        super().__init__(
            True, nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))
        )
        self.seen = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen += 1
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)]


def test_the_run_is_the_one_without_it_to_the_bit(tmp_path: Path) -> None:
    ends = []
    for name, callbacks in (("with", [PreflightCheck(overfit_batch=True)]), ("without", [])):
        pl.seed_everything(5, verbose=False)
        module = Everything()
        trainer = pl.Trainer(
            max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=callbacks, default_root_dir=tmp_path / name,
        )  # fmt: skip
        trainer.fit(module, batches(*digits()), batches(*digits()))
        ends.append({**module.state_dict(), "random": torch.rand(1), "seen": torch.tensor(module.seen)})
    assert len(read_journal(tmp_path / "with" / "debugkit").of_kind("measure")) > 0
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


class Headed(Net):
    """A head on layers that are frozen: it learns, in more steps than a whole network."""

    def __init__(self) -> None:
        super().__init__(True, nn.Sequential(mlp(64, 32, 32).requires_grad_(False), nn.ReLU(), nn.Linear(32, 10)))


class Twice(Net):
    """Softmax in the model and in the loss: just short of half of the way, and ever more slowly so."""

    def __init__(self) -> None:
        super().__init__(True, nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3), nn.Softmax(1)))


def test_a_curve_on_its_way_is_followed_until_it_is_there(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    found, told, left_out = checked(Program(Headed(), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert (found, left_out) == ([], {})
    followed = told["curves"]["Adam at 0.01"]
    assert len(followed) > ADAM_STEPS
    assert followed[-1] <= HALF * told["reach"]["constant"] < followed[ADAM_STEPS - 1]


def test_a_curve_that_creeps_to_a_floor_is_not_on_its_way(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    x, y = digits(1797)
    kept = y < 3
    found, told, _ = checked(Program(Twice(), batches(x[kept], y[kept]), trainer=FOUR_EPOCHS), tmp_path)
    assert "cannot-overfit-batch" in found
    curves = [told["curves"][f"Adam at {rate:g}"] for rate in RATES]
    assert all(curve[-1] < curve[len(curve) // 2] for curve in curves)  # still falling
    assert max(map(len, curves)) < PATIENCE * ADAM_STEPS


def test_what_is_still_being_learned_in_the_end_is_not_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_debugkit.preflight.overfit.PATIENCE", 1)
    pl.seed_everything(1, verbose=False)
    found, _, left_out = checked(Program(Headed(), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert found == []
    assert "still being learned" in left_out["cannot-overfit-batch"]


def test_where_no_optimizer_can_step_nothing_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("not on this device")

    monkeypatch.setattr("lightning_debugkit.preflight.overfit._Learner._run", refused)
    pl.seed_everything(1, verbose=False)
    found, _, left_out = checked(Program(Net(True), batches(*digits()), trainer=FOUR_EPOCHS), tmp_path)
    assert found == []
    assert left_out["cannot-overfit-batch"] == "no optimizer can step on it"


def test_regression_is_judged_too(tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    found, told, left_out = checked(
        Program(Regressor(True), batches(*diabetes(), size=16), trainer=FOUR_EPOCHS), tmp_path
    )
    assert (found, left_out) == ([], {})
    assert told["reach"]["least"] == 0


class StopsItself(Classifier):
    """Saves itself and ends the fit at a loss that one batch reaches in a few steps, and all data later."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if loss.item() < 0.7:
            self.trainer.should_stop = True
            self.trainer.save_checkpoint(Path(self.trainer.default_root_dir) / f"{self.trainer.global_step}.ckpt")
        return loss


def test_a_loss_reached_in_the_check_alone_stops_and_saves_nothing(tmp_path: Path) -> None:
    taken = []
    for folder, watched in (("bare", []), ("watched", [PreflightCheck(overfit_batch=True)])):
        torch.manual_seed(0)
        trainer = pl.Trainer(max_epochs=8, default_root_dir=tmp_path / folder, callbacks=watched, **QUIET)
        trainer.fit(StopsItself(True, rate=1e-2), batches(*digits()))
        saved = sorted(path.name for path in (tmp_path / folder).glob("*.ckpt"))
        taken.append((trainer.global_step, trainer.should_stop, saved))
    assert taken[0] == taken[1]
    assert 16 < taken[0][0] < 128


class LowersItsRate(Classifier):
    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] *= 0.99
        return super().training_step(batch, batch_idx)


def test_a_rate_that_the_step_lowers_is_lowered_once_a_step(tmp_path: Path) -> None:
    rates = []
    for watched in ([], debugkit("thorough")):
        torch.manual_seed(0)
        trainer = pl.Trainer(max_epochs=2, default_root_dir=tmp_path, callbacks=watched, **QUIET)
        trainer.fit(LowersItsRate(True), batches(*digits()))
        rates.append((trainer.global_step, trainer.optimizers[0].param_groups[0]["lr"]))
    assert rates[0] == rates[1]
