"""The clipping monitor sees the norm before and after, in every style of clipping, and changes nothing."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.clipping.clipping_styles import (
    STYLES,
    Automatic,
    Manual,
    Plain,
    TwoOptimizers,
    digits,
    fit,
    half,
    lightnings,
)
from torch import nn

from lightning_debugkit import GradientAnomalyDetector, GradientClippingMonitor, read_journal
from lightning_debugkit.core.callback import DebugCallback
from lightning_debugkit.core.journal import Events

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DebugCallback, "_render", lambda self, run: None)


def journal(folder: Path) -> Events:
    events = read_journal(folder / "debugkit")
    troubles = events.of_kind("trouble")
    assert not troubles, "\n".join(map(str, troubles))
    return events


def points(folder: Path) -> list[dict[str, Any]]:
    return [event["value"] for event in journal(folder).of_kind("measure") if event["name"] == "clipping"]


@pytest.mark.parametrize("with_detector", [False, True], ids=["alone", "beside the detector"])
@pytest.mark.parametrize("style", STYLES)
def test_norms_equal_an_independent_computation(style: str, with_detector: bool, tmp_path: Path) -> None:
    make, options, by, is_exact = STYLES[style]
    torch.manual_seed(0)
    module = make()
    beside = [GradientAnomalyDetector(wiring=False)] if with_detector else []
    fit(module, tmp_path, *beside, GradientClippingMonitor(every_n_steps=1), **options())

    found = points(tmp_path)
    assert len(found) >= 10
    if "two" in style:  # they step in turn
        found = sorted(found, key=lambda point: point["optimizer"])
        module.before, module.after = ([*x[::2], *x[1::2]] for x in (module.before, module.after))
    tolerance = 2e-3 if "bf16" in style or "mixed" in style else 1e-5
    assert [point["norm"] for point in found] == pytest.approx(module.before, rel=tolerance)
    assert [point["after"] for point in found] == pytest.approx(module.after, rel=tolerance)
    assert {point["by"] for point in found} == {by}
    assert {point["exact"] for point in found} == {is_exact}
    cut = [after < 0.999 * before for before, after in zip(module.before, module.after, strict=True)]
    assert any(cut) == (style != "nothing clips"), "the style must clip for the comparison to mean something"


@pytest.mark.parametrize("style", STYLES)
def test_weights_are_the_same_to_the_bit(style: str, tmp_path: Path) -> None:
    make, options, *_ = STYLES[style]
    weights = []
    for watched in ([], [GradientClippingMonitor(every_n_steps=1)], [GradientClippingMonitor()]):
        torch.manual_seed(0)
        module = make()
        fit(module, tmp_path / str(len(weights)), *watched, **options())
        weights.append(copy.deepcopy(module.state_dict()))
    assert all(torch.equal(weights[0][key], other[key]) for other in weights[1:] for key in weights[0])


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
def test_two_ranks_clip_the_averaged_gradient(tmp_path: Path) -> None:
    """One rank tells, as the gradients of all are equal after their reduction."""
    torch.manual_seed(0)
    fit(NotesInAFile(tmp_path), tmp_path, GradientClippingMonitor(), gradient_clip_val=0.5, **PAIR)
    noted = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert noted[0] == pytest.approx(noted[1])
    assert [point["norm"] for point in points(tmp_path)] == pytest.approx(noted[0], rel=1e-5)


PAIR: dict[str, Any] = {"strategy": "ddp_fork", "devices": 2}


class NotesInAFile(Plain):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_train_end(self) -> None:
        torch.save(self.before, self.folder / f"{self.global_rank}.pt")


def test_no_second_pass_where_the_clipping_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first steps, only every tenth costs a look of our own."""
    from lightning_debugkit.monitors import grad_norm_cache

    looks: list[int] = []
    monkeypatch.setattr(grad_norm_cache, "norms", lambda gradients, _: looks.append(1) or torch.ones(len(gradients)))
    fit(Plain(), tmp_path, GradientClippingMonitor(), gradient_clip_val=0.5, max_epochs=5)
    assert len(points(tmp_path)) == 150
    assert len(looks) == 50 + 10


def test_the_detector_and_the_monitor_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_debugkit.monitors import grad_norm_cache

    looks: list[int] = []
    measure = grad_norm_cache.norms
    monkeypatch.setattr(grad_norm_cache, "norms", lambda *given: looks.append(1) or measure(*given))
    fit(Plain(), tmp_path, GradientAnomalyDetector(), GradientClippingMonitor())
    assert len(looks) == 30


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_callback_between_the_two_may_change_the_gradients(factor: float, tmp_path: Path) -> None:
    class Scales(pl.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            for parameter in pl_module.parameters():
                parameter.grad.mul_(factor)

    module = Plain()
    fit(module, tmp_path, GradientAnomalyDetector(), Scales(), GradientClippingMonitor())
    assert [point["norm"] for point in points(tmp_path)] == pytest.approx(module.before, rel=1e-5)


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    names = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "_clip_grads_with_norm_")
    owners = (nn.utils, nn.utils.clip_grad)
    before = [getattr(owner, name, None) for owner in owners for name in names]
    fit(Plain(), tmp_path / "a", GradientClippingMonitor(), gradient_clip_val=0.5)
    assert [getattr(owner, name, None) for owner in owners for name in names] == before
    with pytest.raises(ZeroDivisionError):
        fit(Breaks(), tmp_path / "b", GradientClippingMonitor(), gradient_clip_val=0.5)
    assert [getattr(owner, name, None) for owner in owners for name in names] == before


class Breaks(Plain):
    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        raise ZeroDivisionError


def test_the_steps_before_an_exception_are_told(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fit(Breaks(), tmp_path, GradientClippingMonitor(), gradient_clip_val=0.5)
    assert len(points(tmp_path)) == 1


def test_clipping_of_another_model_is_not_ours(tmp_path: Path) -> None:
    class ClipsAnother(Plain):
        def on_before_backward(self, loss: torch.Tensor) -> None:
            other = nn.Linear(2, 2)
            other(torch.ones(1, 2)).sum().backward()
            nn.utils.clip_grad_norm_(other.parameters(), 1e-9)

    fit(ClipsAnother(), tmp_path, GradientClippingMonitor())
    assert {point["by"] for point in points(tmp_path)} == {"nothing"}


def test_the_line_that_clips_at_the_wrong_moment_is_named(tmp_path: Path) -> None:
    class ClipsEarly(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            return loss

    fit(ClipsEarly(), tmp_path, GradientClippingMonitor())
    (found,) = [each for each in journal(tmp_path).findings if each.rule == "clipping-before-backward"]
    place, _, text = found.evidence["source"].partition(": ")
    assert place.partition(":")[0].endswith("test_gradient_clipping.py")
    assert text == "nn.utils.clip_grad_norm_(self.parameters(), 1.0)"


def test_the_tightest_of_several_clippings_stands(tmp_path: Path) -> None:
    class PartByPart(Automatic):
        def clip(self, optimizer: Any, value: float | None, algorithm: str | None) -> None:
            nn.utils.clip_grad_norm_(self.body.parameters(), 1e-3)
            nn.utils.clip_grad_norm_(self.head.parameters(), 1e3)

    fit(PartByPart(), tmp_path, GradientClippingMonitor())
    assert {point["threshold"] for point in points(tmp_path)} == {1e-3}
    assert len(points(tmp_path)) == 30


def test_auto_threshold_clips_by_the_running_percentile(tmp_path: Path) -> None:
    """As algorithm 1 of AutoClip: the step's own norm belongs to the distribution."""
    torch.manual_seed(0)
    module = Plain()
    monitor = GradientClippingMonitor(auto_threshold=True, percentile=25)
    trainer = fit(module, tmp_path, monitor, max_epochs=2)
    expected = [
        min(norm, float(torch.tensor(module.before[: i + 1], dtype=torch.float64).quantile(0.25))) if i >= 9 else norm
        for i, norm in enumerate(module.before)
    ]
    assert module.after == pytest.approx(expected, rel=1e-4)
    assert sum(after < 0.999 * before for before, after in zip(module.before, module.after, strict=True)) > 20
    assert trainer.gradient_clip_val is None
    assert [finding.rule for finding in journal(tmp_path).findings] == []


def test_auto_threshold_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = GradientClippingMonitor(auto_threshold=True)
    trainer = fit(Plain(), tmp_path / "a", first)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)["callbacks"]["GradientClippingMonitor"]
    assert len(kept["norms"]) == 30

    module, again = Plain(), GradientClippingMonitor(auto_threshold=True)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    resumed = pl.Trainer(max_epochs=2, callbacks=[again], default_root_dir=tmp_path / "b", accelerator="cpu", **quiet)
    resumed.fit(module, digits(), ckpt_path=tmp_path / "a.ckpt")
    assert points(tmp_path / "b")[0]["threshold"] is not None
    assert len(again.state_dict()["norms"]) == 60


@pytest.mark.parametrize(
    ("module", "options", "why"),
    [
        (lambda: Manual(lightnings), {}, "the module optimises manually"),
        (Automatic, {}, "overrides configure_gradient_clipping"),
        (Plain, {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}, "clips by value"),
    ],
)
def test_auto_threshold_says_where_it_cannot_clip(module: Any, options: Any, why: str, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=why):
        fit(module(), tmp_path, GradientClippingMonitor(auto_threshold=True), **options)


def test_auto_threshold_and_a_fused_optimizer_in_mixed_precision(tmp_path: Path) -> None:
    """Lightning refuses to clip there: to set a threshold would end the training."""

    class Fused(Plain):
        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), fused=True)

    with pytest.warns(UserWarning, match="fused optimizers"):
        fit(Fused(), tmp_path, GradientClippingMonitor(auto_threshold=True), **half())


def test_a_strategy_that_holds_parts_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_debugkit.monitors.clipping import callback

    monkeypatch.setattr(callback, "holds_whole_model", lambda _: False)
    with pytest.warns(UserWarning, match="clips nothing here: SingleDeviceStrategy gives each process a part"):
        fit(Plain(), tmp_path, GradientClippingMonitor(auto_threshold=True), gradient_clip_val=0.5)
    measures = journal(tmp_path).of_kind("measure")
    assert [event["name"] for event in measures] == ["clipping-unseen"]


def test_layers_share_the_squared_norm(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fit(Plain(), tmp_path, GradientClippingMonitor(), gradient_clip_val=1e-3)
    counts = [event["value"] for event in journal(tmp_path).of_kind("measure") if event["name"] == "clipping-counts"][
        -1
    ]
    assert set(counts["layers"]) == {"body", "head"}
    assert sum(counts["layers"].values()) == pytest.approx(1)
    assert (counts["steps"], counts["clipped"], sum(counts["counts"])) == (30, 30, 30)


def test_each_optimizer_is_told_by_name(tmp_path: Path) -> None:
    module = TwoOptimizers(lightnings)
    module.thresholds = (0.05, 0.05)
    fit(module, tmp_path, GradientClippingMonitor(), max_epochs=8)
    found = [f for f in journal(tmp_path).findings if f.rule == "clipping-always"]
    assert [f.evidence["optimizer"] for f in found] == ["SGD", "SGD-1"]
    assert [f.message.partition(": ")[0] for f in found] == ["SGD", "SGD-1"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"every_n_steps": 0}, "GradientClippingMonitor needs every_n_steps >= 1, got 0; 10 is a good start."),
        ({"every_n_steps": True}, "GradientClippingMonitor needs every_n_steps >= 1, got True; 10 is a good start."),
        (
            {"percentile": 100},
            "GradientClippingMonitor needs 0 < percentile < 100, got 100; 90 cuts the largest tenth.",
        ),
        (
            {"percentile": math.nan},
            "GradientClippingMonitor needs 0 < percentile < 100, got nan; 90 cuts the largest tenth.",
        ),
        (
            {"auto_threshold": "yes"},
            "GradientClippingMonitor needs auto_threshold True or False, got 'yes'; False is usual.",
        ),
    ],
)
def test_a_wrong_argument_is_told_in_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        GradientClippingMonitor(**arguments)
    assert str(caught.value) == sentence
