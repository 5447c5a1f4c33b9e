"""What `PreflightCheck` looks at, what it leaves out and says so, and that it leaves no trace."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from faults import preflight
from faults.registry import Program, batches, digits, mlp
from monitors.breaking import QUIET
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_debugkit import PreflightCheck, read_journal
from lightning_debugkit.core.finding import Severity, Where
from lightning_debugkit.preflight import dependence, output_activation, targets
from lightning_debugkit.preflight.listener import StepListener
from lightning_debugkit.preflight.loss_calls import LossCall
from lightning_debugkit.preflight.origins import Origins
from lightning_debugkit.preflight.padding_masks import PaddingMasks
from lightning_debugkit.replay.source_lines import SourceLine

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def fit(program: Program, folder: Path, *callbacks: pl.Callback) -> dict[str, Tensor]:
    options = {**QUIET, **program.trainer}
    pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **options).fit(
        program.module, program.train, program.val
    )
    return {**program.module.state_dict(), "random": torch.rand(1)}


def left_out(folder: Path) -> dict[str, str]:
    [told] = [m["value"] for m in read_journal(folder / "debugkit").of_kind("measure") if m["name"] == "preflight"]
    return dict(told["left_out"])


class Body(nn.Sequential):
    """A part of the program's own: what it holds is asked for."""


class Noisy(preflight.Net):
    """Dropout, batch norm, a counter and a list: all that a pass could leave changed."""

    def __init__(self) -> None:
        net = Body(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
        super().__init__(True, net)
        self.seen = 0
        self.losses: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen += 1
        loss = super().training_step(batch, batch_idx)
        self.losses.append(float(loss))
        return loss


def noisy() -> Program:
    pl.seed_everything(3, verbose=False)
    return Program(Noisy(), batches(*digits()), batches(*digits()), trainer={"max_epochs": 4})


def test_weights_and_random_states_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    alone = noisy()
    expected = fit(alone, tmp_path / "alone")
    watched = noisy()
    found = fit(watched, tmp_path / "watched", PreflightCheck())
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    assert (watched.module.seen, watched.module.losses) == (alone.module.seen, alone.module.losses)
    assert left_out(tmp_path / "watched") == {}
    assert "training_step" not in vars(watched.module)


def test_a_parametrization_that_moves_when_it_is_read_is_not_read(tmp_path: Path) -> None:
    def spectral() -> Program:
        pl.seed_everything(3, verbose=False)
        norm = nn.utils.parametrizations.spectral_norm
        net = nn.Sequential(norm(nn.Linear(64, 32)), nn.BatchNorm1d(32), nn.ReLU(), norm(nn.Linear(32, 10)))
        return Program(preflight.Net(True, net), batches(*digits()), trainer={"max_epochs": 4})

    expected = fit(spectral(), tmp_path / "alone")
    found = fit(spectral(), tmp_path / "watched", PreflightCheck())
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []


def test_a_check_that_fails_inside_leaves_no_trace_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fit(noisy(), tmp_path / "alone")

    def breaks(self: Any, base: Any, size: Any) -> Any:
        raise ZeroDivisionError("ours")
        yield

    monkeypatch.setattr(dependence.Checks, "_unused", breaks)
    found = fit(noisy(), tmp_path / "watched", PreflightCheck())
    assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    [told] = read_journal(tmp_path / "watched" / "debugkit").of_kind("trouble")
    assert "ZeroDivisionError: ours" in told["error"]


def test_a_short_fit_is_listened_to_only(tmp_path: Path) -> None:
    program = noisy()
    program.trainer["max_epochs"] = 1
    fit(program, tmp_path, PreflightCheck())
    assert left_out(tmp_path) == {"passes": "a fit of fewer than 50 steps gets none"}


class Stream:
    """Batches that are read once, of which nobody knows how many there are."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self.left = iter([*batches])

    def __iter__(self) -> Iterator[Any]:
        return self.left


def test_a_stream_of_unknown_length_gets_its_passes_and_loses_no_batch(tmp_path: Path) -> None:
    weights = []
    for name, callbacks in (("alone", ()), ("watched", (PreflightCheck(overfit_batch=True),))):
        program = noisy()
        program.train, program.trainer["max_epochs"] = Stream(program.train), 1
        weights.append(fit(program, tmp_path / name, *callbacks))
    assert "passes" not in left_out(tmp_path / "watched")
    assert all(torch.equal(one, weights[1][name]) for name, one in weights[0].items())


class FSDPModule(Body):
    """A part of the name that `fully_shard` gives those whose weights it cuts."""


@pytest.mark.parametrize("are_whole_now", [False, True])
def test_weights_that_are_cut_over_processes_get_no_passes(are_whole_now: bool, tmp_path: Path) -> None:
    program = noisy()
    if are_whole_now:
        program.module.net = FSDPModule(*program.module.net)
    else:
        program.module.net[0].weight.to_local = None  # as a DTensor has
    fit(program, tmp_path, PreflightCheck(overfit_batch=True))
    assert left_out(tmp_path) == {"passes": "weights are cut over processes, none of which runs a step by itself"}


class Draws:
    """Something that a step would draw from: an environment, a stream."""

    def __next__(self) -> int:
        return 1


def test_a_step_that_may_change_what_it_holds_is_not_run_again(tmp_path: Path) -> None:
    program = noisy()
    program.module.net.stream = Draws()
    fit(program, tmp_path, PreflightCheck())
    assert left_out(tmp_path) == {"passes": "net.stream is a Draws, which may change when the step runs once more"}


class Settings:
    def __init__(self) -> None:
        self.words, self.counts = ["of", "a", "text"], {"calls": 0}


class Counter(Settings):
    def count(self) -> None:
        self.counts["calls"] += 1


class Decoding(Noisy):
    """Has what a step may not run again with, and only validation names it."""

    def __init__(self) -> None:
        super().__init__()
        self.words = Counter()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.words.count()
        super().validation_step(batch, batch_idx)


class Counting(Decoding):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.words.count()
        return self.counted(batch, batch_idx)

    def counted(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)


class CountingFurther(Counting):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)


class CountingByName(Decoding):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        getattr(self, "wo" + "rds").count()
        return super().training_step(batch, batch_idx)


def test_what_only_validation_names_keeps_no_training_step_from_its_passes(tmp_path: Path) -> None:
    program = noisy()
    program.module = Decoding()
    fit(program, tmp_path, PreflightCheck())
    assert left_out(tmp_path) == {}


@pytest.mark.parametrize("kind", [Counting, CountingFurther, CountingByName])
def test_what_the_training_step_may_name_is_asked_for(tmp_path: Path, kind: type[Decoding]) -> None:
    program = noisy()
    program.module = kind()
    fit(program, tmp_path, PreflightCheck())
    assert left_out(tmp_path) == {"passes": "words is a Counter, which may change when the step runs once more"}


class CountingNoisy(Noisy):
    settings: Settings

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.settings.counts["calls"] += 1
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("callbacks", [(), (PreflightCheck,)])
def test_an_object_with_settings_keeps_no_step_from_its_passes_and_is_put_back(
    tmp_path: Path, callbacks: tuple[type[pl.Callback], ...]
) -> None:
    pl.seed_everything(0, verbose=False)
    program = noisy()
    program.module.__class__ = CountingNoisy
    settings = program.module.settings = Settings()
    fit(program, tmp_path, *(kind() for kind in callbacks))
    assert settings.counts["calls"] == program.module.seen > 50
    assert not callbacks or "passes" not in left_out(tmp_path)


def test_a_function_in_c_keeps_no_step_from_its_passes_and_a_method_of_an_object_does(tmp_path: Path) -> None:
    program = noisy()
    program.module.net.activation = torch.nn.functional.gelu  # as BERT's
    fit(program, tmp_path / "one", PreflightCheck())
    assert "passes" not in left_out(tmp_path / "one")

    program.module.net.keep = [].append
    fit(program, tmp_path / "other", PreflightCheck())
    assert left_out(tmp_path / "other")["passes"].startswith("net.keep is a builtin_function_or_method")


def test_an_object_of_the_program_with_methods_keeps_a_step_from_its_passes(tmp_path: Path) -> None:
    program = noisy()
    program.module.net.settings = Counter()
    fit(program, tmp_path, PreflightCheck())
    assert left_out(tmp_path) == {"passes": "net.settings is a Counter, which may change when the step runs once more"}


LIBRARY = """
import torch

class Configuration:
    def __init__(self):
        self.sizes, self.dtype, self.url = {"hidden": [32, 32]}, torch.float32, "http://localhost"

    def to_dict(self):
        return vars(self)

class Layer(torch.nn.Linear):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.configuration = Configuration()
"""


def test_what_a_library_keeps_beside_its_modules_keeps_no_step_from_its_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder := tmp_path / "site-packages")
    folder.mkdir()
    for name in ("layers_of_a_library", "client_of_another_library"):
        (folder / f"{name}.py").write_text(LIBRARY)
    layers, client = map(importlib.import_module, ("layers_of_a_library", "client_of_another_library"))
    program = noisy()
    program.module.net[0] = layers.Layer(64, 32)
    fit(program, tmp_path / "one", PreflightCheck())
    assert "passes" not in left_out(tmp_path / "one")

    program.module.net.client = client.Configuration()
    fit(program, tmp_path / "other", PreflightCheck())
    why = "net.client is a Configuration, which may change when the step runs once more"
    assert left_out(tmp_path / "other") == {"passes": why}


def test_compiled_parts_are_left_alone(tmp_path: Path) -> None:
    program = noisy()
    program.module.net = torch.compile(program.module.net, backend="eager")
    fit(program, tmp_path, PreflightCheck())
    assert set(left_out(tmp_path)) == {"listening", "passes"}


def test_a_fault_of_training_is_reported_once_though_validation_has_it_too(tmp_path: Path) -> None:
    pl.seed_everything(3, verbose=False)
    program = preflight.softmax_in_the_model(False)
    fit(program, tmp_path, PreflightCheck())
    told = [f for f in read_journal(tmp_path / "debugkit").findings if f.rule == "double-softmax"]
    assert ["training loss" in finding.message for finding in told] == [True]


def heard(step: Any, **options: Any) -> StepListener:
    listener = StepListener({}, **options)
    with listener:
        step()
    assert listener.error is None
    return listener


def test_a_loss_is_heard_however_it_is_called() -> None:
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    calls = [
        lambda: F.cross_entropy(x, y),
        lambda: F.cross_entropy(input=x, target=y, reduction="sum"),
        lambda: nn.CrossEntropyLoss(reduction="sum")(x, y),
        lambda: torch.nn.functional.cross_entropy(x, y, None, None, -100, None, "sum"),
    ]
    found = [heard(call).calls for call in calls]
    assert [[call.function for call in each] for each in found] == [["cross_entropy"]] * 4
    assert [each[0].options.get("reduction", "mean") for each in found] == ["mean", "sum", "sum", "sum"]
    assert all(torch.equal(each[0].prediction, x) and torch.equal(each[0].target, y) for each in found)


def test_what_made_a_prediction_is_followed_through_views_and_no_further() -> None:
    net, y = mlp(8, 4, 1), torch.rand(4)
    through = heard(lambda: F.mse_loss(torch.sigmoid(net(torch.rand(4, 8))).squeeze(1).float(), y))
    lost = heard(lambda: F.mse_loss(2 * torch.sigmoid(net(torch.rand(4, 8))).squeeze(1) - 1, y))
    assert through.calls[0].made is not None
    assert through.calls[0].made.op == "sigmoid"
    assert lost.calls[0].made is None


@pytest.mark.parametrize(
    ("step", "is_told"),
    [
        (lambda column, row: column - row, True),
        (lambda column, row: row - column, True),
        (lambda column, row: column.squeeze(1) - row, False),
        (lambda column, row: row[:, None] - row, False),
        (lambda column, row: row.unsqueeze(1) == row, False),
        (lambda column, row: column - row[:, None], False),
    ],
)
def test_all_pairs_are_told_where_nobody_asked_for_them(step: Any, is_told: bool) -> None:
    column, row = torch.rand(4, 1), torch.rand(4)
    assert bool(heard(lambda: step(column, row)).outer) == is_told


@pytest.mark.parametrize(
    ("step", "is_told"),
    [
        (lambda x: F.dropout(x), True),
        (lambda x: F.dropout(x, 0.3), True),
        (lambda x: F.dropout(x, 0.3, True), False),
        (lambda x: F.dropout(x, training=True), False),
        (lambda x: nn.Dropout(0.3)(x), False),
        (lambda x: nn.Dropout(0.3).eval()(x), False),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), True),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.0), False),
    ],
)
def test_dropout_in_evaluation_is_told_where_nobody_meant_it(step: Any, is_told: bool) -> None:
    x = torch.rand(2, 4, 8)
    assert bool(heard(lambda: step(x), is_training=False).noise) == is_told
    assert not heard(lambda: step(x)).noise


class Counting(TorchFunctionMode):
    """A user's own mode around the step, which counts what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **kwargs or {})


def test_a_mode_of_the_users_own_sees_nothing_of_ours() -> None:
    x, y = digits(32)
    net = nn.Sequential(mlp(64, 8, 10), nn.Softmax(1))

    def step() -> None:
        F.cross_entropy(net(x), y.float().long())
        F.mse_loss(net(x)[:, 0], y.float())

    alone, beside = Counting(), Counting()
    with alone:
        step()
    with beside, StepListener({}, judge=lambda call: list(targets.judge(call, Where(0, 0)))) as listener:
        step()
    assert len(listener.calls) == 2
    assert listener.error is None
    assert beside.seen == alone.seen


@pytest.mark.parametrize(("level", "size"), [(1.0, 1e-4), (0.0, 1e-5)], ids=["hardly differ", "tiny"])
def test_a_network_is_not_straight_because_its_inputs_are(level: float, size: float, tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    x, y = digits()
    program = Program(preflight.Net(True), batches(level + size * x, y), trainer={"max_epochs": 4})
    fit(program, tmp_path, PreflightCheck())
    assert "affine-network" not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


class Divided(nn.Module):
    """Its input divided by a number."""

    def forward(self, x: Tensor) -> Tensor:
        return x / 4000


@pytest.mark.parametrize("act", [nn.ReLU, nn.LeakyReLU, nn.PReLU])
def test_a_network_is_not_straight_because_it_makes_its_inputs_tiny(act: type[nn.Module], tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    net = nn.Sequential(Divided(), mlp(64, 32, 10, act=act))
    fit(Program(preflight.Net(True, net), batches(*digits()), trainer={"max_epochs": 4}), tmp_path, PreflightCheck())
    assert "affine-network" not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


class Bypassed(preflight.Module):
    """A tower whose ReLU never fires beside one straight layer, for sums of digits' pixels."""

    def __init__(self, bias: float) -> None:
        super().__init__(True)
        self.tower = mlp(64, 96, 1)
        self.straight = nn.Linear(64, 1)
        nn.init.constant_(self.tower[0].bias, bias)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.l1_loss(self.tower(x) + self.straight(x), y)


@pytest.mark.parametrize(("bias", "told"), [(-40.0, []), (40.0, ["affine-network"]), (0.0, [])])
def test_a_network_whose_relu_is_dead_has_one(bias: float, told: list[str], tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    x, _ = digits()
    x = x - 0.5
    program = Program(Bypassed(bias), batches(x, x[:, :32].sum(1, keepdim=True)), trainer={"max_epochs": 4})
    fit(program, tmp_path, PreflightCheck())
    assert [each.rule for each in read_journal(tmp_path / "debugkit").findings if "affine" in each.rule] == told


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, y: F.nll_loss(F.log_softmax(z, -1)[y < 4], y[y < 4]),
        lambda z, y: F.nll_loss(F.log_softmax(z.view(-1, 2, 12), -1).flatten(0, 1), y),
        lambda z, y: F.nll_loss(F.log_softmax(z.view(8, -1), 1), y[:8]),  # of pairs
        lambda z, y: F.nll_loss(F.log_softmax(z, 1)[:, 1:], y),
        lambda z, y: F.nll_loss(F.log_softmax(z[:12], 0).T, y[:12]),
        lambda z, y: F.nll_loss(torch.stack([F.logsigmoid(-z[:, 0]), F.logsigmoid(z[:, 0])], 1), y % 2),
        lambda z, y: F.nll_loss(F.log_softmax((z @ torch.zeros(12, 50_257)).bfloat16(), 1).float(), y),
        lambda z, y: F.cross_entropy(F.log_softmax(z, 1), y),
    ],
)
def test_classes_that_sum_to_one_are_not_accused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40, 12, generator=generator)
    with StepListener({}) as listener:
        loss(z, torch.arange(40) % 9)
    assert listener.error is None
    [call] = listener.calls
    assert list(output_activation.judge(call, Where(0, 0), "training")) == []


class Rows(nn.Module):
    """Attention over the rows of a digit, told which of them are there."""

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads = reads
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 10)

    def forward(self, rows: Tensor, missing: Tensor | None = None) -> Tensor:
        if not self.reads:
            missing = torch.zeros(rows.shape[:2], dtype=torch.bool)
        return self.head(self.layer(rows, src_key_padding_mask=missing).mean(1))


class Masked(preflight.Module):
    def __init__(self, reads: bool, gives: bool) -> None:
        super().__init__(True)
        self.body, self.gives = Rows(reads), gives

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        rows, missing, y = batch
        return F.cross_entropy(self.body(rows, missing if self.gives else None), y)


@pytest.mark.parametrize(
    ("reads", "gives", "differs", "told"),
    [
        (False, True, True, ["batch[1]"]),
        (True, True, True, []),
        (False, False, True, []),  # what only the batch has
        (False, True, False, []),  # of equal masks there is nothing to read
    ],
)
def test_an_argument_that_no_operation_reads_is_noted(
    reads: bool, gives: bool, differs: bool, told: list[str], tmp_path: Path
) -> None:
    pl.seed_everything(0, verbose=False)
    x, y = digits()
    first = torch.randint(4, 9, (len(x), 1)) if differs else torch.full((len(x), 1), 8)
    program = Program(
        Masked(reads, gives), batches(x.reshape(-1, 8, 8), torch.arange(8) >= first, y), trainer={"max_epochs": 4}
    )
    fit(program, tmp_path, PreflightCheck())
    notes = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "unused-input"]
    assert [each.evidence["path"] for each in notes] == told
    assert all((each.severity, each.where.module) == (Severity.INFO, "body") for each in notes)
    assert all("as missing" in each.message for each in notes)


class Rewarded(preflight.Regressor):
    """Rewards for actions, weighed by their probabilities: the more is expected, the lower the loss, below 0."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, reward = batch
        return -(self(x).softmax(1) * reward).sum(1).mean()


def test_a_loss_may_be_negative_where_rewards_are_expected(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    x, y = digits()
    program = Program(Rewarded(True, mlp(64, 32, 10)), batches(x, 10.0 * F.one_hot(y, 10)), trainer={"max_epochs": 4})
    fit(program, tmp_path, PreflightCheck())
    assert "negative-loss" not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


class Decoder(preflight.Module):
    """The shift is made within the step: each token is told from those before it."""

    def __init__(self) -> None:
        super().__init__(True)
        self.embed, self.rnn, self.head = nn.Embedding(18, 24), nn.GRU(24, 24, batch_first=True), nn.Linear(24, 17)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        [tokens] = batch
        given = F.pad(tokens, (1, 0), value=17)[:, :-1]
        return F.cross_entropy(self.head(self.rnn(self.embed(given))[0]).flatten(0, 1), tokens.flatten())


def test_targets_that_the_step_itself_shifts_are_not_read(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    tokens = (digits()[0][:, :12] * 16).long()
    fit(Program(Decoder(), batches(tokens), trainer={"max_epochs": 4}), tmp_path, PreflightCheck())
    assert "future-leak" not in [finding.rule for finding in read_journal(tmp_path / "debugkit").findings]


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        ([1, 2, 3, 4, 5], "Labels count from 1 to 5: subtract 1."),
        ([2, 5, 3], "If labels count from 1 to 5, subtract 1; else give the last layer 6 outputs."),
        ([0, 5, 3], "Map the labels to 0..4, or give the last layer 6 outputs."),
        ([2, 255, 3], "If 255 means 'no label', pass ignore_index=255; else correct it in the dataset."),
    ],
)
def test_the_remedy_for_labels_out_of_range_fits_what_a_batch_shows(labels: list[int], remedy: str) -> None:
    call = LossCall("cross_entropy", torch.zeros(len(labels), 5), torch.tensor(labels), {}, SourceLine())
    (finding,) = targets.judge(call, Where(0, 0))
    assert finding.advice == remedy


def sparse(h: Tensor, x: Tensor) -> None:
    torch.sparse.mm(torch.eye(len(x)).to_sparse(), h)
    (torch.ones_like(h).to_sparse() * h).sum()


def without_rows(h: Tensor, x: Tensor) -> None:
    none = h[:0]
    F.batch_norm(none[:, None].expand(0, 2, 4), None, None, torch.ones(2), training=False)
    (none * torch.zeros_like(none)).sum() / none.sum()
    none[:, None] + none[:, None]


def jagged(h: Tensor, x: Tensor) -> None:
    rows = torch.nested.nested_tensor([h[:3], h[3:]], layout=torch.jagged)
    (rows + rows).sum()


def on_no_device(h: Tensor, x: Tensor) -> None:
    bare = nn.Linear(4, 4, device="meta")(torch.empty(3, 4, device="meta"))
    (bare * torch.ones_like(bare)).sum() / bare.sum()


def without_a_dimension(h: Tensor, x: Tensor) -> None:
    (h.max(), h.argmax(), h.sum() / 2, 2 / h, torch.eq(h, 1), torch.ne(input=h, other=h))
    h.masked_fill(h > 0, torch.tensor(-1e9))


@pytest.mark.parametrize("step", [sparse, without_rows, jagged, on_no_device, without_a_dimension])
def test_tensors_of_other_kinds_do_not_end_the_listening(step: Any) -> None:
    x, layer = torch.randn(8, 4), nn.Linear(4, 4)
    masks = PaddingMasks([x, x.long(), x.to_sparse()])
    with StepListener({}, origins=Origins.of_batch((x,)), masks=masks) as listener:
        step(layer(x), x)
        F.mse_loss(layer(x), x)
    assert listener.error is None
    assert len(listener.calls) == 1


class ByRow(nn.Module):
    """A digit read row by row, by a layer that takes time first, unless it is told otherwise."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.read, self.head = layer, nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 8, 8)
        given = (rows, rows, rows) if isinstance(self.read, nn.MultiheadAttention) else (rows,)
        return self.head(self.read(*given)[0][:, -1])


@pytest.mark.parametrize(
    "layer",
    [lambda first: nn.GRU(8, 8, batch_first=first), lambda first: nn.MultiheadAttention(8, 2, batch_first=first)],
)
def test_the_remedy_for_samples_in_the_place_of_time_is_batch_first(layer: Any, tmp_path: Path) -> None:
    for is_mended in (False, True):
        pl.seed_everything(7, verbose=False)
        module = preflight.Net(True, ByRow(layer(is_mended)))
        folder = tmp_path / str(is_mended)
        fit(Program(module, batches(*digits()), trainer={"max_epochs": 4}), folder, PreflightCheck())
        advice = [f.advice for f in read_journal(folder / "debugkit").findings if f.rule == "batch-leak"]
        assert ["batch_first=True" in each for each in advice] == ([] if is_mended else [True])


def test_the_remedy_for_a_reshape_behind_a_recurrent_layer_is_another(tmp_path: Path) -> None:
    fit(preflight.recurrent_output_reshaped_without_a_transpose(False), tmp_path, PreflightCheck())
    [finding] = [each for each in read_journal(tmp_path / "debugkit").findings if each.rule == "batch-leak"]
    assert "batch_first" not in finding.advice
    assert finding.advice.startswith("Look at faults/preflight.py:")
