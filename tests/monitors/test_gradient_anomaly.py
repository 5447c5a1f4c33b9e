"""What the detector does about a broken step, and what it leaves alone."""

from __future__ import annotations

import contextlib
import copy
import errno
import math
import os
import pickle
import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torchmetrics
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from monitors.breaking import Net, data, differing, fit, journal, make, warned
from torch import Tensor, nn

from lightning_debugkit import GradientAnomalyDetector, TrainingAnomaly, read_journal
from lightning_debugkit.core.journal import strict
from lightning_debugkit.report import summarize
from lightning_debugkit.report.evidence_rows import rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

Detector = GradientAnomalyDetector


# --- the training is not changed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"hooks": "always"}, {"wiring": False}])
def test_a_replayed_step_changes_no_bit_of_the_weights(options: dict[str, Any], tmp_path: Path) -> None:
    """Dropout draws, batch norm's statistics and AdamW's moments are those of the run without the callback."""
    alone, watched = make("harmless", at=(3, 9)), make("harmless", at=(3, 9))
    fit(alone, tmp_path / "alone")
    fit(watched, tmp_path / "watched", Detector(action="warn", **options))

    assert differing(alone, watched) == []
    (finding,) = warned(journal(tmp_path / "watched"))
    assert (finding.rule, finding.where.step, finding.evidence["op"]) == ("nonfinite-loss", 3, "aten.log.default")


def test_a_replay_leaves_the_random_numbers_of_the_run_alone(tmp_path: Path) -> None:
    drawn = []
    for callbacks in ([], [Detector(action="warn")]):
        fit(make("harmless", at=(15,)), tmp_path, *callbacks)
        drawn.append(torch.rand(3).tolist())
    assert drawn[0] == drawn[1]


class Measured(Net):
    """Keeps a torchmetrics state, a list and a counter in its step."""

    def __init__(self, breaks: str, at: tuple[int, ...]) -> None:
        super().__init__(breaks, at)
        self.mean = torchmetrics.MeanMetric()
        self.error = torchmetrics.MeanSquaredError()
        self.calls, self.kept = 0, []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls += 1
        self.kept.append(float(batch[0].sum()))
        self.mean(batch[0].mean())
        self.error.update(self.net(batch[0]).detach(), batch[1])
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        self.log("error", self.error, on_epoch=True)
        if self.logger is not None:
            self.logger.log_metrics({"by_hand": float(batch[0].sum())}, step=self.global_step)
        return super().training_step(batch, batch_idx)


def test_logged_values_metric_states_and_counters_are_those_of_the_run(tmp_path: Path) -> None:
    runs = []
    for name, callbacks in (("alone", []), ("watched", [Detector(action="warn")])):
        pl.seed_everything(11, verbose=False)
        module = Measured("harmless", at=(3, 9))
        fit(module, tmp_path / name, *callbacks, logger=CSVLogger(tmp_path / name, version=0), log_every_n_steps=1)
        metrics = (tmp_path / name / "lightning_logs/version_0/metrics.csv").read_text()
        runs.append((metrics, module.calls, module.kept))
    assert "by_hand" in runs[0][0]
    assert "nan" not in runs[0][0]
    assert runs[0] == runs[1]
    assert warned(journal(tmp_path / "watched" / "lightning_logs/version_0"))


# --- the four actions ---------------------------------------------------------------------------------------------


class Weights(pl.Callback):
    """The state of the module before each step."""

    def __init__(self) -> None:
        self.before: list[dict[str, Tensor]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.before.append(copy.deepcopy(module.state_dict()))


def parameters_differ(module: pl.LightningModule, kept: dict[str, Tensor]) -> list[str]:
    return [name for name, p in module.named_parameters() if not torch.equal(p, kept[name])]


@pytest.mark.parametrize("breaks", ["nan", "harmless", "backward"])
def test_raise_ends_the_fit_with_the_finding_and_the_weights_of_before(breaks: str, tmp_path: Path) -> None:
    module, weights = make(breaks, at=(5,)), Weights()
    with pytest.raises(TrainingAnomaly) as caught:
        fit(module, tmp_path, weights, Detector())

    events = journal(tmp_path)
    (finding,) = warned(events)
    assert strict(caught.value.finding.to_event()) == strict(finding.to_event())
    assert (finding.where.step, finding.evidence["batch_idx"]) == (5, 5)
    assert finding.message in str(caught.value)
    assert len(weights.before) == 6
    assert parameters_differ(module, weights.before[-1]) == []
    (end,) = events.of_kind("end")
    assert (end["status"], end["exception"]["type"]) == ("exception", "TrainingAnomaly")


def test_the_exception_survives_pickling(tmp_path: Path) -> None:
    """A worker process of a spawning strategy hands it to its parent so."""
    with pytest.raises(TrainingAnomaly) as caught:
        fit(make(at=(1,)), tmp_path, Detector())
    again = pickle.loads(pickle.dumps(caught.value))
    assert strict(again.finding.to_event()) == strict(caught.value.finding.to_event())
    assert str(again) == str(caught.value)


def test_stop_ends_the_fit_in_order_with_clean_weights(tmp_path: Path) -> None:
    module, weights = make(at=(5,)), Weights()
    trainer = fit(module, tmp_path, weights, Detector(action="stop"))

    assert (trainer.interrupted, trainer.state.finished) == (False, True)
    assert len(weights.before) == 6
    assert parameters_differ(module, weights.before[-1]) == []
    events = journal(tmp_path)
    assert [end["status"] for end in events.of_kind("end")] in (["finished"], ["stopped"])
    assert [finding.rule for finding in warned(events)] == ["nonfinite-loss"]


@pytest.mark.parametrize("breaks", ["nan", "backward"])
def test_skip_drops_the_update_and_goes_on(breaks: str, tmp_path: Path) -> None:
    module, weights = make(breaks, at=(3, 4, 9)), Weights()
    fit(module, tmp_path, weights, Detector(action="skip"))

    kept = weights.before
    assert len(kept) == 16
    for step in range(15):
        same = all(torch.equal(kept[step][name], kept[step + 1][name]) for name in kept[step])
        assert same is (step in (3, 4, 9)), step
    assert all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())


def test_skip_takes_the_batch_off_the_buffers(tmp_path: Path) -> None:
    """A batch of NaN would stay in batch norm's running mean for ever."""
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    x[20] = math.nan  # the whole row: no column is to blame
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    module = make()
    fit(module, tmp_path, Detector(action="skip"), train=loader)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in module.state_dict().values())
    (finding,) = warned(journal(tmp_path))
    assert (finding.rule, finding.evidence["samples"]) == ("nonfinite-input", [4])
    assert finding.evidence["dataset_indices"] == [20]
    summary = summarize(journal(tmp_path))
    first = f"loss is nan at step {finding.where.step}: batch[0] holds nan, sample 4 of the batch"
    assert summary.verdict == f"The run finished; 2 steps were skipped, the first: {first}."


def test_skip_raises_when_it_has_dropped_too_many(tmp_path: Path) -> None:
    weights = Weights()
    with pytest.raises(TrainingAnomaly, match="; max_skips=2 updates were dropped before it, and no more may be"):
        fit(make(at=(2, 4, 6, 8)), tmp_path, weights, Detector(action="skip", max_skips=2))
    assert len(weights.before) == 7


@pytest.mark.parametrize(("most", "skipped"), [(10, 3), (2, 2)], ids=["went on", "gave up"])
def test_the_last_line_says_how_many_steps_were_skipped(
    most: int, skipped: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, with_report: None
) -> None:
    with contextlib.suppress(TrainingAnomaly):
        fit(make(at=(2, 4, 6)), tmp_path, Detector(action="skip", max_skips=most))
    said = f"lightning-debugkit: 1 error, {skipped} steps skipped: nonfinite-loss (step 2)"
    assert [message.partition("\n")[0] for message in caplog.messages if "Report: " in message] == [said]


def test_skip_names_the_step_at_which_it_raises_where_the_first_few_are_replayed_only(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly, match="; step 9 is broken, too; max_skips=7 updates were dropped before it"):
        fit(make(at=tuple(range(2, 12))), tmp_path, Detector(action="skip", max_skips=7))


def test_warn_tells_once_and_lets_the_weights_break(tmp_path: Path) -> None:
    """Weights, running statistics, validation and test are broken for one cause, which has been told."""
    module = make(at=(3, 5))
    trainer = fit(module, tmp_path, Detector(action="warn"), max_epochs=5, validation=data(32))
    trainer.test(module, data(16), verbose=False)
    assert [finding.rule for finding in warned(journal(tmp_path))] == ["nonfinite-loss"]
    assert module.net[0].weight.isnan().all()
    assert module.net[1].running_mean.isnan().all()


def test_a_validation_that_breaks_by_itself_is_told_under_warn_too(tmp_path: Path) -> None:
    """An infinite loss whose gradients are sound leaves the weights whole: what breaks later has its own cause."""

    class Logs(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", (batch[0][0, 0] * 0).log() * 0)

    pl.seed_everything(11, verbose=False)
    fit(Logs("harmless", (3,)), tmp_path, Detector(action="warn"), validation=data(32))
    assert {finding.rule for finding in warned(journal(tmp_path))} == {"nonfinite-loss", "nonfinite-validation"}


def test_a_validation_that_stays_broken_is_told_once_however_long(tmp_path: Path) -> None:
    """Broken before the fit, by what no gradient reaches; replays end after a few, and with them what is known."""

    class Broken(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", (self.net(batch[0]) * self.weight).mean())

    pl.seed_everything(11, verbose=False)
    module = Broken()
    module.weight = torch.nn.Parameter(torch.tensor(math.nan), requires_grad=False)
    fit(module, tmp_path, Detector(), max_epochs=6, validation=data(32))
    assert [finding.rule for finding in warned(journal(tmp_path))].count("nonfinite-validation") == 1


@pytest.mark.parametrize("action", ["skip", "stop", "raise"])
def test_in_an_accumulation_window_the_bad_batch_is_named_and_dropped(action: str, tmp_path: Path) -> None:
    """The window of batches 4 to 7 breaks in batch 4: it is the second window, global step 1."""
    module, weights = make(at=()), Weights()
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    x[4 * 8 + 2, 3] = math.inf
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
    options = {"train": loader, "accumulate_grad_batches": 4, "max_epochs": 1}
    try:
        fit(module, tmp_path, weights, Detector(action=action), **options)
    except TrainingAnomaly:
        assert action == "raise"
    (finding,) = warned(journal(tmp_path))
    assert (finding.rule, finding.evidence["batch_idx"], finding.evidence["samples"]) == ("nonfinite-input", 4, [2])
    assert finding.where.step == 1
    assert parameters_differ(module, weights.before[4]) == []


# --- the step that cannot be run again ----------------------------------------------------------------------------


def once_only(at: tuple[int, ...]) -> Net:
    """A step that eats its batch: it raises when it is run again."""
    eaten: set[int] = set()

    class Eats(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.global_step in eaten:
                raise RuntimeError("this batch has been eaten")
            eaten.add(self.global_step)
            return super().training_step(batch, batch_idx)

    pl.seed_everything(11, verbose=False)
    return Eats("nan", at)


@pytest.mark.parametrize("action", ["raise", "stop", "skip", "warn"])
def test_a_step_that_cannot_be_run_again_ends_as_chosen_and_says_so(action: str, tmp_path: Path) -> None:
    try:
        fit(once_only((4,)), tmp_path, Detector(action=action))
        raised = False
    except TrainingAnomaly:
        raised = True
    assert raised is (action == "raise")
    finding = warned(journal(tmp_path))[0]
    assert (finding.rule, finding.where.step) == ("nonfinite-loss", 4)
    assert "could not be run again: RuntimeError: this batch has been eaten" in finding.evidence["note"]
    assert "hooks='always'" in finding.advice


class FromIterator(Net):
    """Takes its batches itself."""

    def training_step(self, dataloader_iter: Any) -> Tensor:
        (x, y), _, _ = next(dataloader_iter)
        loss = (self.net(x) - y).square().mean()
        return self.broken(loss, x) if self.global_step in self.at else loss


@pytest.mark.parametrize("action", ["raise", "stop"])
def test_a_step_that_takes_its_own_batches_is_not_replayed_and_says_so(action: str, tmp_path: Path) -> None:
    pl.seed_everything(11, verbose=False)
    module = FromIterator("nan", at=(4,))
    try:
        fit(module, tmp_path, Detector(action=action))
    except TrainingAnomaly:
        assert action == "raise"
    finding = warned(journal(tmp_path))[0]
    assert (finding.rule, finding.where.step) == ("nonfinite-loss", 4)
    assert "cannot be wound back" in finding.evidence["note"]


class Deep(Net):
    """Breaks inside of a submodule, in a step that can be run once only."""

    def __init__(self, where: str, eaten: set[int]) -> None:
        super().__init__()
        self.where = where
        self.inner = nn.ModuleDict({"a": nn.Linear(6, 6), "b": Poison(self, where)})
        self.__dict__["eaten"] = eaten

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step in self.eaten:
            raise RuntimeError("this batch has been eaten")
        self.eaten.add(self.global_step)
        x, y = batch
        return (self.net(self.inner["b"](self.inner["a"](x))) - y).square().mean()


class Poison(nn.Module):
    """Breaks in forward or in backward, in step 4."""

    def __init__(self, owner: pl.LightningModule, where: str) -> None:
        super().__init__()
        self.__dict__["owner"], self.where = owner, where

    def forward(self, x: Tensor) -> Tensor:
        if self.owner.global_step != 4:
            return x
        return x * math.nan if self.where == "forward" else x + torch.sqrt(x * 0)


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_hooks_kept_on_name_the_module_of_a_step_that_cannot_be_run_again(where: str, tmp_path: Path) -> None:
    """Backwards, the first output whose gradient breaks is what went into the poison."""
    pl.seed_everything(11, verbose=False)
    with pytest.raises(TrainingAnomaly):
        fit(Deep(where, set()), tmp_path, Detector(hooks="always"))
    finding = warned(journal(tmp_path))[0]
    assert finding.where.module == ("inner.b" if where == "forward" else "inner.a")


# --- the journal --------------------------------------------------------------------------------------------------


def test_the_journal_has_the_series_that_figures_draw(tmp_path: Path) -> None:
    module = make()
    fit(module, tmp_path, Detector(), max_epochs=1)
    events = journal(tmp_path)
    series: dict[str, list[Any]] = {}
    for event in events.of_kind("measure"):
        series.setdefault(event["name"], []).append((event["step"], event["value"]))
    assert set(series) == {"loss", "learning-rate", "gradient-norms", "logged"}
    assert [step for step, _ in series["loss"]] == list(range(8))
    assert series["learning-rate"][0] == (0, {"AdamW": 1e-2})
    assert set(series["gradient-norms"][0][1]) == {name for name, _ in module.named_parameters()}


def test_measured_norms_and_losses_are_those_of_the_run(tmp_path: Path) -> None:
    class Second(pl.Callback):
        """Norms one by one, at the same moment."""

        def __init__(self) -> None:
            self.norms: list[dict[str, float]] = []
            self.losses: list[float] = []

        def on_before_backward(self, trainer: pl.Trainer, module: Any, loss: Tensor) -> None:
            self.losses.append(loss.item())

        def on_before_optimizer_step(self, trainer: pl.Trainer, module: Any, optimizer: Any) -> None:
            self.norms.append({name: float(p.grad.norm()) for name, p in module.named_parameters()})

    second = Second()
    fit(make(), tmp_path, second, Detector())
    events = journal(tmp_path).of_kind("measure")
    norms = [event["value"] for event in events if event["name"] == "gradient-norms"]
    assert [event["value"] for event in events if event["name"] == "loss"] == pytest.approx(second.losses, rel=1e-6)
    assert len(norms) == len(second.norms)
    for found, expected in zip(norms, second.norms, strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-9)


class Turns(Net):
    """Two optimizers in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.other = nn.Linear(6, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        for optimizer, net in zip(self.optimizers(), (self.net, self.other), strict=True):
            optimizer.zero_grad()
            self.manual_backward((net(x) - y).square().mean())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.AdamW(net.parameters(), lr=1e-2) for net in (self.net, self.other)]


def test_both_of_two_optimizers_are_measured_to_the_end(tmp_path: Path) -> None:
    """Their steps count together: the second is only ever seen at odd ones."""
    pl.seed_everything(11, verbose=False)
    fit(Turns(), tmp_path, Detector(), train=data(512, 4), max_epochs=4)
    norms = [event for event in journal(tmp_path).of_kind("measure") if event["name"] == "gradient-norms"]
    assert max(event["step"] for event in norms if "other.weight" in event["value"]) > 900
    assert max(event["step"] for event in norms if "net.0.weight" in event["value"]) > 900


def test_the_run_is_described(tmp_path: Path) -> None:
    fit(make(), tmp_path, Detector(), max_epochs=1)
    (run,) = journal(tmp_path).of_kind("run")
    assert (run["world_size"], run["seed"], run["config"]["model"]) == (1, 5, "Net")
    assert run["versions"]["torch"] == torch.__version__


def test_a_second_fit_of_the_trainer_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    module = make()
    trainer = fit(module, tmp_path, Detector(), max_epochs=1)
    first = (tmp_path / "debugkit/journal-0.jsonl").read_bytes()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, data())
    assert (tmp_path / "debugkit/journal-0.jsonl").read_bytes() == first
    events = journal(tmp_path, "debugkit-1")
    assert [end["status"] for end in events.of_kind("end")] == ["finished"]
    assert sorted(path.name for path in tmp_path.glob("debugkit*")) == ["debugkit", "debugkit-1"]


def test_two_kit_callbacks_share_a_run(tmp_path: Path) -> None:
    class Other(GradientAnomalyDetector):
        """Another callback of the kit."""

    fit(make(at=(4,)), tmp_path, Detector(action="skip"), Other(wiring=False, action="skip"))
    assert [path.name for path in tmp_path.glob("debugkit*")] == ["debugkit"]
    events = journal(tmp_path)
    assert (len(events.of_kind("run")), len(events.of_kind("end"))) == (1, 1)
    assert events[-1]["kind"] == "end"


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "interrupted"), (ZeroDivisionError, "exception")])
def test_a_run_that_is_broken_off_has_an_end_and_a_report(
    error: type[BaseException], status: str, tmp_path: Path, with_report: None
) -> None:
    class Breaks(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if self.global_step == 3:
                raise error("enough")
            return super().training_step(batch, batch_idx)

    with pytest.raises((ZeroDivisionError, SystemExit, KeyboardInterrupt)):
        fit(Breaks(), tmp_path, Detector())
    (end,) = journal(tmp_path).of_kind("end")
    assert (end["status"], end["exception"]["type"], end["step"]) == (status, error.__name__, 3)
    assert "enough" in end["exception"]["message"]
    assert error.__name__ in (tmp_path / "debugkit/report.md").read_text()


def test_a_broken_run_leaves_report_samples_and_bundle(tmp_path: Path, with_report: None) -> None:
    with pytest.raises(TrainingAnomaly) as caught:
        fit(make(at=(4,)), tmp_path, Detector())
    run = tmp_path / "debugkit"
    assert Path(caught.value.report) == run / "report.html"
    assert "nonfinite-loss" in (run / "report.html").read_text()
    paths = [event["path"] for event in journal(tmp_path).of_kind("artifact")]
    assert paths
    assert all((run / path).exists() for path in paths)
    assert (run / "bundles/step-4-rank-0/bundle.json").is_file()


def test_without_bundle_no_bundle_is_left(tmp_path: Path) -> None:
    with pytest.raises(TrainingAnomaly):
        fit(make(at=(4,)), tmp_path, Detector(bundle=False))
    assert not (tmp_path / "debugkit/bundles").exists()


# --- resuming -----------------------------------------------------------------------------------------------------


def test_a_resumed_run_remembers_what_it_told_and_its_trends(tmp_path: Path) -> None:
    first = Detector(action="warn")
    trainer = fit(make("harmless", at=(3,)), tmp_path / "first", first, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert len(warned(journal(tmp_path / "first"))) == 1

    second = Detector(action="warn")
    module = make("harmless", at=(10,))
    fit(module, tmp_path / "second", second, max_epochs=2, ckpt_path=tmp_path / "last.ckpt")
    assert warned(journal(tmp_path / "second")) == []
    trends = second.watches.trends
    assert trends.start[:7] == first.watches.trends.start
    assert len(trends.losses) == 14  # of 16 steps two are broken


def test_dropped_updates_are_counted_across_a_resume(tmp_path: Path) -> None:
    trainer = fit(make(at=(2, 3)), tmp_path / "first", Detector(action="skip", max_skips=2), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.raises(TrainingAnomaly):
        fit(
            make(at=(10,)),
            tmp_path / "second",
            Detector(action="skip", max_skips=2),
            ckpt_path=tmp_path / "last.ckpt",
        )


# --- trainers of all kinds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"fast_dev_run": True}, {"limit_train_batches": 2}, {"max_steps": 3}, {"overfit_batches": 1}],
    ids=str,
)
def test_a_short_run_of_any_kind_is_whole_and_silent(options: dict[str, Any], tmp_path: Path) -> None:
    fit(make(), tmp_path, Detector(), **options)
    events = journal(tmp_path)
    assert [events[0]["kind"], events[-1]["kind"], warned(events)] == ["run", "end", []]


def test_a_barebones_trainer_runs_as_without(tmp_path: Path) -> None:
    """Lightning refuses callbacks that it knows to cost time there, not others."""
    module = make()
    pl.seed_everything(5, verbose=False)
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "default_root_dir": tmp_path}
    trainer = pl.Trainer(barebones=True, callbacks=[Detector()], **options)
    trainer.fit(module, data())
    assert [end["status"] for end in journal(tmp_path).of_kind("end")] == ["finished"]


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_runs_without_training_leave_nothing(verb: str, tmp_path: Path) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1}
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[Detector()], **quiet)
    getattr(trainer, verb)(make(), data())
    assert list(tmp_path.iterdir()) == []


def test_validation_within_a_fit_is_silent(tmp_path: Path) -> None:
    pl.seed_everything(5, verbose=False)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", "devices": 1, "max_epochs": 2}
    trainer = pl.Trainer(default_root_dir=tmp_path, callbacks=[Detector()], enable_checkpointing=False, **quiet)
    trainer.fit(make(), data(), data())
    events = journal(tmp_path)
    assert (warned(events), len(events.of_kind("end"))) == ([], 1)


def test_the_first_skips_of_a_loss_scale_are_silent(tmp_path: Path) -> None:
    """A scale of 2**20 overflows float16 gradients a few times before it fits."""
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
    module = make()
    fit(module, tmp_path, Detector(), plugins=[MixedPrecision("16-mixed", "cpu", scaler)], max_epochs=3)
    assert 1 <= scaler.get_scale() < 2.0**20
    assert warned(journal(tmp_path)) == []


def test_the_loss_is_told_without_its_scale(tmp_path: Path) -> None:
    losses = []
    for plugins in ([], [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=256.0))]):
        folder = tmp_path / str(len(plugins))
        fit(make(), folder, Detector(), plugins=plugins, max_epochs=1)
        measures = [event for event in journal(folder).of_kind("measure") if event["name"] == "loss"]
        losses.append(measures[0]["value"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_hooks_are_gone_when_the_fit_is_over(tmp_path: Path) -> None:
    module = make(at=(3,))
    with pytest.raises(TrainingAnomaly):
        fit(module, tmp_path, Detector(hooks="always"))
    hooks = [name for name, part in module.named_modules() if part._forward_hooks or part._forward_pre_hooks]
    assert (hooks, "log" in vars(module), "manual_backward" in vars(module)) == ([], False, False)


# --- bad disks ----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_once_and_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lightning_debugkit.core.journal.os.write", full)
    alone, watched = make(), make()
    fit(alone, tmp_path / "alone")
    with pytest.warns(UserWarning, match="cannot write its journal in .*No space left") as told:
        trainer = fit(watched, tmp_path / "watched", Detector())
    assert (trainer.state.finished, differing(alone, watched)) == (True, [])
    assert len([one for one in told if "cannot write its journal" in str(one.message)]) == 1


def test_a_disk_that_is_full_still_stops_a_broken_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int, line: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("lightning_debugkit.core.journal.os.write", full)
    with pytest.warns(UserWarning, match="cannot write its journal"), pytest.raises(TrainingAnomaly) as caught:
        fit(make(at=(3,)), tmp_path, Detector())
    assert caught.value.finding.where.step == 3


def test_a_root_that_is_a_file_is_said_and_another_folder_used(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_text("a file")
    with pytest.warns(UserWarning, match="cannot make a run folder in .*root .*; it writes to .* instead") as told:
        trainer = fit(make(), root, Detector())
    assert trainer.state.finished
    (said,) = [str(one.message) for one in told if "run folder" in str(one.message)]
    instead = Path(said.rpartition("it writes to ")[2].removesuffix(" instead."))
    assert [end["status"] for end in read_journal(instead).of_kind("end")] == ["finished"]


# --- arguments ----------------------------------------------------------------------------------------------------

SENTENCES = {
    "action": (
        {"action": "explode"},
        "GradientAnomalyDetector needs action 'raise', 'stop', 'skip' or 'warn', got 'explode'; "
        "'raise' keeps the weights clean.",
    ),
    "hooks": (
        {"hooks": "never"},
        "GradientAnomalyDetector needs hooks 'replay' or 'always', got 'never'; 'replay' costs nothing.",
    ),
    "max_skips": (
        {"max_skips": -1},
        "GradientAnomalyDetector needs max_skips >= 0, got -1; 10 is a good start.",
    ),
    "max_skips of a wrong type": (
        {"max_skips": True},
        "GradientAnomalyDetector needs max_skips >= 0, got True; 10 is a good start.",
    ),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_wrong_argument_is_told_in_a_sentence(name: str) -> None:
    arguments, sentence = SENTENCES[name]
    with pytest.raises(ValueError) as caught:
        Detector(**arguments)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("option", ["wiring", "bundle"])
def test_a_switch_that_is_no_bool_is_told_too(option: str) -> None:
    """``wiring="off"`` would switch it on."""
    with pytest.raises(ValueError, match=f"GradientAnomalyDetector needs {option} "):
        Detector(**{option: "off"})


def test_without_wiring_no_wiring_is_told(tmp_path: Path) -> None:
    class Forgets(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.net[0].parameters(), lr=1e-2)

    def rules(name: str) -> set[str]:
        return {one.rule for one in warned(journal(tmp_path / name))}

    fit(Forgets(), tmp_path / "with", Detector())
    fit(Forgets(), tmp_path / "without", Detector(wiring=False))
    assert (rules("with"), rules("without")) == ({"parameter-not-in-optimizer"}, set())


class Rash(Net):
    """Steps that move each weight by far more than its size."""

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=3e3)


def test_weights_thrown_far_are_told_in_numbers_that_can_be_read_with_the_share_of_a_step(tmp_path: Path) -> None:
    pl.seed_everything(11, verbose=False)
    fit(Rash(), tmp_path, Detector(action="warn"))
    (found,) = [each for each in warned(journal(tmp_path)) if each.rule == "update-ratio-high"]
    told = re.fullmatch(
        r"10 steps moved the weights by (\d+) times their initial size, (\d+) times at each, in net\.[04]\.weight",
        found.message,
    )
    assert told is not None, found.message
    assert int(told[1]) == pytest.approx(10 * int(told[2]), rel=0.02)
    assert found.evidence["ratio"] == int(told[2])
    assert rows(found) == []
