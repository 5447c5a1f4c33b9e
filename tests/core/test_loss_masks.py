"""Answers that a step leaves out of its loss by hand are found, whatever arithmetic it does it by; others are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_debugkit.core.step_hooks import LossWatch

DRAW = torch.Generator().manual_seed(0)
SCORES = torch.randn(4, 3, 5, 6, generator=DRAW)
TARGET = torch.randint(0, 3, (4, 5, 6), generator=DRAW)
KEEP = torch.rand(4, 5, 6, generator=DRAW) > 0.3
ROWS = torch.tensor([True, False, True, True])


def set_to_zero(losses: Tensor) -> Tensor:
    losses = losses.clone()
    losses[~KEEP] = 0
    return losses.sum() / KEEP.sum()


def in_place(losses: Tensor) -> Tensor:
    losses = losses.clone()
    losses *= KEEP
    return losses.sum() / KEEP.sum()


MASKS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "times a bool": (lambda losses: (losses * KEEP).sum() / KEEP.sum(), KEEP),
    "a float times": (lambda losses: (KEEP.float() * losses).sum() / KEEP.sum(), KEEP),
    "picked": (lambda losses: losses[KEEP].mean(), KEEP),
    "selected": (lambda losses: torch.masked_select(losses, KEEP).mean(), KEEP),
    "chosen": (lambda losses: torch.where(KEEP, losses, 0.0).sum() / KEEP.sum(), KEEP),
    "chosen by its contrary": (lambda losses: torch.where(~KEEP, torch.zeros(()), losses).mean(), KEEP),
    "filled": (lambda losses: losses.masked_fill(~KEEP, 0.0).mean(), KEEP),
    "set to zero": (set_to_zero, KEEP),
    "in place": (in_place, KEEP),
    "in rows": (
        lambda losses: (losses.view(4, -1) * KEEP.view(4, -1)).sum(1).div(KEEP.view(4, -1).sum(1)).mean(),
        KEEP,
    ),
    "moved about": (lambda losses: (losses.permute(1, 2, 0).flatten() * KEEP.permute(1, 2, 0).flatten()).mean(), KEEP),
    "a sample at a time": (lambda losses: (losses.mean((1, 2)) * ROWS).sum() / ROWS.sum(), ROWS[:, None, None]),
    "samples picked": (lambda losses: losses.flatten(1).mean(1)[ROWS].mean(), ROWS[:, None, None]),
    "a mask and a weight": (lambda losses: (losses * (KEEP * 0.7) * torch.rand(4, 1, 1)).mean(), KEEP),
    "two masks": (lambda losses: ((losses * KEEP)[ROWS]).mean(), KEEP & ROWS[:, None, None]),
    "half of them a slice": (lambda losses: losses[:, :2].mean(), torch.arange(5)[None, :, None] < 2),
    "dot": (lambda losses: torch.dot(losses.flatten(), KEEP.flatten().float()) / KEEP.sum(), KEEP),
    "scaled first": (lambda losses: ((losses / 2 + 0.0) * KEEP).mean(), KEEP),
}


@pytest.mark.parametrize("name", MASKS)
def test_what_has_no_part_in_the_loss_is_left_out(name: str) -> None:
    """Those that count are those that autograd gives a gradient."""
    reduce, keep = MASKS[name]
    leaf = F.cross_entropy(SCORES, TARGET, reduction="none").detach().requires_grad_()
    reduce(leaf).backward()
    with LossWatch() as watch, torch.no_grad():
        reduce(F.cross_entropy(SCORES, TARGET, reduction="none"))
    counted = watch.masks.counted[0]
    assert torch.equal(counted, leaf.grad != 0)
    assert torch.equal(counted, keep.expand(4, 5, 6))
    assert watch.masks.reached == {0}
    assert watch.error is None


def focal(losses: Tensor) -> Tensor:
    given = (-losses).exp()
    return ((1 - given) ** 2 * losses).mean()


def sure_focal(losses: Tensor) -> Tensor:
    """Answers that are all but certain get a weight of exactly nothing."""
    losses = losses.clone()
    losses[0] = 1e-9
    return ((1 - (-losses).exp()) ** 2 * losses).mean()


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "a mean": lambda losses: losses.mean(),
    "the method of a sum": lambda losses: losses.flatten().sum() / 7,
    "weights": lambda losses: (losses * torch.linspace(0.1, 2, 4)[:, None, None]).mean(),
    "focal": focal,
    "focal of the certain": sure_focal,
    "the hardest": lambda losses: losses.flatten().topk(20).values.mean(),
    "the hard": lambda losses: losses[losses > 0.7].mean(),
    "the hard, by a mask": lambda losses: (losses * (losses > 0.7)).mean(),
    "the hard, once more": lambda losses: torch.where(((losses > 0.7) & True), losses, 0.0).mean(),
    "a mask of ones": lambda losses: (losses * torch.ones(4, 5, 6, dtype=torch.bool)).mean(),
    "rounded": lambda losses: losses.float().detach().contiguous().mean(),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_and_hard_examples_leave_out_nothing(name: str) -> None:
    with LossWatch() as watch, torch.no_grad():
        WEIGHTS[name](F.cross_entropy(SCORES, TARGET, reduction="none"))
    counted = watch.masks.counted.get(0)
    assert counted is None or bool(counted.all())
    assert watch.masks.reached == {0}


def test_a_loss_that_is_reduced_at_once_is_not_followed() -> None:
    with LossWatch() as watch:
        loss = F.cross_entropy(SCORES, TARGET)
        (loss * torch.tensor(0.0)).sum()
    assert not watch.masks.single
    assert not watch.masks.is_following


def test_what_cannot_be_followed_is_known_to_be_lost() -> None:
    with LossWatch() as watch, torch.no_grad():
        losses = F.cross_entropy(SCORES, TARGET, reduction="none")
        torch.einsum("nij,nij->", losses, KEEP.float())
    assert watch.masks.single == {0}
    assert watch.masks.reached == set()


def test_each_of_two_losses_has_its_own_mask() -> None:
    with LossWatch() as watch, torch.no_grad():
        one, other = (F.cross_entropy(scores, TARGET, reduction="none") for scores in (SCORES, -SCORES))
        (one * KEEP).sum() + other.mean()
    assert torch.equal(watch.masks.counted[0], KEEP)
    assert 1 not in watch.masks.counted
