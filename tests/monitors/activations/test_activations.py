"""What the monitor says about a run, what it keeps silent about, and that it leaves no trace in the training."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import DDPStrategy
from monitors.breaking import data, differing, fit, journal, make, warned
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import ActivationMonitor, Finding, PreflightCheck, Severity, read_journal
from lightning_debugkit.core.journal import Events
from lightning_debugkit.core.sampling import SampledSteps
from lightning_debugkit.report import render

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore:.*(LeafSpec|torch.jit).*"),
]


class Model(pl.LightningModule):
    """A network under ``loss``, by default the mean squared error, with SGD."""

    def __init__(self, net: nn.Module, loss: Any = F.mse_loss, rate: float = 1e-3) -> None:
        super().__init__()
        self.net, self.loss, self.rate = net, loss, rate

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def layers(act: nn.Module, *, dead: int = 0, units: int = 32, at: float = -50.0) -> nn.Sequential:
    """6 inputs, ``units`` units of which the first ``dead`` start at ``at``, one output."""
    pl.seed_everything(3, verbose=False)
    first = nn.Linear(6, units)
    with torch.no_grad():
        first.bias[:dead] = at
    return nn.Sequential(first, act, nn.Linear(units, 1))


def run(module: pl.LightningModule, folder: Path, every: int = 5, **options: Any) -> Events:
    """Five epochs of eight batches of eight."""
    fit(module, folder, ActivationMonitor(every_n_steps=every), **{"max_epochs": 5, **options})
    return journal(folder)


def measures(events: Events, name: str) -> dict[int, Any]:
    return {event["step"]: event["value"] for event in events.of_kind("measure") if event["name"] == name}


# --- dead units -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dead", "told"), [(0, []), (23, []), (25, [("warning", 25)]), (31, [("warning", 31)])])
def test_a_layer_is_told_at_three_quarters(dead: int, told: list[Any], tmp_path: Path) -> None:
    """Of 32 coins 25 or more seldom fall on one side; 24 is three quarters, but a coin may do so."""
    found = warned(run(Model(layers(nn.ReLU(), dead=dead)), tmp_path))
    assert [(str(one.severity), one.evidence["dead"]) for one in found] == told
    assert {one.rule for one in found} <= {"dead-units"}


def test_the_finding_names_place_numbers_and_line(tmp_path: Path) -> None:
    (found,) = warned(run(Model(layers(nn.ReLU(), dead=30)), tmp_path))
    seen = found.evidence
    assert (found.where.module, found.where.step, found.where.rank) == ("net.1", 38, 0), (
        "13 looks at 8 samples are the first 100"
    )
    assert found.message == (
        f"30 of 32 units of net.1 (relu) are dead: they gave 0 for all {seen['samples_seen']} samples, "
        f"observed {seen['looks']} times over {seen['steps']} steps, and get no gradient"
    )
    assert (seen["samples_seen"], seen["steps"] >= 20) == (8 * seen["looks"], True)
    assert found.evidence["layer"] == "net.0"
    assert found.evidence["first_units"] == list(range(10))
    assert "self.loss(self.net(batch[0])" in found.evidence["source"]


def test_an_activation_has_one_name_while_the_step_is_listened_to_and_later(tmp_path: Path) -> None:
    model = Model(layers(nn.ReLU(), dead=24))
    fit(model, tmp_path, ActivationMonitor(every_n_steps=1), PreflightCheck(extra_passes=False), max_steps=4)
    assert {tuple(shares) for shares in measures(journal(tmp_path), "inactive-units").values()} == {("net.1 (relu)",)}


def test_a_layer_that_is_dead_as_a_whole_is_an_error_with_a_constant_output(tmp_path: Path) -> None:
    found = warned(run(Model(layers(nn.ReLU(), dead=32)), tmp_path))
    assert {(one.rule, str(one.severity), one.where.module) for one in found} == {
        ("dead-units", "error", "net.1"),
        ("constant-output", "warning", "net.2"),
    }
    (constant,) = [one for one in found if one.rule == "constant-output"]
    assert constant.message.endswith("it varied by at most 0 of its size")


class Beside(nn.Module):
    """A dead branch beside a path that is alive."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.path = layers(nn.ReLU(), dead=32), nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) + self.path(x)


def test_a_branch_that_is_dead_as_a_whole_is_a_warning(tmp_path: Path) -> None:
    (found,) = warned(run(Model(Beside()), tmp_path))
    assert (found.rule, found.severity, found.where.module) == ("dead-units", Severity.WARNING, "net.branch.1")


def test_units_that_die_in_training_are_told_and_once(tmp_path: Path) -> None:
    class Dies(Model):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 12:
                with torch.no_grad():
                    self.net[0].bias[:30] = -50

    (found,) = warned(run(Dies(layers(nn.ReLU())), tmp_path, every=2, max_epochs=10))
    assert (found.rule, found.evidence["dead"]) == ("dead-units", 30)
    assert found.where.step - found.evidence["steps"] >= 12


def test_units_that_speak_once_in_a_while_are_sparse_and_not_dead(tmp_path: Path) -> None:
    class Wakes(Model):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                self.net[0].bias[:30] = 50.0 if self.global_step % 4 == 0 else -50.0

    events = run(Wakes(layers(nn.ReLU()), rate=1e-6), tmp_path, every=5, max_epochs=10)
    shares = [share["net.1 (relu)"] for share in measures(events, "inactive-units").values()]
    assert sum(share > 0.9 for share in shares) > len(shares) / 2
    assert warned(events) == []


def test_a_layer_whose_units_speak_by_turns_is_sparse_by_design(tmp_path: Path) -> None:
    """4000 units, one for each sample: in few looks most have not had their turn."""

    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(6, 4000), nn.Linear(4000, 1)

        def forward(self, x: Tensor) -> Tensor:
            scores = self.inner(x)
            return self.head(F.relu(scores - scores.detach().topk(2, 1).values[:, 1:]))

    assert warned(run(Model(OneHot(), rate=1e-5), tmp_path, train=data(640))) == []


@pytest.mark.parametrize("how", ["frozen", "detached"])
def test_what_does_not_learn_is_not_accused(how: str, tmp_path: Path) -> None:
    class Detached(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self[1](self[0](x))
            return self[2](x)

    net = layers(nn.ReLU(), dead=30)
    net = Detached(*net) if how == "detached" else net
    if how == "frozen":
        net[0].requires_grad_(False)
    assert warned(run(Model(net), tmp_path)) == []


@pytest.mark.parametrize("hinge", [lambda out, y: F.relu(1 - out).mean(), lambda out, y: F.relu(-out.abs()).mean()])
def test_a_hinge_that_is_satisfied_is_no_dead_layer(hinge: Any, tmp_path: Path) -> None:
    net = layers(nn.Tanh())
    with torch.no_grad():
        net[2].bias.fill_(50)
    assert warned(run(Model(net, hinge), tmp_path)) == []


def test_a_rectified_output_of_nothing_but_zeros_is_told(tmp_path: Path) -> None:
    net = nn.Sequential(*layers(nn.Tanh()), nn.ReLU())
    with torch.no_grad():
        net[2].bias.fill_(-50)
    found = warned(run(Model(net), tmp_path))
    assert {(one.rule, str(one.severity), one.where.module) for one in found} == {
        ("dead-units", "error", "net.3"),
        ("constant-output", "warning", "net.3"),
    }


# --- saturated units ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", [nn.Tanh(), nn.Sigmoid(), nn.Hardtanh(), nn.Hardsigmoid()])
@pytest.mark.parametrize(("times", "told"), [(1.0, []), (1000.0, [("saturated-units", "net.1")])])
def test_a_layer_that_starts_flat_is_told(act: nn.Module, times: float, told: list[Any], tmp_path: Path) -> None:
    net = layers(act)
    with torch.no_grad():
        net[0].weight.mul_(times)
    found = warned(run(Model(net), tmp_path))
    assert [(one.rule, one.where.module) for one in found] == told
    assert all("from the first on" in one.message for one in found)


class Sharpens(Model):
    """The first layer grows in training, as that of a learned gate does."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == 12:
            with torch.no_grad():
                self.net[0].weight.mul_(1000)


def test_what_was_learned_and_differs_between_samples_may_be_flat(tmp_path: Path) -> None:
    events = run(Sharpens(layers(nn.Tanh())), tmp_path, every=2, max_epochs=10)
    assert max(share["net.1 (tanh)"] for share in measures(events, "saturated-entries").values()) > 0.9
    assert warned(events) == []


def test_what_is_stuck_at_one_end_is_told_at_any_time(tmp_path: Path) -> None:
    class Sticks(Model):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 12:
                with torch.no_grad():
                    self.net[0].bias.fill_(50)

    found = warned(run(Sticks(layers(nn.Tanh())), tmp_path, every=2, max_epochs=10))
    assert ("saturated-units", "net.1") in {(one.rule, one.where.module) for one in found}
    assert any("stuck at one end" in one.message for one in found)


def test_a_sure_classifier_may_saturate_its_output(tmp_path: Path) -> None:
    net = nn.Sequential(layers(nn.Tanh()), nn.Sigmoid())
    with torch.no_grad():
        net[0][2].weight.mul_(1000)
    assert warned(run(Model(net, lambda out, y: F.binary_cross_entropy(out, (y > 0).float())), tmp_path)) == []


def test_a_resumed_run_has_no_first_step(tmp_path: Path) -> None:
    """What a network has learned by then it may mean."""
    net = layers(nn.Tanh())
    trainer = fit(Model(net), tmp_path / "first", max_epochs=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    kept["state_dict"]["net.0.weight"] *= 1000
    torch.save(kept, tmp_path / "last.ckpt")
    assert warned(run(Model(net), tmp_path, max_epochs=10, ckpt_path=tmp_path / "last.ckpt")) == []


# --- constant outputs -----------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A head that starts at zero; its part of the input is multiplied by ``share``."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        self.body, self.head, self.share = nn.Linear(6, 32), nn.Linear(32, 1), share
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.share * self.body(x).tanh())


@pytest.mark.parametrize("rate", [1e-1, 1e-5, 0.0])
def test_a_head_that_starts_at_zero_is_given_time(rate: float, tmp_path: Path) -> None:
    events = run(Model(Head(), rate=rate), tmp_path, max_epochs=10)
    assert warned(events) == []


def test_an_output_that_never_differs_is_told(tmp_path: Path) -> None:
    (found,) = warned(run(Model(Head(0.0), rate=1e-1), tmp_path, max_epochs=10))
    assert (found.rule, found.where.module, found.evidence["spread"]) == ("constant-output", "net.head", 0)
    assert found.evidence["looks"] >= 5
    assert found.evidence["steps"] >= 20


def test_batches_of_one_sample_are_not_judged(tmp_path: Path) -> None:
    assert warned(run(Model(Head(0.0)), tmp_path, train=data(64, size=1), max_epochs=1)) == []


def test_samples_that_are_all_the_same_have_one_output(tmp_path: Path) -> None:
    same = DataLoader(TensorDataset(torch.ones(64, 6), torch.ones(64, 1)), batch_size=8)
    assert warned(run(Model(layers(nn.Tanh())), tmp_path, train=same)) == []


# --- when it looks, and what it leaves ------------------------------------------------------------------------------


def test_it_looks_often_at_first_and_then_as_asked(tmp_path: Path) -> None:
    events = run(make(), tmp_path, every=10, max_epochs=8)
    looks = SampledSteps(10)
    expected = [step for step in range(64) if looks.takes(step)]
    assert list(measures(events, "activation-scale")) == expected == [0, 1, 2, 3, 4, 6, 9, 13, 19, 28, 38, 48, 58]


def test_looks_at_a_deep_model_lie_further_apart_and_still_tell(tmp_path: Path) -> None:
    """Of 80 more layers a step has three operations each: a look at most in every second step, in a young run too."""
    deep = layers(nn.ReLU(), dead=30)
    deep.extend([nn.Sequential(nn.Linear(1, 1), nn.Tanh()) for _ in range(80)])
    events = run(Model(deep), tmp_path, max_epochs=10)
    steps = list(measures(events, "activation-scale"))
    assert min(later - step for step, later in pairwise(steps)) >= 2
    assert [one.where.module for one in warned(events) if one.rule == "dead-units"] == ["net.1"]


class Fancy(Model):
    """Manual optimisation, a part computed again in the backward pass, and a closure called more than once."""

    def __init__(self, manual: bool, again: bool, lbfgs: bool) -> None:
        super().__init__(layers(nn.ReLU(inplace=True)))
        self.automatic_optimization = not manual
        self.again, self.lbfgs = again, lbfgs

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        x, y = batch
        out = checkpoint(self.net, x, use_reentrant=False) if self.again else self.net(x)
        loss = F.mse_loss(out, y)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        for part in (lambda: loss, lambda: 0.1 * self.net(x).square().mean()):
            optimizer.zero_grad()
            self.manual_backward(part())
            optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=3) if self.lbfgs else super().configure_optimizers()


WAYS: dict[str, Any] = {
    "dropout and batch norm": (make, {}),
    "bfloat16": (make, {"precision": "bf16-mixed"}),
    "float64": (make, {"precision": "64-true"}),
    "accumulation": (make, {"accumulate_grad_batches": 3}),
    "anomaly mode": (make, {"detect_anomaly": True}),
    "manual": (lambda: Fancy(True, False, False), {}),
    "checkpointing": (lambda: Fancy(False, True, False), {}),
    "lbfgs": (lambda: Fancy(False, False, True), {}),
    "validation between": (make, {"val_check_interval": 2}),
    "one batch": (make, {"fast_dev_run": True}),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_bit_of_the_weights_is_changed(way: str, tmp_path: Path) -> None:
    build, options = WAYS[way]
    alone, watched = build(), build()
    fit(alone, tmp_path / "alone", **options)
    fit(watched, tmp_path / "watched", ActivationMonitor(every_n_steps=1), **options)
    assert differing(alone, watched) == []
    events = journal(tmp_path / "watched")
    assert warned(events) == []
    assert measures(events, "activation-scale")


def test_compiled_parts_are_neither_changed_nor_compiled_again(tmp_path: Path) -> None:
    def compiled(*callbacks: pl.Callback) -> tuple[Model, int]:
        torch._dynamo.reset()
        module = Model(nn.Sequential(torch.compile(layers(nn.ReLU()), backend="aot_eager"), nn.Linear(1, 1)))
        before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        fit(module, tmp_path, *callbacks)
        return module, torch._dynamo.utils.counters["stats"]["unique_graphs"] - before

    (alone, needed), (watched, made) = compiled(), compiled(ActivationMonitor(every_n_steps=3))
    assert made == needed > 0
    assert differing(alone, watched) == []
    (told,) = measures(journal(tmp_path), "activations-unseen").values()
    assert list(told.values()) == ["compiled by torch.compile"]


def test_nothing_is_left_on_the_trainer_after_an_error_of_the_step(tmp_path: Path) -> None:
    class Fails(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.net(batch[0])
            raise ZeroDivisionError

    module = Fails(layers(nn.ReLU()))
    trainer = pl.Trainer(
        default_root_dir=tmp_path, callbacks=[ActivationMonitor()], logger=False, accelerator="cpu", max_epochs=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, data())
    assert "training_step" not in vars(trainer.strategy)
    assert _get_current_dispatch_mode() is None
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


class Counts(TorchDispatchMode):
    """A mode of the user's own, which spans the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func is torch.ops.aten.relu_.default
        return func(*args, **(kwargs or {}))


class Spans(pl.Callback):
    def __init__(self) -> None:
        self.mode = Counts()

    def on_train_batch_start(self, *args: Any) -> None:
        self.mode.__enter__()

    def on_before_backward(self, *args: Any) -> None:
        self.mode.__exit__(None, None, None)


@pytest.mark.parametrize("first", [True, False])
def test_a_mode_that_spans_hooks_is_not_crossed(first: bool, tmp_path: Path) -> None:
    spans, monitor = Spans(), ActivationMonitor(every_n_steps=1)
    fit(make(), tmp_path, *((spans, monitor) if first else (monitor, spans)))
    assert spans.mode.seen == 16
    assert _get_current_dispatch_mode() is None
    assert len(measures(journal(tmp_path), "activation-scale")) == 16


def test_a_wrapper_of_the_user_around_the_step_stays(tmp_path: Path) -> None:
    class Wraps(pl.Callback):
        def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.calls, step = 0, trainer.strategy.training_step

            def counted(*args: Any, **kwargs: Any) -> Any:
                self.calls += 1
                return step(*args, **kwargs)

            trainer.strategy.training_step = counted

    wraps = Wraps()
    fit(make(), tmp_path, wraps, ActivationMonitor(every_n_steps=3))
    assert wraps.calls == 16


def test_a_look_that_fails_is_an_event_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> None:
        raise MemoryError("no room for statistics")

    alone, watched = make(), make()
    fit(alone, tmp_path / "alone")
    monkeypatch.setattr("lightning_debugkit.stats.activation_stats.rms", fails)
    fit(watched, tmp_path / "watched", ActivationMonitor())
    assert differing(alone, watched) == []
    troubles = read_journal(tmp_path / "watched/debugkit").of_kind("trouble")
    assert {event["error"] for event in troubles} == {"MemoryError: no room for statistics"}


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "often"])
def test_a_wrong_interval_is_refused_in_a_sentence(value: Any) -> None:
    with pytest.raises(ValueError) as caught:
        ActivationMonitor(every_n_steps=value)
    assert str(caught.value) == (
        f"ActivationMonitor needs every_n_steps >= 1, got {value!r}; 100 costs next to nothing."
    )


def test_a_finding_is_not_told_again_after_a_resume(tmp_path: Path) -> None:
    net = layers(nn.ReLU(), dead=30)
    trainer = fit(Model(net), tmp_path / "first", ActivationMonitor(every_n_steps=5), max_epochs=5)
    assert len(warned(journal(tmp_path / "first"))) == 1
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert warned(run(Model(net), tmp_path / "second", max_epochs=10, ckpt_path=tmp_path / "last.ckpt")) == []


# --- two ranks ------------------------------------------------------------------------------------------------------


class Ranks(Model):
    """Rank 1 feeds what no unit answers to."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self.net(x - 1000 * self.trainer.global_rank), y)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("no_process_left")
@pytest.mark.filterwarnings("ignore")
def test_each_rank_tells_what_it_sees(tmp_path: Path) -> None:
    net = layers(nn.ReLU())
    with torch.no_grad():
        net[0].weight.abs_()
    strategy = DDPStrategy(start_method="fork", process_group_backend="gloo", timeout=timedelta(seconds=30))
    fit(
        Ranks(net, rate=1e-8), tmp_path, ActivationMonitor(every_n_steps=5),
        devices=2, strategy=strategy, max_epochs=10, train=data(128),
    )  # fmt: skip
    events = journal(tmp_path)
    told: list[Finding] = warned(events)
    assert {(one.rule, one.where.rank, one.where.module) for one in told} == {
        ("dead-units", 1, "net.1"),
        ("constant-output", 1, "net.2"),
    }
    assert {event["rank"] for event in events.of_kind("measure")} == {0, 1}


# --- the report -----------------------------------------------------------------------------------------------------


def test_the_report_shows_scales_shares_and_what_was_not_seen(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.cell = layers(nn.ReLU(), dead=30), nn.LSTM(1, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.cell(self.net(x)[:, None])[0].mean((1, 2))[:, None]

    run(Model(Recurrent()), tmp_path)
    render(tmp_path / "debugkit")
    text = (tmp_path / "debugkit/report.md").read_text()
    assert "## Activations" in text
    assert (tmp_path / "debugkit/figures/activation-scale.svg").stat().st_size > 1000
    row = next(line for line in text.splitlines() if "net.net.1 (relu)" in line and line.startswith("|"))
    assert row.count("94 %") == 3
    assert "No saturated entries" not in text
    assert "net.cell (gates and states within one kernel" in text


def test_a_run_without_looks_has_no_such_section(tmp_path: Path) -> None:
    fit(make(), tmp_path, ActivationMonitor(), max_epochs=0)
    render(tmp_path / "debugkit")
    assert "## Activations" not in (tmp_path / "debugkit/report.md").read_text()
