"""A number that broke by a known mechanism is told in the words of that mechanism, with what mends it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from replay.steps import Net, X, diagnosed
from torch import Tensor
from torch.nn import functional as F

from lightning_debugkit import Finding, Severity
from lightning_debugkit.core.finding import Where
from lightning_debugkit.replay.nonfinite_cause_messages import Circumstances
from lightning_debugkit.replay.nonfinite_rules import finding
from lightning_debugkit.report.finding_order import findings_in_order

Loss = Callable[[Any, Any], Tensor]
LABELS = torch.full((8,), -100)
MASK = torch.zeros(8)


def told(loss: Loss, batch: Any = X, middle: Any = None, step: int = 3, **options: Any) -> Finding:
    found = diagnosed(Net(middle), batch, loss)
    assert found is not None
    return finding(Where(0, step), found, Circumstances(step, **options), seen="loss is nan")


def sound(loss: Loss, batch: Any = X, middle: Any = None) -> bool:
    return diagnosed(Net(middle), batch, loss) is None


def labelled(model: Any, part: Any) -> Tensor:
    return F.cross_entropy(model(part[0]).expand(-1, 4), part[1])


def tokens(model: Any, part: Any) -> Tensor:
    return F.cross_entropy(model(part[0])[:, :, None].expand(-1, 4, 2), part[1][:, None].expand(-1, 2))


def selected(model: Any, part: Any) -> Tensor:
    return (model(part[0])[part[1] > 0] ** 2).mean()


def matched(model: Any, part: Any) -> Tensor:
    chosen = part[1] > 0
    return F.mse_loss(model(part[0])[chosen], part[0][chosen, :1])


def masked(model: Any, part: Any) -> Tensor:
    return (model(part[0]).squeeze(1) * part[1]).sum() / part[1].sum()


def spread(model: Any, part: Any) -> Tensor:
    return model(part).std(0).mean()


def varied(model: Any, part: Any) -> Tensor:
    return model(part).var(1).mean()


@pytest.mark.parametrize(
    ("loss", "batch", "mended", "what", "remedy"),
    [
        (
            labelled,
            (X, LABELS),
            (X, LABELS.clone().fill_(1)),
            "over no label (all labels of the batch",
            "without a label",
        ),
        (
            tokens,
            (X, LABELS),
            (X, LABELS.clone().fill_(1)),
            "over no label (all labels of the batch",
            "without a label",
        ),
        (selected, (X, MASK), (X, MASK + 1), "mean of no elements", "where nothing is selected"),
        (matched, (X, MASK), (X, MASK + 1), "mse_loss of no elements", "where nothing is selected"),
        (masked, (X, MASK), (X, MASK + 1), "0/0 (the mask that is counted selects nothing)", "Clamp the count"),
        (spread, X[:1], X, "std of one sample (all that the batch holds)", "drop_last=True"),
        (varied, X, None, "var of one number", "at least two entries"),
    ],
)
def test_what_had_nothing_to_work_on_is_said(loss: Loss, batch: Any, mended: Any, what: str, remedy: str) -> None:
    seen = told(loss, batch)
    assert seen.rule == "nonfinite-loss"
    assert what in seen.message
    assert remedy in seen.advice
    assert "drop sample" not in seen.advice
    size = len(batch[0] if isinstance(batch, tuple) else batch)
    assert seen.evidence["samples"] == list(range(size)), "all of them have nothing"
    assert mended is None or sound(loss, mended)


def test_the_last_batch_of_an_epoch_is_called_so() -> None:
    assert "(all that the last batch of the epoch holds)" in told(spread, X[:1], is_last=True).message


@pytest.mark.parametrize(
    ("middle", "what", "remedy"),
    [
        (lambda h: torch.where(h > 0, torch.sqrt(h), h), "sqrt of a negative number", "Clamp the argument before sqrt"),
        (lambda h: torch.where(h > 0, h**1.5, h), "a fractional power of a negative number", "before pow"),
        (lambda h: torch.where(h.abs() < 0.5, torch.acos(2 * h), h), "acos of a number beyond 1", "before acos"),
    ],
)
def test_an_argument_that_where_hides_is_told_apart_from_zero(middle: Any, what: str, remedy: str) -> None:
    seen = told(lambda model, part: model(part).square().mean(), middle=middle)
    assert seen.rule == "nonfinite-gradient"
    assert f"the gradient of {what} (torch.where hides it in the forward pass only)" in seen.message
    assert remedy in seen.advice
    assert "torch.where keeps a branch out of the value, not out of the gradient" in seen.advice
    assert "epsilon" not in seen.advice


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("sqrt", lambda h: torch.where(h > 0, torch.sqrt(h * (h > 0)), h)),
        ("log", lambda h: torch.where(h > 0, h * torch.log(h * (h > 0)), 0.0)),  # p log p, as of an entropy
    ],
)
def test_zero_behind_where_is_zero_times_infinity(name: str, middle: Any) -> None:
    seen = told(lambda model, part: model(part).square().mean(), middle=middle)
    assert f"the gradient of {name} at 0 (0 * inf where torch.where leaves {name} out)" in seen.message
    assert seen.advice.startswith(f"Clamp the argument away from 0 before {name} at ")


def test_the_pole_of_a_logarithm_that_nothing_hides_is_called_so() -> None:
    seen = told(lambda model, part: model(part).square().clamp(max=9).mean(), middle=lambda h: (h * (h > 0)).log())
    assert "where" not in seen.message


@pytest.mark.parametrize("clamped", [lambda h: torch.where(h > 0, torch.sqrt(h.clamp(min=1e-6)), h)])
def test_the_double_where_is_sound(clamped: Any) -> None:
    assert sound(lambda model, part: model(part).square().mean(), middle=clamped)


def of_vectors(noise: float) -> Loss:
    def loss(model: Any, part: Any) -> Tensor:
        matrix = torch.eye(3) * model(part).mean() + noise * torch.diag(torch.arange(3.0))
        return torch.linalg.eigh(matrix).eigenvectors[0].sum()

    return loss


def of_factors(noise: float) -> Loss:
    def loss(model: Any, part: Any) -> Tensor:
        u, _, v = torch.linalg.svd(torch.eye(3) * model(part).mean() + noise * torch.diag(torch.arange(3.0)))
        return (u[0] * v[1] * torch.arange(3.0)).sum() + u[0].sum()

    return loss


@pytest.mark.parametrize(
    ("make", "what", "remedy"),
    [
        (of_vectors, "the gradient of eigh at repeated eigenvalues", "eigvalsh"),
        (of_factors, "the gradient of svd at repeated singular values", "svdvals"),
    ],
)
def test_repeated_eigenvalues_are_named(make: Any, what: str, remedy: str) -> None:
    seen = told(make(0.0))
    assert what in seen.message
    assert remedy in seen.advice
    assert sound(make(0.3))


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda model, part: model(part).mean() * float("nan"), "mul is given the number nan by the code"),
        (lambda model, part: model(part).mean() + torch.full((), math.nan), "full is given the number nan by the code"),
        (lambda model, part: model(part).mean() + torch.tensor(math.nan), "a tensor is given nan by the code"),
        (lambda model, part: model(part).mean() * float("inf"), "mul is given the number inf by the code"),
        (lambda model, part: model(part).mean() - math.inf, "sub is given the number inf by the code"),
    ],
)
def test_a_broken_number_in_the_code_is_not_called_an_operation_that_failed(loss: Loss, what: str) -> None:
    seen = told(loss)
    assert what in seen.message
    assert "0 * inf" not in seen.message


def test_zero_times_infinity_is_still_called_so() -> None:
    seen = told(lambda model, part: model(part).mean() * (torch.zeros(1) * (1 / torch.zeros(1))).mean())
    assert "division by 0" in seen.message or "0 * inf" in seen.message


def at(function: Callable[[Tensor], Tensor]) -> Loss:
    """A loss that a function of the batch's second entry is a factor of."""
    return lambda model, part: (model(part[0]).squeeze(1) * function(part[1])).mean()


@pytest.mark.parametrize(
    ("function", "argument", "sound_argument", "what", "remedy"),
    [
        (torch.logit, 1.0, 0.9, "logit at 0 or 1", "Pass eps=1e-6 to torch.logit"),
        (torch.logit, 1.5, 0.9, "logit of a number outside of 0 to 1", "Pass eps=1e-6 to torch.logit"),
        (torch.erfinv, -1.0, 0.9, "erfinv at -1 or 1", "Clamp its argument to (-1, 1)"),
        (torch.erfinv, 1.5, 0.9, "erfinv of a number beyond 1", "Clamp its argument to (-1, 1)"),
        (torch.atanh, 1.0, 0.9, "atanh at -1 or 1", "Clamp its argument to (-1, 1)"),
        (torch.acosh, 0.5, 1.5, "acosh of a number below 1", "a little above 1"),
        (torch.log1p, -1.0, 0.0, "log1p(-1)", "Clamp the argument from below"),
        (lambda p: torch.xlogy(1.0, p), 0.0, 0.5, "xlogy at 0", "Clamp its second argument from below"),
    ],
)
def test_the_border_of_what_an_operation_is_defined_for_is_named(
    function: Any, argument: float, sound_argument: float, what: str, remedy: str
) -> None:
    seen = told(at(function), (X, torch.full((8,), argument)))
    assert what in seen.message
    assert remedy in seen.advice
    assert "overflow" not in seen.message
    assert sound(at(function), (X, torch.full((8,), sound_argument)))


def within(function: Callable[[Tensor], Tensor]) -> Loss:
    """A loss in which a function of a parameter times the batch's second entry stands, kept finite on the way."""

    def loss(model: Any, part: Any) -> Tensor:
        scale = model.head.bias * 0 + 1
        return function(part[1] * scale).clamp(max=9).mean() + model(part[0]).mean()

    return loss


@pytest.mark.parametrize(
    ("function", "argument", "sound_argument", "what", "remedy"),
    [
        (torch.acosh, 1.0, 1.5, "the gradient of acosh at 1", "a little above 1"),
        (torch.acos, 1.0, 0.5, "the gradient of acos at -1 or 1", "Clamp its argument to (-1, 1)"),
        (lambda p: -torch.log2(p), 0.0, 0.5, "the gradient of log2(0)", "Clamp the argument from below"),
        (
            lambda p: torch.where(p < 1, torch.log1p(-p), p),
            1.0,
            0.5,
            "the gradient of log1p(-1) (0 * inf where torch.where leaves log1p out)",
            "Clamp the argument before log1p",
        ),
        (
            lambda p: torch.where(p < 1, torch.logit(p), p),
            1.5,
            0.5,
            "the gradient of logit of a number outside of 0 to 1",
            "Clamp the argument before logit",
        ),
    ],
)
def test_a_gradient_that_breaks_at_the_border_is_told_by_the_forward_operation(
    function: Any, argument: float, sound_argument: float, what: str, remedy: str
) -> None:
    seen = told(within(function), (X, torch.full((8,), argument)))
    assert what in seen.message
    assert remedy in seen.advice
    assert sound(within(function), (X, torch.full((8,), sound_argument)))


def spoken(model: Any, part: Any) -> Tensor:
    """CTC of six steps and four classes."""
    steps = model(part[0])[:, None].expand(-1, 6, 4).log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(steps, part[1], part[2], part[3])


@pytest.mark.parametrize(
    ("labels", "steps"),
    [
        ([1, 2, 3, 1, 2], 4),  # more labels than steps
        ([1, 1, 1, 2, 2], 6),  # a blank is needed between two alike
    ],
)
def test_a_target_for_which_ctc_has_too_few_steps_is_called_so(labels: list[int], steps: int) -> None:
    targets = torch.tensor([labels, *[[1, 2, 3, 1, 2]] * 7])
    sizes = torch.full((8,), 5)
    seen = told(spoken, (X, targets, torch.tensor([steps, *[6] * 7]), sizes))
    assert "ctc_loss of an input that is too short for its target" in seen.message
    assert seen.evidence["samples"] == [0]
    assert "pass zero_infinity=True to ctc_loss" in seen.advice
    assert sound(spoken, (X, targets[1:2].expand(8, -1), torch.full((8,), 6), sizes))


MISSING = torch.where(torch.arange(8)[:, None] == 5, math.nan, 1.0)


def by_factor(model: Any, part: Any) -> Tensor:
    known = ~part[1].isnan()
    return ((model(part[0]) - part[1]).square() * known).sum() / known.sum()


def by_where(model: Any, part: Any) -> Tensor:
    known = ~part[1].isnan()
    return torch.where(known, model(part[0]) - part[1], 0.0).square().sum() / known.sum()


def test_missing_values_under_a_mask_that_is_a_factor_are_not_to_be_cleaned() -> None:
    seen = told(by_factor, (X, MISSING))
    assert seen.rule == "nonfinite-input"
    assert "batch[1] holds nan, and a mask that is a factor of 0 keeps it, sample 5 of the batch" in seen.message
    assert seen.advice.startswith("Leave it out at ")
    assert seen.advice.endswith(" by torch.where or by an index: 0 * nan is nan.")
    assert sound(by_where, (X, MISSING))


def test_missing_values_that_nothing_masks_are() -> None:
    seen = told(lambda model, part: (model(part[0]) - part[1]).square().mean(), (X, MISSING))
    assert seen.advice.startswith("Clean or drop ")
    assert "mask" not in seen.message


class TestScale:
    """Where numbers are too large from the start, the learning rate is not to blame."""

    def test_targets(self) -> None:
        seen = told(lambda model, part: F.mse_loss(model(part[0]), part[1]), (X, torch.full((8, 1), 1e25)))
        assert "overflow of mse_loss, as batch[1] reaches 1e+25" in seen.message
        assert seen.advice.startswith("Scale batch[1] at ")
        assert seen.advice.endswith("; the learning rate is not to blame.")

    def test_inputs(self) -> None:
        seen = told(lambda model, part: (model(part) ** 2).mean(), X * 1e30)
        assert "overflow of pow, as the batch reaches" in seen.message
        assert "at 0" not in seen.message

    def test_weights(self) -> None:
        model = Net(lambda h: h.abs() + 10)
        with torch.no_grad():
            model.head.weight.fill_(3e38)
        found = diagnosed(model, X.abs() + 10, lambda model, part: model(part).mean())
        assert found is not None
        words: Any = {"when": Circumstances(0), "seen": "loss is inf"}
        assert "as its weights reach 3e+38" in finding(Where(0, 7), found, **words).message
        assert "Lower the learning rate" in finding(Where(0, 7), found, **words).advice
        assert "bring inputs and targets to a size near 1" in finding(Where(0, 7), found, **words).advice
        assert "Look at the initialisation" in finding(Where(0, 0), found, **words).advice


def test_what_made_numbers_grow_stands_before_their_overflow() -> None:
    grown = told(lambda model, part: F.mse_loss(model(part[0]), part[1]), (X, torch.full((8, 1), 1e25)))
    born = told(lambda model, part: (model(part).mean() - torch.log(torch.zeros(8))).mean())
    assert "overflow" in grown.message
    assert "log(0)" in born.message
    raw = Finding("input-not-normalized", Severity.WARNING, "the targets are of size 1e+25", Where(0, 1))
    assert [one.rule for one in findings_in_order([grown, raw])] == ["input-not-normalized", grown.rule]
    assert [one.rule for one in findings_in_order([born, raw])] == [born.rule, "input-not-normalized"]


class Closed:
    """Nothing of it can be seen from outside."""

    __slots__ = ("__numbers",)

    def __init__(self, numbers: Tensor) -> None:
        self.__numbers = numbers

    def __call__(self) -> Tensor:
        return self.__numbers


KEPT = torch.tensor([math.nan])


@pytest.mark.parametrize("batch", [X, [X, KEPT]])
def test_no_operation_without_a_name_is_told(batch: Any) -> None:
    seen = told(lambda model, part: (model(X) + KEPT).mean(), batch)
    assert "  gives" not in seen.message
    assert " holds nan" in seen.message


@pytest.mark.parametrize("name", ["sqrt", "rsqrt"])
def test_a_root_of_a_negative_number_is_not_mended_by_an_epsilon(name: str) -> None:
    root = getattr(torch, name)
    seen = told(
        lambda model, part: (root(part[1]) * model(part[0]).squeeze(1)).mean(), (X, torch.tensor([1.0, -2.0] * 4))
    )
    assert f"{name} of a negative number" in seen.message
    assert seen.advice.startswith(f"Clamp the argument of {name} from below")
    assert sound(lambda model, part: (root(part[1]) * model(part[0]).squeeze(1)).mean(), (X, torch.ones(8)))


def test_a_root_at_zero_is() -> None:
    seen = told(lambda model, part: torch.rsqrt(part[1] * 1.0).mean() + model(part[0]).mean(), (X, torch.zeros(8)))
    assert "epsilon under the root" in seen.advice


def test_a_mask_that_is_a_factor_of_infinity_is_told_what_masks() -> None:
    seen = told(lambda model, part: (model(part[0]).squeeze(1) + part[1] * -math.inf).logsumexp(0), (X, MASK))
    assert "0 * inf" in seen.message
    assert "use torch.where or masked_fill, not a factor of 0" in seen.advice
