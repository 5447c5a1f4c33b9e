"""A model that is as good as always answering the same is told so, and one that has learned something is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from monitors.breaking import QUIET
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import BiasVarianceReport, ErrorAnalysis, Severity, read_journal
from lightning_debugkit.core.trivial_answer import against_constant

RNG = np.random.default_rng(0)


def judged(target: NDArray[Any], answer: NDArray[Any]) -> Any:
    support = np.bincount(target, minlength=5)
    return against_constant(np.bincount(target[target == answer], minlength=5), support)


def test_the_gain_and_its_interval_are_those_of_resampling() -> None:
    target = RNG.choice(5, 800, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    answer = np.where(RNG.random(800) < 0.5, target, RNG.integers(0, 5, 800))
    found = judged(target, answer)
    gains = (answer == target).astype(float) - (target == found.name)
    drawn = [gains[RNG.integers(0, 800, 800)].mean() for _ in range(2000)]
    assert found.right - found.baseline == pytest.approx(gains.mean())
    assert [found.low, found.high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.005)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_answers_are_trivial_unless_they_look_at_the_sample(share: float) -> None:
    """Guessing, however wildly, is no better than the constant; a few right answers of many are."""
    target = RNG.choice(5, 2000, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    guess = np.where(RNG.random(2000) < share, RNG.integers(0, 5, 2000), 0)
    assert judged(target, guess).is_trivial
    knows = np.where(RNG.random(2000) < 0.15, target, 0)
    assert not judged(target, knows).is_trivial


def test_accuracy_that_was_given_up_for_rare_classes_is_no_trivial_answer() -> None:
    """A loss with class weights: below the most frequent class in accuracy, and far above it in mean recall."""
    support = np.array([800, 120, 80])
    assert not against_constant(np.array([560, 100, 70]), support).is_trivial
    assert against_constant(np.array([560, 18, 12]), support).is_trivial  # the same answers, whatever the sample is


def test_few_samples_of_other_classes_tell_nothing() -> None:
    target = np.array([0] * 90 + [1] * 9)
    assert not judged(target, np.zeros(99, dtype=int)).is_trivial


def test_a_small_sample_that_leaves_room_for_skill_tells_nothing() -> None:
    """Half of forty are others; six of them won and six lost is no gain, but a fifth of it may be."""
    support = np.array([20, 20, 0, 0, 0])
    assert not against_constant(np.array([14, 6, 0, 0, 0]), support).is_trivial


class Seeing(pl.LightningModule):
    """Classifies by one input; ``blind`` has it multiplied by 0, as a scale that was lost does."""

    def __init__(self, blind: bool) -> None:
        super().__init__()
        self.net = nn.Linear(4, 3)
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x * (0.0 if self.blind else 1.0))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        scores = self(batch[0])
        return {"loss": F.cross_entropy(scores, batch[1]), "preds": scores}

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", [BiasVarianceReport, ErrorAnalysis])
@pytest.mark.parametrize("blind", [True, False])
def test_a_run_that_learned_nothing_is_not_green(by: Any, blind: bool, tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    x = torch.randn(300, 4)
    data = TensorDataset(x, (x[:, 0] > -0.5).long() + (x[:, 0] > 1).long())
    trainer = pl.Trainer(max_epochs=4, callbacks=[by()], default_root_dir=tmp_path, **QUIET)
    trainer.fit(Seeing(blind), DataLoader(data, batch_size=30, shuffle=True), DataLoader(data, batch_size=100))
    journal = read_journal(tmp_path / "debugkit")
    told = [finding for finding in journal.findings if finding.rule == "no-better-than-trivial"]
    assert [finding.severity for finding in told] == ([Severity.WARNING] if blind else [])
    if blind:
        assert "more data" not in told[0].advice


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("when", "is_told"), [("untrained", False), ("trained", True), ("loaded", True)])
def test_a_model_that_is_validated_before_its_training_is_not_accused(when: str, is_told: bool, tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    data = DataLoader(TensorDataset(torch.randn(300, 4), (torch.arange(300) % 5 > 2).long()), batch_size=100)
    model, kept = Seeing(blind=True), tmp_path / "kept.ckpt"
    trainer = pl.Trainer(max_epochs=1, callbacks=[ErrorAnalysis()], default_root_dir=tmp_path, **QUIET)
    if when == "trained":
        trainer.fit(model, data)
    if when == "loaded":
        pl.Trainer(max_epochs=1, **QUIET).fit(model, data)
        torch.save({"state_dict": model.state_dict(), "pytorch-lightning_version": pl.__version__}, kept)
    trainer.validate(model, data, ckpt_path=kept if when == "loaded" else None, verbose=False)
    told = {finding.rule for finding in read_journal(tmp_path / "debugkit").findings}
    assert ("no-better-than-trivial" in told, "class-never-predicted" in told) == (is_told, is_told)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", [BiasVarianceReport, ErrorAnalysis])
def test_a_fit_of_a_few_batches_that_only_tries_the_code_is_not_accused(by: Any, tmp_path: Path) -> None:
    pl.seed_everything(1, verbose=False)
    data = DataLoader(TensorDataset(torch.randn(300, 4), (torch.arange(300) % 5 > 2).long()), batch_size=50)
    trainer = pl.Trainer(fast_dev_run=3, callbacks=[by()], default_root_dir=tmp_path, **QUIET)
    trainer.fit(Seeing(blind=True), data, data)
    told = {finding.rule for finding in read_journal(tmp_path / "debugkit").findings}
    assert not told & {"no-better-than-trivial", "class-never-predicted"}


class Acting(Seeing):
    """Makes logged actions the likelier the more they have earned: they are no answers that would be right."""

    def loss(self, batch: Any) -> Tensor:
        picked = self(batch[0]).log_softmax(1).gather(1, batch[1][:, None])[:, 0]
        return -(picked * (batch[2] - batch[2].mean())).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))


class Classifying(Acting):
    """The same, but the classes go through a loss function of torch."""

    def loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", [BiasVarianceReport, ErrorAnalysis])
@pytest.mark.parametrize(("kind", "severity"), [(Acting, Severity.INFO), (Classifying, Severity.WARNING)])
def test_what_no_loss_was_heard_to_take_is_no_label_beyond_doubt(
    by: Any, kind: Any, severity: Severity, tmp_path: Path
) -> None:
    pl.seed_everything(1, verbose=False)
    x, taken = torch.randn(600, 4), torch.randint(0, 3, (600,))
    data = TensorDataset(x, taken, x[torch.arange(600), taken])
    trainer = pl.Trainer(max_epochs=4, callbacks=[by()], default_root_dir=tmp_path, **QUIET)
    trainer.fit(kind(blind=True), DataLoader(data, batch_size=30, shuffle=True), DataLoader(data, batch_size=100))
    told = [one for one in read_journal(tmp_path / "debugkit").findings if one.rule == "no-better-than-trivial"]
    assert [one.severity for one in told] == [severity]
