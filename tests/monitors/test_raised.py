"""A step that raises is replayed as one that broke, and the user's error still is what leaves the fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, read_journal
from lightning_debugkit.cli import main
from lightning_debugkit.replay.bundle_replay import replay_bundle, same
from lightning_debugkit.replay.step_raised import can_be_explained

pytestmark = pytest.mark.filterwarnings("ignore")

BAD, SIZE = 21, 8  # the entry of the dataset with the fault, samples in a batch


class Diverged(Exception):
    """A user's own."""


class Net(pl.LightningModule):
    """A small model whose loss is a function of the module, what went through its layer, and the other column."""

    def __init__(self, loss: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.table = nn.Embedding(5, 4)
        self.loss = loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        RUNS.put(batch_idx)
        x, y = batch
        return self.loss(self, self.layer(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


RUNS: SimpleQueue[int] = SimpleQueue()  # replays put back what a list holds, and would not count


def loader(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), batch_size=SIZE)


def data(bad: float | None, usual: float = 1.0, dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    """32 entries; the second column is ``usual``, but for one that is ``bad``."""
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(1))
    y = torch.full((32,), usual, dtype=dtype)
    if bad is not None:
        y[BAD] = bad
    return loader(x, y)


def fit(
    module: pl.LightningModule, train: Any, folder: Path, *callbacks: Any, **options: Any
) -> tuple[BaseException | None, list[Finding]]:
    while not RUNS.empty():
        RUNS.get()
    detector = GradientAnomalyDetector(wiring=False)
    options = {**QUIET, "max_epochs": 1, "default_root_dir": folder, **options}
    trainer = pl.Trainer(callbacks=[detector, *callbacks], **options)
    error: BaseException | None = None
    try:
        trainer.fit(module, train)
    except BaseException as raised:
        error = raised
    journal = read_journal(folder / "debugkit")
    assert not journal.of_kind("trouble"), journal.of_kind("trouble")
    return error, [finding for finding in journal.findings if finding.severity >= 20]


# --- numbers that broke before the error --------------------------------------------------------------------------


def checked_by_torch(module: Any, h: Tensor, y: Tensor) -> Tensor:
    spread = torch.log(y)[:, None].expand_as(h)
    return -torch.distributions.Normal(h, spread.exp() + spread, validate_args=True).log_prob(torch.zeros(4)).mean()


def asserted(module: Any, h: Tensor, y: Tensor) -> Tensor:
    loss = (h.mean(1) * torch.log(y)).mean()
    assert torch.isfinite(loss)
    return loss


def asserted_without_a_name(module: Any, h: Tensor, y: Tensor) -> Tensor:
    assert not torch.isnan((h.mean(1) * torch.log(y)).mean()).any()
    return h.mean()


def of_the_users_own(module: Any, h: Tensor, y: Tensor) -> Tensor:
    loss = (h.mean(1) * torch.log(y)).mean()
    if not math.isfinite(loss.item()):
        raise Diverged("training diverged")
    return loss


def of_a_solver(module: Any, h: Tensor, y: Tensor) -> Tensor:
    matrix = torch.eye(4) * torch.log(y)[:, None, None] + h[:, :, None] * h[:, None, :]
    return torch.linalg.eigvalsh(matrix).sum() + h.mean()


def cast_to_an_index(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return (h * module.table((torch.log(y) * 0).long())).mean()


def of_a_hook(module: Any, h: Tensor, y: Tensor) -> Tensor:
    def check(grad: Tensor) -> None:
        if torch.isnan(grad).any():
            raise Diverged("a gradient is not finite")

    h.register_hook(check)
    return torch.sqrt((h * y[:, None]).pow(2).sum(1)).mean()


def inside_anomaly_detection(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt((h * (y - 1)[:, None]).pow(2).sum(1)).mean()


@pytest.mark.parametrize(
    ("loss", "usual", "bad", "error", "rule", "line"),
    [
        (checked_by_torch, 3.0, -1.0, ValueError, "nonfinite-loss", "torch.log(y)"),
        (asserted, 1.0, -1.0, AssertionError, "nonfinite-loss", "torch.log(y)"),
        (asserted_without_a_name, 1.0, -1.0, AssertionError, "nonfinite-loss", "torch.log(y)"),
        (of_the_users_own, 1.0, -1.0, Diverged, "nonfinite-loss", "torch.log(y)"),
        (of_a_solver, 1.0, -1.0, torch.linalg.LinAlgError, "nonfinite-loss", "torch.log(y)"),
        (cast_to_an_index, 1.0, -1.0, IndexError, "nonfinite-loss", "torch.log(y)"),
        (of_a_hook, 2.0, 0.0, Diverged, "nonfinite-gradient", "torch.sqrt("),
    ],
)
def test_the_number_that_led_to_an_error_is_named(
    loss: Any, usual: float, bad: float, error: type[Exception], rule: str, line: str, tmp_path: Path
) -> None:
    raised, found = fit(Net(loss), data(bad, usual), tmp_path)
    assert type(raised) is error, repr(raised)
    (finding,) = found
    assert finding.rule == rule, finding
    assert line in finding.evidence["source"], finding
    assert (finding.where.step, finding.evidence["batch_idx"]) == (BAD // SIZE, BAD // SIZE)
    assert (finding.evidence["samples"], finding.evidence["dataset_indices"]) == ([BAD % SIZE], [BAD])
    assert finding.evidence["exception"].startswith(error.__name__)
    (folder,) = (tmp_path / "debugkit" / "bundles").iterdir()
    assert same(*replay_bundle(folder, trust_code=True))


@pytest.mark.parametrize("loss", [checked_by_torch, asserted, of_the_users_own, of_a_solver, of_a_hook])
def test_without_the_bad_sample_nothing_is_said(loss: Any, tmp_path: Path) -> None:
    usual = 3.0 if loss is checked_by_torch else 2.0
    assert fit(Net(loss), data(None, usual), tmp_path) == (None, [])
    assert RUNS.qsize() == 4


class OfSomethingElse:
    """A loss that breaks by what no bundle carries."""

    factor = 0.0

    def __call__(self, module: Any, h: Tensor, y: Tensor) -> Tensor:
        return (h.mean(1) * torch.log(y * OfSomethingElse.factor + 1)).mean()


@pytest.mark.parametrize(
    ("factor", "told"), [(-1.0, "broke again"), (0.0, "did not break"), (-2.5, "broke in another way")]
)
def test_a_bundle_that_does_not_break_is_no_bundle_that_breaks_otherwise(
    factor: float, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OfSomethingElse, "factor", -1.0)
    fit(Net(OfSomethingElse()), data(10.0, 0.5), tmp_path)
    (folder,) = (tmp_path / "debugkit" / "bundles").iterdir()
    monkeypatch.setattr(OfSomethingElse, "factor", factor)
    assert main(["replay", "--trust-code", str(folder)]) == (told != "broke again")
    said = capsys.readouterr().out
    assert f"The step {told}" in said
    assert ("error: " in said) == (told != "did not break")


def test_what_anomaly_detection_raises_is_replayed(tmp_path: Path) -> None:
    raised, (finding,) = fit(Net(inside_anomaly_detection), data(1.0, 2.0), tmp_path, detect_anomaly=True)
    assert "returned nan values" in str(raised)
    assert finding.rule == "nonfinite-gradient"
    assert "a RuntimeError is raised at step 2: the gradient of sqrt at 0" in finding.message
    assert (finding.evidence["samples"], finding.evidence["dataset_indices"]) == ([BAD % SIZE], [BAD])


# --- a GradScaler and anomaly detection ---------------------------------------------------------------------------


def large(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return h.square().sum() * 300


@pytest.mark.parametrize("detect_anomaly", [True, False])
def test_overflows_of_the_first_scales_are_normal_and_anomaly_detection_makes_errors_of_them(
    detect_anomaly: bool, tmp_path: Path
) -> None:
    options = {"plugins": [MixedPrecision("16-mixed", "cpu")], "detect_anomaly": detect_anomaly}
    raised, found = fit(Net(large), data(None), tmp_path, **options)
    if not detect_anomaly:
        assert (raised, found) == (None, [])
        return
    assert "returned nan values" in str(raised)
    (finding,) = found
    assert (finding.rule, finding.severity) == ("nonfinite-gradient", 20)
    assert "overflow only at the loss scale 65536" in finding.message
    assert finding.advice.startswith("Switch detect_anomaly off: under 16-mixed the first overflows are normal")


# --- errors of some samples, though every number is finite --------------------------------------------------------


def embedded(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return (h * module.table(y.long())).mean()


def classified(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(h, y.long())


def probable(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(y / 2, torch.ones(len(y))) + h.mean()


def factorised(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return torch.linalg.cholesky(torch.eye(4) * y[:, None, None]).sum() + h.mean()


def on_the_device(module: Any, h: Tensor, y: Tensor) -> Tensor:
    torch._assert_async((y > 0).all())
    return h.mean()


@pytest.mark.parametrize(
    ("loss", "bad", "error", "says"),
    [
        (embedded, 7.0, IndexError, "index 7, where there are 5 rows (0 to 4)"),
        (classified, 4.0, IndexError, "target 4, where there are 4 classes (0 to 3)"),
        (probable, 3.0, RuntimeError, "between 0 and 1"),
        (factorised, -1.0, torch.linalg.LinAlgError, "not positive-definite"),
        (on_the_device, 0.0, RuntimeError, "Expected Tensor with single nonzero value"),
    ],
)
def test_the_sample_that_raises_is_named_with_its_value(
    loss: Any, bad: float, error: type[Exception], says: str, tmp_path: Path
) -> None:
    raised, (finding,) = fit(Net(loss), data(bad), tmp_path)
    assert type(raised) is error, repr(raised)
    assert (finding.rule, finding.severity) == ("step-raised", 30)
    assert f"the step raises {error.__name__}: " in finding.message
    assert says in finding.message
    assert f"sample {BAD % SIZE} of the batch" in finding.message
    assert finding.advice.startswith(f"Look at entry {BAD} of the dataset in what is used at ")
    assert "test_raised.py" in finding.evidence["source"]
    assert (finding.evidence["samples"], finding.evidence["dataset_indices"]) == ([BAD % SIZE], [BAD])
    (folder,) = (tmp_path / "debugkit" / "bundles").iterdir()
    assert same(*replay_bundle(folder, trust_code=True))
    mended = fit(Net(loss), data(None), tmp_path / "mended")
    assert mended == (None, [])


# --- what is not replayed, or tells nothing -----------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[Any, Tensor, Tensor], Tensor]:
    def loss(module: Any, h: Tensor, y: Tensor) -> Tensor:
        if RUNS.qsize() == 3:
            raise error
        return h.mean()

    return loss


def misspelt(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return module.layre(h).mean()


def misshapen(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return (h @ torch.ones(3, 2)).mean()


@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        (misspelt, 1),
        (misshapen, 1),
        *(
            (raising(error), 3)
            for error in (
                KeyError("label"),
                TypeError("no"),
                MemoryError(),
                RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
                torch.OutOfMemoryError("CUDA out of memory"),
                SystemExit(3),
                OSError("disk"),
            )
        ),
    ],
)
def test_a_mistake_in_the_program_and_a_full_memory_are_not_replayed(loss: Any, steps: int, tmp_path: Path) -> None:
    raised, found = fit(Net(loss), data(None), tmp_path)
    assert raised is not None
    assert found == []
    assert RUNS.qsize() == steps


def test_a_check_that_fails_for_any_batch_says_all_itself(tmp_path: Path) -> None:
    def loss(module: Any, h: Tensor, y: Tensor) -> Tensor:
        assert h.shape[1] == 5, "five columns are expected"
        return h.mean()

    raised, found = fit(Net(loss), data(None), tmp_path)
    assert isinstance(raised, AssertionError)
    assert found == []
    assert RUNS.qsize() == 4, "the step, its replay, the first sample and the last"


def test_an_error_that_does_not_come_again_tells_nothing(tmp_path: Path) -> None:
    raised, found = fit(Net(raising(ValueError("the service is not there"))), data(None), tmp_path)
    assert isinstance(raised, ValueError)
    assert found == []


class Angry(pl.Callback):
    def __init__(self, hook: str) -> None:
        setattr(self, hook, self.shout)

    def shout(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError("loss is nan")


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_before_backward", "on_train_batch_end"])
def test_the_error_of_another_callback_is_not_replayed(hook: str, tmp_path: Path) -> None:
    raised, found = fit(Net(lambda module, h, y: h.mean()), data(None), tmp_path, Angry(hook))
    assert isinstance(raised, ValueError)
    assert found == []
    assert RUNS.qsize() == (0 if hook == "on_train_batch_start" else 1)


def test_the_error_of_a_loader_is_not_replayed(tmp_path: Path) -> None:
    def batches() -> Any:
        yield torch.ones(2, 4), torch.ones(2)
        raise IndexError("index out of range")

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            return batches()

    train = DataLoader(Stream(), batch_size=None)
    raised, found = fit(Net(lambda module, h, y: h.mean()), train, tmp_path)
    assert isinstance(raised, IndexError)
    assert found == []
    assert RUNS.qsize() <= 1


def test_after_an_assert_on_the_device_nothing_is_run_and_the_way_out_is_said(tmp_path: Path) -> None:
    error = RuntimeError("CUDA error: device-side assert triggered. CUDA kernel errors might be reported later")
    raised, (finding,) = fit(Net(raising(error)), data(None), tmp_path)
    assert raised is error
    assert finding.rule == "step-raised"
    assert "the device runs nothing after such an error" in finding.message
    assert "accelerator='cpu'" in finding.advice
    assert RUNS.qsize() == 3


def test_the_replay_leaves_model_and_random_state_as_the_error_left_them(tmp_path: Path) -> None:
    left = []
    for watched in (True, False):
        module = Net(embedded)
        torch.manual_seed(3)
        if watched:
            fit(module, data(7.0), tmp_path)
        else:
            with pytest.raises(IndexError):
                pl.Trainer(**{**QUIET, "max_epochs": 1, "default_root_dir": tmp_path}).fit(module, data(7.0))
        left.append([torch.rand(3), *module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*left, strict=True))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), ValueError("loss is nan"), GeneratorExit()])
def test_what_was_raised_outside_of_a_step_is_nobodys_to_explain(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        raise error
    assert not can_be_explained(caught.value)


# --- validation and test ------------------------------------------------------------------------------------------


def out_of_the_table(module: Any, h: Tensor, y: Tensor) -> Tensor:
    return (h * module.table(y.long())).mean()


class Evaluated(Net):
    """Trains without the other column; validates and tests with it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layer(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(self, self.layer(batch[0]), batch[1]))

    test_step = validation_step


@pytest.mark.parametrize("stage", ["fit", "sanity check", "test"])
@pytest.mark.parametrize(
    ("loss", "usual", "bad", "rule", "says"),
    [
        (checked_by_torch, 3.0, -1.0, "nonfinite-loss", "a ValueError is raised in {hook} at step"),
        (asserted, 2.0, -1.0, "nonfinite-loss", "an AssertionError is raised in {hook} at step"),
        (out_of_the_table, 1.0, 7.0, "step-raised", "{hook} raises IndexError: index out of range in self (index 7"),
    ],
)
@pytest.mark.parametrize("broken", [True, False])
def test_an_error_of_an_evaluation_is_replayed(
    loss: Any, usual: float, bad: float, rule: str, says: str, stage: str, broken: bool, tmp_path: Path
) -> None:
    trainer = pl.Trainer(
        callbacks=[GradientAnomalyDetector()],
        default_root_dir=tmp_path,
        max_epochs=1,
        num_sanity_val_steps=-1 if stage == "sanity check" else 0,
        **QUIET,
    )
    module, held = Evaluated(loss), data(bad if broken else None, usual)
    try:
        trainer.fit(module, data(None, usual), None if stage == "test" else held)
        if stage == "test":
            trainer.test(module, held, verbose=False)
    except Exception:
        assert broken
    journal = read_journal(tmp_path / "debugkit")
    assert not journal.of_kind("trouble"), journal.of_kind("trouble")
    found = [finding for finding in journal.findings if finding.severity >= 20]
    assert [finding.rule for finding in found] == [rule] * broken
    for finding in found:
        assert says.format(hook="test_step" if stage == "test" else "validation_step") in finding.message
        assert (finding.evidence["samples"], finding.evidence["dataset_indices"]) == ([BAD % SIZE], [BAD])
        assert finding.evidence["batch_idx"] == BAD // SIZE


def test_a_validation_by_itself_tells_it_on_the_terminal(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    trainer = pl.Trainer(callbacks=[GradientAnomalyDetector()], default_root_dir=tmp_path, **QUIET)
    with pytest.raises(IndexError):
        trainer.validate(Evaluated(out_of_the_table), data(7.0), verbose=False)
    assert "step-raised: validation_step raises IndexError" in caplog.text
    assert f"Look at entry {BAD} of the dataset" in caplog.text
