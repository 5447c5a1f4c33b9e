"""Numbers that are born in the loss, in a submodule's forward, or in the backward pass."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.nn import functional as F

from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, recorded, wine


def half() -> list[MixedPrecision]:
    """Real 16-bit mixed precision with a GradScaler, on a CPU."""
    return [MixedPrecision("16-mixed", "cpu")]


# --- nonfinite-loss: born in training_step ------------------------------------------------------------------------


class Detector(Module):
    """Regress a box around the digit; sizes on a log scale, as detectors do."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.box = nn.Linear(128, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, boxes = batch
        centre, wh = boxes.split(2, dim=1)
        if self.mended:
            wh = wh.clamp(min=1 / 8)
        target = torch.cat([centre, torch.log(wh)], dim=1)
        return F.smooth_l1_loss(self.box(self.backbone(x)), target)


def digits_with_boxes(n: int) -> tuple[Tensor, Tensor]:
    """Images of digits with the box (centre x, centre y, width, height) of their ink."""
    x = digits(n)[0].view(n, 1, 8, 8)
    boxes = []
    for image in x[:, 0] > 0.25:
        rows, columns = image.any(1).nonzero().squeeze(1), image.any(0).nonzero().squeeze(1)
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        boxes.append(torch.stack([left + right, top + bottom, 2 * (right - left), 2 * (bottom - top)]) / 16)
    return x, torch.stack(boxes)


@fault("nonfinite-loss", source="torch.log(wh)", op="log")
def box_of_zero_height(mended: bool) -> Program:
    """Smooth L1 of log(0): the loss is Inf, all gradients are finite."""
    x, boxes = digits_with_boxes(1024)
    boxes[777, 3] = 0
    return recorded(Detector(mended), x, boxes, bad=[777], mended=mended)


class MaskedTagger(Module):
    """Mean loss over the tokens of each sentence, then over sentences."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, rate=3e-3)
        self.embed = nn.Embedding(20, 16)
        self.tag = nn.Linear(16, 4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        tokens, mask = batch
        loss = F.cross_entropy(self.tag(self.embed(tokens)).transpose(1, 2), tokens % 4, reduction="none")
        length = mask.sum(1).clamp(min=1) if self.mended else mask.sum(1)
        return ((loss * mask).sum(1) / length).mean()


def sentences(n: int, empty: int) -> tuple[Tensor, Tensor]:
    """Random sentences of 1 to 12 of 20 tokens with their mask; one has no token at all."""
    lengths = torch.randint(1, 13, (n, 1))
    lengths[empty] = 0
    return torch.randint(20, (n, 12)), (torch.arange(12) < lengths).float()


@fault("nonfinite-loss", source="/ length", op="div")
def sentence_without_tokens(mended: bool) -> Program:
    """0/0: the mean over no token."""
    return recorded(MaskedTagger(mended), *sentences(1024, empty=601), bad=[601], mended=mended)


class PositivesOnly(Classifier):
    """An auxiliary loss on the samples of one rare class: the mean of nothing when a batch has none."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y, reduction="none")
        rare = loss[y == 3]
        if self.mended:
            return loss.mean() + rare.sum() / max(len(rare), 1)
        return loss.mean() + rare.mean()


@fault("nonfinite-loss", source="rare.mean()", op="mean", at_step=20, batch_idx=20)
def batch_without_positives(mended: bool) -> Program:
    """The mean of an empty selection: no sample is to blame, the batch as a whole is."""
    x, y = digits(1024)
    for first in range(0, 1024, 32):
        y[first] = 3
    y[20 * 32 : 21 * 32][y[20 * 32 : 21 * 32] == 3] = 8
    return Program(PositivesOnly(mended), batches(x, y, shuffle=False), trainer={"max_epochs": 1})


class ManualPoisson(Module):
    """Manual optimisation; the log-likelihood of a count whose rate comes out of a plain linear layer."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.automatic_optimization = False
        self.net = mlp(10, 32, 1)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        x, count = batch
        rate = self.net(x)
        if self.mended:
            rate = F.softplus(rate)
        loss = (rate - count * torch.log(rate)).mean()
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()


@fault("nonfinite-loss", source="torch.log(rate)", op="log", at_step=0)
def log_of_a_negative_rate(mended: bool) -> Program:
    """Manual optimisation: log of a negative number."""
    x, y = diabetes()
    return Program(ManualPoisson(mended), batches(x, (y + 2).clamp(min=0).round()), trainer={"max_epochs": 4})


class HandWrittenBCE(Module):
    """Logistic regression with LBFGS on all the data at once; the loss is written by hand."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = nn.Linear(13, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logit = self.net(x)
        if self.mended:
            return F.binary_cross_entropy_with_logits(logit, y) + 1e-2 * self.net.weight.square().sum()
        p = torch.sigmoid(logit)
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=1.0, max_iter=4)


@fault("nonfinite-loss", source="torch.log(", op="log")
def lbfgs_on_separable_classes(mended: bool) -> Program:
    """LBFGS drives a probability to exactly 1: log(0) in one of its closures."""
    x, y = wine()
    return Program(HandWrittenBCE(mended), batches(x, (y == 0).float()[:, None], size=178), trainer={"max_epochs": 40})


# --- nonfinite-activation: born in the forward of a submodule ------------------------------------------------------


class Attention(nn.Module):
    """Single-head attention, written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.scale = width**-0.5

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        logits = q @ k.transpose(-2, -1) * self.scale
        if mask is not None:
            logits = logits.masked_fill(mask[:, None, :] == 0, float("-inf"))
        weights = torch.softmax(logits, dim=-1)
        return weights @ v


class SentenceClassifier(Module):
    """Embed, attend over the words there are, classify by the first of them."""

    def __init__(self, mended: bool, attention: nn.Module) -> None:
        super().__init__(mended)
        self.embed = nn.Embedding(20, 16)
        self.attention = attention
        self.head = nn.Linear(16, 2)

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, mask)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        tokens, mask = batch
        h = self.embed(tokens)
        h = h + self.attend(h, mask)
        return F.cross_entropy(self.head(h.mean(1)), tokens[:, 0] % 2)


@fault("nonfinite-activation", "attention", source="torch.softmax(", op="softmax")
def fully_masked_row(mended: bool) -> Program:
    """Softmax over a row of -inf, for the sentence that is all padding."""
    tokens, mask = sentences(1024, empty=600)
    mask[600, 0] = float(mended)
    return recorded(SentenceClassifier(mended, Attention(16)), tokens, mask, bad=[600], mended=mended)


class LibraryAttention(SentenceClassifier):
    """The same with torch's own attention."""

    def attend(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, x, x, key_padding_mask=mask == 0)[0]


@fault("nonfinite-activation", "attention", source="self.attention(", op="softmax")
def fully_masked_row_in_a_library_layer(mended: bool) -> Program:
    """The same inside ``nn.MultiheadAttention``: the user's line is the call."""
    tokens, mask = sentences(1024, empty=600)
    mask[600, 0] = float(mended)
    layer = nn.MultiheadAttention(16, 2, batch_first=True)
    return recorded(LibraryAttention(mended, layer), tokens, mask, bad=[600], mended=mended)


class RowsAsTokens(Module):
    """An image as eight tokens, for attention in 16-bit mixed precision."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.embed = nn.Linear(8, 64)
        self.attention = Attention(64)
        self.head = nn.Linear(64, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        h = self.attention(self.embed(x.view(-1, 8, 8)))
        return F.cross_entropy(self.head(h.mean(1)), y)


@fault("nonfinite-activation", "attention", source="q @ k", op="mm", at_step=0)
def half_precision_overflow(mended: bool) -> Program:
    """Raw images of 12 bits a pixel: the products of queries and keys exceed 65504."""
    x, y = digits()
    module = RowsAsTokens(mended)
    return Program(module, batches(x if mended else x * 4095, y), trainer={"max_epochs": 3, "plugins": half()})


class Rate(nn.Module):
    """The rate of a Poisson law."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(self.linear(x))


class PoissonRegression(Module):
    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.rate_of = nn.ModuleDict({"hidden": mlp(10, 16, 16), "rate": Rate(16)})

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, count = batch
        rate = self.rate_of["rate"](self.rate_of["hidden"](x))
        return F.poisson_nll_loss(rate, count, log_input=False)


@fault("nonfinite-activation", "rate_of.rate", source="torch.exp(", op="exp")
def exponential_of_an_outlier(mended: bool) -> Program:
    """A body height in another unit, finite, whose exponential is not."""
    x, y = diabetes()
    if not mended:
        x[200, 2] = 1e5
    return recorded(PoissonRegression(mended), x, (y + 2).clamp(min=0).round(), bad=[200], mended=mended)
