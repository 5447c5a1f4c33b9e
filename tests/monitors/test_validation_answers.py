"""A model that learned nothing is told by what its loss function is given in validation; others are not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from monitors.breaking import QUIET, journal
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector

pytestmark = pytest.mark.filterwarnings("ignore")

RULE = "no-better-than-trivial"


class Says(pl.LightningModule):
    """Trains on something easy, and says in validation what it is made to say.

    Args:
        loss: From labels (n,) to the loss of validation.
    """

    def __init__(self, loss: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.layer(batch[0])[:, 0] - batch[0].sum(1)).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-2)


def told(
    loss: Callable[[Tensor], Tensor], labels: Tensor, folder: Path, epochs: int = 2, steps: int = 60, **options: Any
) -> list[Finding]:
    pl.seed_everything(0, verbose=False)
    train = DataLoader(TensorDataset(torch.randn(steps * 8, 4), torch.zeros(steps * 8)), batch_size=8)
    validation = DataLoader(TensorDataset(torch.randn(len(labels), 4), labels), batch_size=64)
    options = {**QUIET, "max_epochs": epochs, "default_root_dir": folder, **options}
    trainer = pl.Trainer(callbacks=[GradientAnomalyDetector()], **options)
    trainer.fit(Says(loss), train, validation)
    return [finding for finding in journal(folder).findings if finding.rule == RULE]


def classes(n: int = 512, count: int = 8) -> Tensor:
    return torch.randint(count, (n,), generator=torch.Generator().manual_seed(1))


def one_hot(labels: Tensor, size: float, count: int = 8) -> Tensor:
    return size * F.one_hot(labels, count).float()


def noise(labels: Tensor, count: int = 8) -> Tensor:
    return torch.randn(*labels.shape, count)


@pytest.mark.parametrize(("steps", "severity"), [(60, "info"), (500, "warning")])
def test_answers_that_do_not_depend_on_the_sample_are_told_with_their_numbers(
    steps: int, severity: str, tmp_path: Path
) -> None:
    """A run of a few hundred steps may have been ended before the model began to learn."""
    (finding,) = told(lambda y: F.cross_entropy(noise(y), y), classes(), tmp_path, steps=steps)
    assert str(finding.severity) == severity
    assert "answers in validation are right" in finding.message
    assert finding.evidence["n"] == 512
    assert finding.where.step == 2 * steps


@pytest.mark.parametrize(("begins", "severity"), [(0.0, "warning"), (1500.0, "info")])
def test_numbers_that_never_came_near_the_targets_are_told_after_few_steps_too(
    begins: float, severity: str, tmp_path: Path
) -> None:
    """Those around the right number that know no more may be of a model that has not begun to learn."""
    (finding,) = told(lambda y: F.mse_loss(begins + torch.randn(len(y)), 1500.0 + y), classes(), tmp_path)
    assert str(finding.severity) == severity
    assert ("Standardise the targets" in str(finding.advice)) == (severity == "warning")


LEARNED: dict[str, Callable[[Tensor], Tensor]] = {
    "answers that are mostly right": lambda y: F.cross_entropy(noise(y) + one_hot(y, 4.0), y),
    # As of pixels or of tokens of a large vocabulary: the likeliest answer is hardly ever the right one.
    "probabilities that know more than answers": lambda y: F.cross_entropy(
        3 * F.one_hot(torch.zeros_like(y), 8).float() + one_hot(y, 1.5), y
    ),
    # As after many epochs on few samples: right, and far too sure where it is not.
    "a loss above that of the shares": lambda y: F.cross_entropy(30 * (noise(y) + one_hot(y, 1.0)), y),
    "a margin that lowers the true class on purpose": lambda y: F.cross_entropy(
        16 * (noise(y) * 0.3 - one_hot(y, 1.0)), y
    ),
    # As of a discriminator that features are to deceive, beside the task itself.
    "two losses, one of which is to tell nothing": lambda y: (
        F.cross_entropy(noise(y) + one_hot(y, 4.0), y) + F.cross_entropy(noise(y, 2), y % 2)
    ),
    "all of one class": lambda y: F.cross_entropy(noise(y), torch.zeros_like(y)),
    "pairs within the batch": lambda y: F.cross_entropy(torch.randn(len(y), len(y)), torch.arange(len(y))),
    "several labels a sample": lambda y: F.binary_cross_entropy_with_logits(noise(y), one_hot(y, 1.0)),
    "shares as targets": lambda y: F.cross_entropy(noise(y), one_hot(y, 0.8) + 0.025),
    "a mask by arithmetic": lambda y: (F.cross_entropy(noise(y), y, reduction="none") * (y > 6)).sum(),
}


@pytest.mark.parametrize("name", LEARNED)
def test_what_has_learned_or_cannot_be_judged_is_left_in_peace(name: str, tmp_path: Path) -> None:
    assert told(LEARNED[name], classes(), tmp_path) == []


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: F.cross_entropy(noise(y).transpose(1, 2), y),
        lambda y: F.cross_entropy(noise(y).reshape(-1, 8), y.reshape(-1)),
        lambda y: F.nll_loss(noise(y).reshape(-1, 8).log_softmax(1), y.reshape(-1)),
        lambda y: nn.CrossEntropyLoss(ignore_index=3)(noise(y).transpose(1, 2), y),
    ],
)
def test_tokens_are_read_in_every_form(loss: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    labels = classes(256 * 12).view(256, 12)
    (finding,) = told(loss, labels, tmp_path)
    assert 1300 < finding.evidence["n"] < 2600


@pytest.mark.parametrize("is_column", [False, True])
def test_a_rare_class_that_is_never_told_apart_is_an_info(is_column: bool, tmp_path: Path) -> None:
    """Of a model that ranks well the likeliest answer may never be the rare one: its loss shows what it knows."""

    def loss(y: Tensor, knows: float = 0.0) -> Tensor:
        logits = torch.full(y.shape, math.log(0.02 / 0.98)) + 0.01 * torch.randn(y.shape) + knows * (y - 0.02)
        logits, y = (logits[:, None], y[:, None]) if is_column else (logits, y)
        return F.binary_cross_entropy_with_logits(logits, y)

    labels = (torch.arange(1600) % 50 == 7).float()
    (finding,) = told(loss, labels, tmp_path / "blind")
    assert str(finding.severity) == "info"
    assert told(lambda y: loss(y, knows=2.0), labels, tmp_path / "ranks") == []


@pytest.mark.parametrize("options", [{"epochs": 1, "steps": 120}, {"steps": 40}])
def test_a_trial_is_not_judged(options: dict[str, int], tmp_path: Path) -> None:
    """One validation shows no standstill, and 80 steps teach little."""
    assert told(lambda y: F.cross_entropy(noise(y), y), classes(), tmp_path, **options) == []


def test_a_model_that_begins_to_learn_late_is_judged_by_both_validations(tmp_path: Path) -> None:
    passes: list[int] = []

    def loss(y: Tensor) -> Tensor:
        passes.append(1)
        return F.cross_entropy(noise(y) + one_hot(y, 4.0 * (len(passes) > 12)), y)

    assert told(loss, classes(), tmp_path) == []


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


COUNTS = drawn(512).exp().mul(3).round()

BLIND: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "one number": (lambda y: F.mse_loss(torch.full_like(y, 0.1), y), drawn(512)),
    "numbers that are as good as drawn": (lambda y: F.mse_loss(0.05 * torch.randn_like(y), y), drawn(512, 1)),
    "the target first": (lambda y: F.mse_loss(y, 0.05 * torch.randn_like(y)), drawn(512)),
    "the median": (lambda y: F.l1_loss(torch.zeros_like(y), y), drawn(512, 3)),
    "curves": (lambda y: F.smooth_l1_loss(0.05 * torch.randn_like(y), y), drawn(512, 24)),
    "the mean rate": (lambda y: F.poisson_nll_loss(torch.full_like(y, 1.6), y), COUNTS),
    "targets in other units": (lambda y: F.mse_loss(torch.zeros_like(y), (y - 20) / 3), 20 + 3 * drawn(512)),
    "means with a spread": (
        lambda y: nn.GaussianNLLLoss()(0.01 * torch.randn_like(y), y, torch.ones_like(y)), drawn(512)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BLIND)
def test_predictions_of_numbers_that_do_not_depend_on_the_sample_are_told(name: str, tmp_path: Path) -> None:
    loss, targets = BLIND[name]
    (finding,) = told(loss, targets, tmp_path)
    assert "always answering the same number" in finding.message
    assert finding.evidence["n"] == 512
    assert str(finding.severity) == "info"


def test_a_standstill_on_numbers_of_a_thousand_steps_is_a_warning(tmp_path: Path) -> None:
    (finding,) = told(BLIND["curves"][0], BLIND["curves"][1], tmp_path, steps=500)
    assert str(finding.severity) == "warning"


SEEING: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "a weak relation": (lambda y: F.mse_loss(0.1 * y + 0.2 * torch.randn_like(y), y), drawn(512)),
    # As of a network that has not arrived at the scale of the targets yet, or of running statistics that lag behind.
    "a loss above that of the mean": (lambda y: F.mse_loss(3 * y + 10, y), drawn(512)),
    "a sign that is turned": (lambda y: F.mse_loss(-y, y), drawn(512)),
    "noise that the step draws": (lambda y: F.mse_loss(torch.zeros_like(y), torch.randn_like(y)), drawn(512)),
    "residuals that are to be 0": (lambda y: F.mse_loss(torch.randn_like(y), torch.zeros_like(y)), drawn(512)),
    "mostly one number": (lambda y: F.l1_loss(torch.zeros_like(y), y), drawn(512).relu() * (drawn(512) > 0.5)),
    "few samples": (lambda y: F.mse_loss(torch.zeros_like(y), y), drawn(80)),
    "a mask by arithmetic": (
        lambda y: (F.mse_loss(torch.zeros_like(y), y, reduction="none") * (y > 9)).sum(), drawn(512)
    ),
    "a second loss": (lambda y: F.mse_loss(torch.zeros_like(y), y) + F.l1_loss(y, y), drawn(512)),
    "rates": (lambda y: F.poisson_nll_loss(y + 1, y, log_input=False), COUNTS),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEING)
def test_numbers_that_are_known_or_cannot_be_judged_are_left_in_peace(name: str, tmp_path: Path) -> None:
    loss, targets = SEEING[name]
    assert told(loss, targets, tmp_path) == []


class Reader(pl.LightningModule):
    """Predicts the next of eight tokens, each of which follows from the one before.

    Args:
        scale: Of the embeddings: next to nothing comes of a tiny one.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.embed, self.head = nn.Embedding(8, 16), nn.Linear(16, 8)

    def loss(self, tokens: Tensor) -> Tensor:
        scores = self.head(self.scale * self.embed(tokens[:, :-1]))
        return F.cross_entropy(scores.reshape(-1, 8), tokens[:, 1:].reshape(-1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch[0])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch[0]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


@pytest.mark.parametrize(("scale", "is_told"), [(0.0, True), (1.0, False)])
def test_a_language_model_that_answers_the_same_everywhere(scale: float, is_told: bool, tmp_path: Path) -> None:
    pl.seed_everything(4, verbose=False)
    tokens = (torch.randint(8, (640, 1)) + 3 * torch.arange(12)) % 8
    train, validation = (DataLoader(TensorDataset(part), batch_size=8) for part in (tokens[:512], tokens[512:]))
    trainer = pl.Trainer(
        max_epochs=3, default_root_dir=tmp_path, callbacks=[GradientAnomalyDetector(wiring=True)], **QUIET
    )
    trainer.fit(Reader(scale), train, validation)
    assert [finding.rule for finding in journal(tmp_path).findings].count(RULE) == is_told
