"""Programs whose loss, targets or network are wrong from the first step on, though no number ever breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassPrecision
from torchmetrics.functional import r2_score

from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, wine

BY = {"by": "PreflightCheck", "raises": None}
ONE_EPOCH = {"max_epochs": 1}
FOUR_EPOCHS = {"max_epochs": 4}  # 16 batches each: a fit that is long enough for extra passes


class Net(Classifier):
    """A classifier with a validation step like its training step."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


class Regressor(Module):
    """A network called ``net`` that learns numbers from ``(x, y)`` batches."""

    def __init__(self, mended: bool, net: nn.Module | None = None) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 1) if net is None else net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self(x), y)


@fault("double-softmax", source="cross_entropy", **BY)
def softmax_in_the_model(mended: bool) -> Program:
    net = mlp(64, 32, 10) if mended else nn.Sequential(mlp(64, 32, 10), nn.Softmax(dim=1))
    return Program(Net(mended, net), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("double-softmax", **BY)
def softmax_then_log_softmax(mended: bool) -> Program:
    class Twice(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x)
            if not self.mended:
                scores = scores.softmax(-1)
            return F.nll_loss(scores.log_softmax(-1), y)

    return Program(Twice(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("double-softmax", source="CrossEntropyLoss", **BY)
def softmax_in_validation_only(mended: bool) -> Program:
    class Validated(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            scores = self(x) if self.mended else torch.softmax(self(x), dim=1)
            self.log("val_loss", nn.CrossEntropyLoss()(scores, y))

    return Program(Validated(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("double-softmax", source="log_softmax", **BY)
def softmax_before_a_cross_entropy_by_hand(mended: bool) -> Program:
    class ByHand(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x) if self.mended else self(x).softmax(dim=1)
            return -scores.log_softmax(dim=1).gather(1, y[:, None]).mean()

    return Program(ByHand(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("double-softmax", source="logsumexp", **BY)
def softmax_before_a_norm_of_logits_by_hand(mended: bool) -> Program:
    class ByHand(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x) if self.mended else self(x).softmax(dim=1)
            logs = scores - scores.logsumexp(dim=1, keepdim=True)
            return -logs[torch.arange(len(y)), y].mean()

    return Program(ByHand(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("double-sigmoid", source="binary_cross_entropy_with_logits", **BY)
def sigmoid_before_logits_loss(mended: bool) -> Program:
    x, y = digits()

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = self(x).squeeze(1)
            return F.binary_cross_entropy_with_logits(p if self.mended else torch.sigmoid(p), y)

    return Program(Binary(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("double-sigmoid", **BY)
def sigmoid_before_cross_entropy(mended: bool) -> Program:
    net = mlp(64, 32, 10) if mended else nn.Sequential(mlp(64, 32, 10), nn.Sigmoid())
    return Program(Classifier(mended, net), batches(*digits()), trainer=ONE_EPOCH)


def overlap(p: Tensor, mask: Tensor) -> Tensor:
    return 1 - 2 * (p * mask).sum() / (p.sum() + mask.sum())


@fault("double-sigmoid", source="torch.sigmoid(self(x))", **BY)
def sigmoid_before_a_dice_loss_that_has_one(mended: bool) -> Program:
    x, _ = digits()

    class Dice(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return overlap(torch.sigmoid(self(x)), y)

    net = mlp(64, 32, 64) if mended else nn.Sequential(mlp(64, 32, 64), nn.Sigmoid())
    return Program(Dice(mended, net), batches(x, (x > 0.5).float()), trainer=ONE_EPOCH)


@fault("double-softmax", source="softmax(dim=1)", **BY)
def softmax_before_a_focal_loss_that_has_one(mended: bool) -> Program:
    class Focal(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = self(x).softmax(dim=1).gather(1, y[:, None]).clamp_min(1e-6)
            return -((1 - p).square() * p.log()).mean()

    net = mlp(64, 32, 10) if mended else nn.Sequential(mlp(64, 32, 10), nn.Softmax(dim=1))
    return Program(Focal(mended, net), batches(*digits()), trainer=ONE_EPOCH)


@fault("missing-log-softmax", source="nll_loss", **BY)
def nll_of_probabilities(mended: bool) -> Program:
    class Likelihood(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = self(x).softmax(1)
            return F.nll_loss(p.log() if self.mended else p, y)

    return Program(Likelihood(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("missing-log-softmax", **BY)
def nll_of_logits(mended: bool) -> Program:
    net = nn.Sequential(mlp(64, 32, 10), nn.LogSoftmax(1)) if mended else mlp(64, 32, 10)

    class Likelihood(Classifier):
        def __init__(self, mended: bool, net: nn.Module) -> None:
            super().__init__(mended, net)
            self.loss = nn.NLLLoss()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return self.loss(self(x), y)

    return Program(Likelihood(mended, net), batches(*digits()), trainer=ONE_EPOCH)


@fault("softmax-over-one", **BY)
def softmax_over_one_output(mended: bool) -> Program:
    x, y = digits()

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = torch.sigmoid(self(x)) if self.mended else torch.softmax(self(x), dim=1)
            return F.binary_cross_entropy(p, y)

    return Program(Binary(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()[:, None]), trainer=ONE_EPOCH)


@fault("softmax-over-one", **BY)
def softmax_over_the_samples(mended: bool) -> Program:
    class Wrong(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.nll_loss(F.log_softmax(self(x), dim=1 if self.mended else 0), y)

    return Program(Wrong(mended), batches(*digits()), trainer=ONE_EPOCH)


class Shades(Classifier):
    """How dark each pixel of a digit is, of four shades, told in one of the ways that people have."""

    def __init__(self, mended: bool, way: Callable[[Tensor, bool], Tensor]) -> None:
        super().__init__(mended, nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1)))
        self.way = way

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        shares = self.way(self(x), self.mended)
        return F.nll_loss(shares, y.flatten() if shares.ndim == 2 else y)


def shades(mended: bool, way: Callable[[Tensor, bool], Tensor]) -> Program:
    x, _ = digits()
    return Program(Shades(mended, way), batches(x, (x * 3).round().long().view(-1, 8, 8)), trainer=ONE_EPOCH)


@fault("softmax-over-one", source="F.log_softmax", **BY)
def log_softmax_along_the_columns_of_a_picture(mended: bool) -> Program:
    return shades(mended, lambda scores, mended: F.log_softmax(scores, dim=1 if mended else -1))


@fault("softmax-over-one", source="softmax(", **BY)
def softmax_along_the_pixels_before_log(mended: bool) -> Program:
    def way(scores: Tensor, mended: bool) -> Tensor:
        pixels = scores.flatten(2).transpose(1, 2)
        return pixels.softmax(2 if mended else 1).clamp(1e-6).log().flatten(0, 1)

    return shades(mended, way)


@fault("missing-log-softmax", source="nll_loss", **BY)
def nll_of_what_sigmoid_says_of_each_class(mended: bool) -> Program:
    return shades(mended, lambda scores, mended: scores.log_softmax(1) if mended else torch.sigmoid(scores).log())


@fault("shape-broadcast", source="mse_loss", **BY)
def column_against_row(mended: bool) -> Program:
    x, y = diabetes()
    return Program(Regressor(mended), batches(x, y if mended else y.squeeze(1)), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="self(x) - y", **BY)
def column_against_row_by_hand(mended: bool) -> Program:
    class Handmade(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            if self.mended:
                return ((self(x).squeeze(1) - y) ** 2).mean()
            return ((self(x) - y) ** 2).mean()

    x, y = diabetes()
    return Program(Handmade(mended), batches(x, y.squeeze(1)), trainer=ONE_EPOCH)


@fault("shape-broadcast", **BY)
def accuracy_of_all_pairs(mended: bool) -> Program:
    class Validated(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            best = self(x).argmax(1, keepdim=not self.mended)
            self.log("val_acc", (best == y).float().mean())

    return Program(Validated(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


class Kept(Regressor):
    """Keeps what each step of an evaluation has said, and scores it at the end."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.kept: list[tuple[Tensor, Tensor]] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.kept.append((self(x), y[:, 0]))

    def on_validation_epoch_end(self) -> None:
        said, wanted = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        self.kept.clear()
        ranks = (said[:, 0, None] - said[:, 0]).sign() * (wanted[:, None] - wanted).sign()  # of all pairs, as is meant
        self.log("kendall", ranks.mean())
        said = said.squeeze(1) if self.mended else said
        self.log("error", (said - wanted).abs().mean())


@fault("shape-broadcast", source="(said - wanted).abs()", **BY)
def error_of_all_pairs_at_the_end_of_validation(mended: bool) -> Program:
    return Program(Kept(mended), batches(*diabetes()), batches(*diabetes()), trainer=ONE_EPOCH)


@fault("label-out-of-range", source="cross_entropy", **BY)
def labels_from_one(mended: bool) -> Program:
    x, y = digits()
    return Program(Classifier(mended), batches(x, y if mended else y + 1), trainer=ONE_EPOCH)


@fault("label-out-of-range", **BY)
def signs_as_binary_labels(mended: bool) -> Program:
    x, y = digits()
    signs = (y > 4).float() * 2 - 1

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.binary_cross_entropy_with_logits(self(x).squeeze(1), y)

    return Program(Binary(mended, mlp(64, 32, 1)), batches(x, (y > 4).float() if mended else signs), trainer=ONE_EPOCH)


@fault("label-not-integral", **BY)
def fractions_cut_off(mended: bool) -> Program:
    x, y = digits()

    class Cut(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x), y.long())

    return Program(Cut(mended), batches(x, y.float() if mended else y * 0.5), trainer=ONE_EPOCH)


@fault("label-not-integral", source="CrossEntropyLoss", **BY)
def labels_read_as_floats(mended: bool) -> Program:
    x, y = digits()

    class Read(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return nn.CrossEntropyLoss(label_smoothing=0.1)(self(x), y)

    return Program(Read(mended), batches(x, y if mended else y.float()), trainer=ONE_EPOCH)


@fault("output-range", **BY)
def relu_at_the_end_of_a_regression(mended: bool) -> Program:
    net = mlp(10, 32, 1) if mended else nn.Sequential(mlp(10, 32, 1), nn.ReLU())
    return Program(Regressor(mended, net), batches(*diabetes()), trainer=ONE_EPOCH)


@fault("output-range", **BY)
def sigmoid_against_standardised_pixels(mended: bool) -> Program:
    x = digits()[0]
    x = x if mended else (x - x.mean()) / x.std()
    net = nn.Sequential(mlp(64, 16, 64), nn.Sigmoid())
    return Program(Regressor(mended, net), batches(x, x), trainer=ONE_EPOCH)


@fault("output-range", **BY)
def relu_before_a_logits_loss(mended: bool) -> Program:
    x, y = digits()

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x).squeeze(1)
            return F.binary_cross_entropy_with_logits(scores if self.mended else scores.relu(), y)

    return Program(Binary(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("loss-at-init", **BY)
def raw_wine(mended: bool) -> Program:
    return Program(Classifier(mended, mlp(13, 32, 3)), batches(*wine(scaled=mended)), trainer=ONE_EPOCH)


@fault("loss-at-init", **BY)
def heavy_last_layer(mended: bool) -> Program:
    net = mlp(64, 32, 10)
    if not mended:
        nn.init.normal_(net[-1].weight, std=10)
    return Program(Classifier(mended, net), batches(*digits()), trainer=ONE_EPOCH)


@fault("loss-at-init", source="binary_cross_entropy_with_logits", **BY)
def prior_of_the_rare_class_turned(mended: bool) -> Program:
    class Rare(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.binary_cross_entropy_with_logits(self.net(x), y)

    net, (x, _) = mlp(64, 32, 16), digits()
    nn.init.constant_(net[-1].bias, math.log(0.05 / 0.95) * (1 if mended else -1))
    score = x @ torch.randn(64, 16)
    return Program(Rare(mended, net), batches(x, (score > score.quantile(0.95, 0)).float()), trainer=ONE_EPOCH)


@fault("loss-at-init", source="cross_entropy", **BY)
def embeddings_tied_at_unit_size(mended: bool) -> Program:
    class Words(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended, nn.Linear(48, 60, bias=False))
            self.words = nn.Embedding(60, 48)
            nn.init.normal_(self.words.weight, std=0.02 if mended else 2.0)
            self.net.weight = self.words.weight

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            return F.cross_entropy(self.net(self.words(x[:, :-1])).flatten(0, 1), x[:, 1:].flatten())

    x = torch.randint(60, (512, 17))
    loader = DataLoader(TensorDataset(x), batch_size=32, shuffle=True)
    return Program(Words(mended), loader, trainer=ONE_EPOCH)


@fault("negative-loss", **BY)
def soft_targets_below_zero(mended: bool) -> Program:
    x, y = digits()
    soft = F.one_hot(y, 10).float()

    class Soft(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self(x), y)

    return Program(Soft(mended), batches(x, soft if mended else soft * 3 - 2), trainer=ONE_EPOCH)


@fault("zero-loss", **BY)
def mask_that_is_empty(mended: bool) -> Program:
    class Masked(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            each = F.cross_entropy(self(x), y, reduction="none")
            mask = (y >= 0) if self.mended else (y > 100)
            return (each * mask).sum() / mask.sum().clamp_min(1)

    return Program(Masked(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("stochastic-eval", source="F.dropout", **BY)
def functional_dropout_in_evaluation(mended: bool) -> Program:
    class Dropping(Net):
        def forward(self, x: Tensor) -> Tensor:
            if self.mended:
                return self.net(F.dropout(x, 0.2, self.training))
            return self.net(F.dropout(x, 0.2))

    return Program(Dropping(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("symmetric-init", "net.0", **BY)
def constant_weights(mended: bool) -> Program:
    net = mlp(64, 32, 10)
    if not mended:
        for p in net.parameters():
            nn.init.constant_(p, 0.05)
    return Program(Classifier(mended, net), batches(*digits()), trainer=ONE_EPOCH)


@fault("batch-leak", **BY)
def mean_over_the_samples(mended: bool) -> Program:
    class Centred(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            x = x - x.mean(1 if self.mended else 0, keepdim=True)
            return self.net(x)

    return Program(Centred(mended), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("batch-leak", **BY)
def attention_along_the_samples(mended: bool) -> Program:
    class Attending(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended, nn.Linear(64, 10))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=mended)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.reshape(-1, 8, 8)
            return self.net(self.attention(rows, rows, rows)[0].flatten(1))

    return Program(Attending(mended), batches(*digits()), trainer=FOUR_EPOCHS)


class Language(Module):
    """Next tokens by one layer of attention; the mistake is a mask that is missing."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.embed = nn.Embedding(17, 16)
        self.place = nn.Parameter(0.1 * torch.randn(12, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 17)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (tokens,) = batch
        inputs, wanted = tokens[:, :-1], tokens[:, 1:]
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.shape[1]) if self.mended else None
        hidden = self.layer(self.embed(inputs) + self.place[: inputs.shape[1]], src_mask=mask)
        return F.cross_entropy(self.head(hidden).flatten(0, 1), wanted.flatten())


@fault("future-leak", **BY)
def attention_without_a_mask(mended: bool) -> Program:
    tokens = (digits(512)[0][:, :12] * 16).long()
    return Program(Language(mended), batches(tokens), trainer=FOUR_EPOCHS)


@fault("unused-input", **BY)
def input_replaced_in_forward(mended: bool) -> Program:
    class Replaced(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x if self.mended else torch.ones_like(x))

    return Program(Replaced(mended), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("affine-network", **BY)
def layers_without_activations(mended: bool) -> Program:
    net = mlp(64, 64, 32, 10, act=nn.ReLU if mended else nn.Identity)
    return Program(Classifier(mended, net), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("affine-network", **BY)
def autoencoder_without_activations(mended: bool) -> Program:
    class Restored(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            return F.mse_loss(self(x), x)

    net = mlp(64, 48, 8, 48, 64, act=nn.ReLU if mended else nn.Identity)
    loader = DataLoader(TensorDataset(digits()[0]), batch_size=32, shuffle=True)
    return Program(Restored(mended, net), loader, trainer=FOUR_EPOCHS)


@fault("double-softmax", source="cross_entropy", **BY)
def softmax_in_the_test_alone(mended: bool) -> Program:
    class Tested(Classifier):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            scores = self(x) if self.mended else self(x).softmax(1)
            self.log("test_loss", F.cross_entropy(scores, y))

    loader = batches(*digits())
    return Program(Tested(mended), loader, trainer=ONE_EPOCH, test=loader)


@fault("softmax-over-one", "net.3", source="self.net(x)", **BY)
def softmax_layer_of_one_output(mended: bool) -> Program:
    x, y = digits()

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.binary_cross_entropy(self(x).squeeze(1), y)

    net = nn.Sequential(*mlp(64, 32, 1), nn.Sigmoid() if mended else nn.Softmax(dim=1))
    return Program(Binary(mended, net), batches(x, (y > 4).float()), trainer=FOUR_EPOCHS)


class Pooled(nn.Module):
    """Weighs the pixels of an image, by a softmax over them or, wrongly, over the batch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.score, self.head = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x * F.softmax(self.score(x), dim=self.dim) * 64)


@fault("batch-leak", "net", source="F.softmax(self.score(x)", op="softmax", **BY)
def attention_over_the_batch(mended: bool) -> Program:
    return Program(Net(mended, Pooled(1 if mended else 0)), batches(*digits()), trainer=FOUR_EPOCHS)


class Attends(nn.Module):
    """Pools the rows of a picture by attention, over its rows or, wrongly, over the batch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.rows = nn.Sequential(nn.Linear(8, 16), nn.GELU())
        self.score, self.head = nn.Linear(16, 1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x.reshape(-1, 8, 8))
        weights = self.score(rows).softmax(dim=self.dim)
        return self.head((weights * rows).sum(1))


@fault("batch-leak", "net", source="self.score(rows).softmax", op="softmax", **BY)
def pooling_over_a_large_batch(mended: bool) -> Program:
    """One sample of 128 moves the others by less than a thousandth of their spread; half of them by more."""
    return Program(Net(mended, Attends(1 if mended else 0)), batches(*digits(), size=128), trainer={"max_epochs": 16})


@fault("batch-leak", "", source="x.softmax(0)", op="softmax", **BY)
def answers_that_sum_to_one_over_the_batch_by_hand(mended: bool) -> Program:
    class ByHand(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            x = self.net(x)
            return x.softmax(1) if self.mended else x.softmax(0)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return -(self(x)[torch.arange(len(y)), y] + 1e-8).log().mean()

    return Program(ByHand(mended), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("batch-leak", "", source="x.mean(0)", **BY)
def a_large_batch_is_centred(mended: bool) -> Program:
    """Each sample moves the others by a two-hundredth of its way: too little for the eye, and not for rounding."""

    class Centred(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) if self.mended else self.net(x - x.mean(0))

    net = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    return Program(Centred(mended, net), batches(*digits(1024), size=256), trainer={"max_epochs": 16})


@fault("batch-leak", "attention", source="self.attention(tokens", op="multi_head_attention_forward", **BY)
def tokens_of_all_samples_in_one_sequence(mended: bool) -> Program:
    class Flat(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended, nn.Linear(64, 10))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            tokens = x.reshape(-1, 8, 8) if self.mended else x.reshape(1, -1, 8)
            mixed, _ = self.attention(tokens, tokens, tokens)
            together = mixed + tokens
            return self.net(together.reshape(len(x), 64))

    return Program(Flat(mended), batches(*digits()), trainer=FOUR_EPOCHS)


class Clamped(nn.Module):
    """Logits that are clamped where training cannot bring them back; one of many ways to stop all learning."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended
        self.net = mlp(64, 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.net(x)
        return logits if self.mended else logits.clamp(-0.05, 0.05)


@fault("cannot-overfit-batch", **BY)
def logits_clamped_to_nothing(mended: bool) -> Program:
    loader = batches(*digits())
    return Program(Net(mended, Clamped(mended)), loader, trainer=FOUR_EPOCHS, callback={"overfit_batch": True})


@fault("cannot-overfit-batch", **BY)
def gradient_turned_around(mended: bool) -> Program:
    class Reversed(torch.autograd.Function):
        """A gradient reversal layer, left over from domain adaptation."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return -grad

    class Adversary(Net):
        def forward(self, x: Tensor) -> Tensor:
            logits = self.net(x)
            return logits if self.mended else Reversed.apply(logits)

    return Program(Adversary(mended), batches(*digits()), trainer=FOUR_EPOCHS, callback={"overfit_batch": True})


@fault("future-leak", source="cross_entropy", **BY)
def tokens_that_are_their_own_target(mended: bool) -> Program:
    class Reader(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.embed, self.rnn, self.head = nn.Embedding(17, 24), nn.GRU(24, 24, batch_first=True), nn.Linear(24, 17)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            [tokens] = batch
            logits, wanted = self.head(self.rnn(self.embed(tokens))[0]), tokens
            if self.mended:
                logits, wanted = logits[:, :-1], tokens[:, 1:]
            return F.cross_entropy(logits.flatten(0, 1), wanted.flatten())

    tokens = (digits(512)[0][:, :12] * 16).long()
    return Program(Reader(mended), batches(tokens), trainer=FOUR_EPOCHS)


@fault("batch-leak", **BY)
def tags_of_an_encoder_that_takes_samples_for_time(mended: bool) -> Program:
    class Tagger(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=mended)
            self.embed, self.head = nn.Embedding(17, 16), nn.Linear(16, 2)
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            tokens, tags = batch
            return F.cross_entropy(self.head(self.encoder(self.embed(tokens))).flatten(0, 1), tags.flatten())

    tokens = (digits(512)[0][:, :12] * 16).long()
    return Program(Tagger(mended), batches(tokens, (tokens == tokens.amax(1, True)).long()), trainer=FOUR_EPOCHS)


@fault("batch-leak", **BY)
def recurrent_output_reshaped_without_a_transpose(mended: bool) -> Program:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 8), nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            output, _ = self.rnn(x.reshape(-1, 8, 8).transpose(0, 1))  # rows of the image, batch, units
            return self.head((output.transpose(0, 1) if mended else output).reshape(len(x), -1))

    return Program(Net(mended, Recurrent()), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("stochastic-eval", **BY)
def dropout_built_in_forward(mended: bool) -> Program:
    class Dropping(Net):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.drop = nn.Dropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            return (self.drop if self.mended else nn.Dropout(0.3))(self.net(x))

    return Program(Dropping(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("negative-loss", source="cross_entropy", **BY)
def cross_entropy_with_a_minus(mended: bool) -> Program:
    class Turned(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            score = -F.cross_entropy(self(x), y)
            return {"loss": -score if self.mended else score}

    return Program(Turned(mended), batches(*digits()), trainer={**ONE_EPOCH, "accumulate_grad_batches": 3})


@fault("negative-loss", source=".mean()", **BY)
def likelihood_without_its_minus(mended: bool) -> Program:
    class Likely(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            own = self(x).log_softmax(1).gather(1, y[:, None])
            return -own.mean() if self.mended else own.mean()

    return Program(Likely(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("negative-loss", source=".mean()", **BY)
def likelihood_by_logsumexp_without_its_minus(mended: bool) -> Program:
    class Likely(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x)
            own = (scores - torch.logsumexp(scores, 1, keepdim=True))[torch.arange(len(y)), y]
            return -own.mean() if self.mended else own.mean()

    return Program(Likely(mended), batches(*digits()), trainer=ONE_EPOCH)


@fault("negative-loss", source="each.sum() / len(y)", **BY)
def bernoulli_likelihood_without_its_minus(mended: bool) -> Program:
    x, y = digits()

    class Likely(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = torch.sigmoid(self(x).squeeze(1))
            each = y * torch.log(p + 1e-7) + (1 - y) * torch.log(1 - p + 1e-7)
            return -each.mean() if self.mended else each.sum() / len(y)

    return Program(Likely(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("negative-loss", source=".mean()", **BY)
def bernoulli_likelihood_by_logsigmoid_without_its_minus(mended: bool) -> Program:
    x, y = digits()

    class Likely(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            score = self(x).squeeze(1)
            own = (y * F.logsigmoid(score) + (1 - y) * F.logsigmoid(-score)).mean()
            return -own if self.mended else own

    return Program(Likely(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("negative-loss", source=".mean()", **BY)
def one_hot_likelihood_without_its_minus(mended: bool) -> Program:
    x, y = digits()

    class Likely(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            own = (y * self(x).softmax(1).log()).sum(1)
            return -own.mean() if self.mended else own.mean()

    return Program(Likely(mended), batches(x, F.one_hot(y, 10).float()), trainer=ONE_EPOCH)


@fault("negative-loss", source="ink * p", **BY)
def overlap_with_a_mask_of_grey_levels(mended: bool) -> Program:
    x, _ = digits()
    ink = (x > 0.5).to(torch.uint8) * 255

    class Precise(Regressor):
        """Ink of a digit, pixel by pixel, by a soft precision."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, ink = batch
            p = self(x).softmax(-1)[..., 1]
            if self.mended:
                ink = ink / 255
            return 1 - ((ink * p).sum(1) / p.sum(1).clamp_min(1.0)).mean()

    pixels = nn.Sequential(mlp(64, 64, 128), nn.Unflatten(1, (64, 2)))
    return Program(Precise(mended, pixels), batches(x, ink), trainer=ONE_EPOCH)


@fault("output-range", source="torch.mean", **BY)
def sigmoid_for_numbers_in_a_squared_error_by_hand(mended: bool) -> Program:
    class ByHand(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            said = self(x) if self.mended else torch.sigmoid(self(x))
            return torch.mean((said - y) ** 2)

    return Program(ByHand(mended), batches(*diabetes()), trainer=ONE_EPOCH)


@fault("output-range", source="sum(1).mean()", **BY)
def relu_for_signed_numbers_in_an_absolute_error_by_hand(mended: bool) -> Program:
    x, _ = digits()
    y = torch.randn(len(x), 3)

    class ByHand(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            said = self(x) if self.mended else F.relu(self(x))
            return (y - said).abs().sum(1).mean()

    return Program(ByHand(mended, mlp(64, 32, 3)), batches(x, y), trainer=ONE_EPOCH)


@fault("output-range", **BY)
def relu_before_sigmoid(mended: bool) -> Program:
    x, y = digits()

    class Binary(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return F.binary_cross_entropy(torch.sigmoid(self(x)).squeeze(1), y)

    net = mlp(64, 32, 1) if mended else nn.Sequential(mlp(64, 32, 1), nn.ReLU())
    return Program(Binary(mended, net), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("softmax-over-one", source="cross_entropy", **BY)
def cross_entropy_of_one_output_and_shares(mended: bool) -> Program:
    x, y = digits()

    class YesNo(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self(x)
            return F.binary_cross_entropy_with_logits(scores, y) if self.mended else F.cross_entropy(scores, y)

    return Program(YesNo(mended, mlp(64, 32, 1)), batches(x, (y > 4).float()[:, None]), trainer=ONE_EPOCH)


@fault("symmetric-init", "net.0", **BY)
def weights_that_are_all_zero(mended: bool) -> Program:
    net = mlp(64, 32, 10)
    if not mended:
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
    return Program(Net(mended, net), batches(*digits()), trainer=ONE_EPOCH)


class LastState(Module):
    """Which digit it is, by what a recurrent layer says at the last row of its picture."""

    def __init__(self, mended: bool, rnn: nn.RNNBase) -> None:
        super().__init__(mended)
        self.rnn, self.head = rnn, nn.Linear(rnn.hidden_size, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.head(self.rnn(x.reshape(-1, 8, 8))[0][:, -1]), y)


@fault("symmetric-init", "net.0", **BY)
def one_number_for_all_weights_and_biases_at_random(mended: bool) -> Program:
    net = mlp(64, 32, 10)
    for parameter in () if mended else net.parameters():
        if parameter.ndim > 1:
            nn.init.constant_(parameter, 0.05)
    return Program(Net(mended, net), batches(*digits()), trainer=ONE_EPOCH)


@fault("symmetric-init", "rnn", **BY)
def gates_of_which_each_has_one_value(mended: bool) -> Program:
    """An own forget bias for each gate, and one number for all weights."""
    net = LastState(mended, nn.LSTM(8, 16, num_layers=2, batch_first=True))
    if not mended:
        for name, part in net.named_parameters():
            for place, gate in enumerate(part.chunk(4) if name.startswith("rnn") else [part]):
                nn.init.constant_(gate, 0.05 * (1 + place))
    return Program(net, batches(*digits()), trainer=ONE_EPOCH)


@fault("symmetric-init", "rnn", **BY)
def a_recurrent_network_of_zeros(mended: bool) -> Program:
    net = LastState(mended, nn.GRU(8, 16, batch_first=True))
    for part in () if mended else net.parameters():
        nn.init.zeros_(part)
    return Program(net, batches(*digits()), trainer=ONE_EPOCH)


def halves(n: int = 512) -> tuple[Tensor, Tensor]:
    """Rows of measurements, and which of two classes they are of, ``(n,)`` float."""
    x = torch.randn(n, 8)
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).float()


class ByHand(Module):
    """A binary classifier whose loss is its own arithmetic; a network with one output gives a column."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(8, 32, 1)

    def scores(self, x: Tensor) -> Tensor:
        return self.net(x).squeeze(1) if self.mended else self.net(x)


@fault("shape-broadcast", source="t * torch.log(p)", **BY)
def cross_entropy_by_hand(mended: bool) -> Program:
    class Own(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, t = batch
            p = torch.sigmoid(self.scores(x)).clamp(1e-6, 1 - 1e-6)
            return -(t * torch.log(p) + (1 - t) * torch.log(1 - p)).mean()

    return Program(Own(mended), batches(*halves()), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="torch.where", **BY)
def loss_chosen_by_label(mended: bool) -> Program:
    class Own(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, t = batch
            z = self.scores(x)
            return torch.where(t == 1, F.softplus(-z), F.softplus(z)).mean()

    return Program(Own(mended), batches(*halves()), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="losses * w", **BY)
def weights_of_samples_as_a_row(mended: bool) -> Program:
    class Own(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, t, w = batch
            z = self.scores(x)
            losses = F.binary_cross_entropy_with_logits(z, t.reshape(z.shape), reduction="none")
            return (losses * w).mean()

    return Program(Own(mended), batches(*halves(), torch.rand(512)), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="hits & t.bool()", **BY)
def recall_of_all_pairs(mended: bool) -> Program:
    class Own(ByHand):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, t = batch
            return F.binary_cross_entropy_with_logits(self.net(x).squeeze(1), t)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, t = batch
            hits = self.scores(x) > 0
            self.log("recall", (hits & t.bool()).sum() / t.sum())

    return Program(Own(mended), batches(*halves()), batches(*halves(), shuffle=False), trainer=ONE_EPOCH)


@fault("view-for-transpose", source="view(len(x)", **BY)
def channels_last_read_as_channels_first(mended: bool) -> Program:
    class Colours(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.permute(0, 3, 1, 2) if self.mended else x.view(len(x), 3, 8, 8))

    x, y = digits()
    images = x.reshape(-1, 8, 8, 1) * torch.tensor([1.0, 0.7, 0.4])
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return Program(Colours(mended, net), batches(images, y), trainer=ONE_EPOCH)


@fault("view-for-transpose", source="reshape(30, 7, -1)", **BY)
def time_first_read_as_samples_first(mended: bool) -> Program:
    class Sensors(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.permute(1, 2, 0) if self.mended else x.reshape(30, 7, -1))

    x = torch.randn(480, 20, 7)

    def time_first(items: list[Any]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in items], 1), torch.stack([y for _, y in items])

    net = nn.Sequential(nn.Conv1d(7, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 2))
    loader = batches(x, (x[:, :, 0].mean(1) > 0).long(), size=30, collate_fn=time_first)
    return Program(Sensors(mended, net), loader, trainer=ONE_EPOCH)


@fault("missing-log-softmax", source="F.ctc_loss", **BY)
def scores_given_to_an_alignment(mended: bool) -> Program:
    class Reader(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = nn.Linear(8, 11)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self.net(x).transpose(0, 1)
            told = scores.log_softmax(-1) if self.mended else scores
            return F.ctc_loss(told, y[:, None] + 1, torch.full((len(x),), 8), torch.ones(len(x), dtype=torch.long))

    x, y = digits()
    return Program(Reader(mended), batches(x.reshape(-1, 8, 8), y), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="rewards + ", **BY)
def column_of_rewards_in_what_is_aimed_at(mended: bool) -> Program:
    class Values(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(4, 16, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            states, rewards, later = batch
            with torch.no_grad():
                aims = rewards + 0.9 * self.net(later).amax(1)
            return F.smooth_l1_loss(self.net(states)[:, 0], aims)

    states, rewards, later = torch.randn(640, 4), torch.randn(640), torch.randn(640, 4)
    return Program(Values(mended), batches(states, rewards if mended else rewards[:, None], later), trainer=ONE_EPOCH)


@fault("view-for-transpose", source="view(-1, 2)", **BY)
def scores_of_pixels_read_across_their_classes(mended: bool) -> Program:
    class Ink(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, mask = batch
            scores = self.net(x)
            rows = scores.movedim(1, -1).reshape(-1, 2) if self.mended else scores.view(-1, 2)
            return F.cross_entropy(rows, mask.view(-1))

    x = digits()[0].reshape(-1, 1, 8, 8)
    return Program(Ink(mended), batches(x, (x[:, 0] > 0.5).long()), trainer=ONE_EPOCH)


class Views(Module):
    """Two noised views of each row are told from those of the others."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(10, 32, 8)

    def noised(self, x: Tensor) -> Tensor:
        return self.net(x + 0.1 * torch.randn_like(x))


@fault("batch-leak", source="one @ other.T", **BY)
def embeddings_normalised_along_the_batch(mended: bool) -> Program:
    class Pairs(Views):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            one, other = (F.normalize(self.noised(x), dim=1 if self.mended else 0) for _ in range(2))
            return F.cross_entropy(one @ other.T / 0.2, torch.arange(len(x)))

    return Program(Pairs(mended), batches(diabetes()[0]), trainer=ONE_EPOCH)


@fault("batch-leak", source="torch.einsum", **BY)
def embeddings_of_both_views_normalised_along_the_batch(mended: bool) -> Program:
    class Pairs(Views):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            z = torch.cat([self.noised(x), self.noised(x)])
            z = z / z.norm(dim=1 if self.mended else 0, keepdim=True)
            near = torch.einsum("id,jd->ij", z, z) / 0.2
            near = near.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e4)
            return F.cross_entropy(near, (torch.arange(len(z)) + len(x)) % len(z))

    return Program(Pairs(mended), batches(diabetes()[0]), trainer=ONE_EPOCH)


@fault("future-leak", source="cross_entropy", **BY)
def targets_shifted_by_dataset_and_by_module(mended: bool) -> Program:
    class Reader(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.words, self.past, self.head = nn.Embedding(20, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 20)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            scores = self.head(self.past(self.words(x))[0])
            if not self.mended:
                scores, y = scores[:, :-1], y[:, 1:]
            return F.cross_entropy(scores.reshape(-1, 20), y.reshape(-1))

    tokens = torch.randint(20, (512, 12))
    return Program(Reader(mended), batches(tokens[:, :-1], tokens[:, 1:]), trainer=FOUR_EPOCHS)


PAD = 0


class Padded(Module):
    """Classes of sequences of ids that end in padding; ``attend`` lets the tokens look at each other."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.words, self.head = nn.Embedding(20, 16), nn.Linear(16, 2)

    def attend(self, h: Tensor, is_padding: Tensor) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        h, is_padding = self.words(x), x == PAD
        h = h + self.attend(h, is_padding)
        return F.cross_entropy(self.head(h.masked_fill(is_padding[..., None], 0).sum(1)), y)


def padded() -> Any:
    x, y = torch.randint(1, 20, (512, 12)), torch.randint(2, (512,))
    x[:, 0] = 1 + y
    return batches(x.masked_fill(torch.arange(12) >= torch.randint(3, 12, (512, 1)), PAD), y)


@fault("unused-input", "attention", source="self.attention", **BY)
def padding_mask_turned_round(mended: bool) -> Program:
    class Inverted(Padded):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

        def attend(self, h: Tensor, is_padding: Tensor) -> Tensor:
            mask = is_padding if self.mended else ~is_padding
            return self.attention(h, h, h, key_padding_mask=mask)[0]

    return Program(Inverted(mended), padded(), trainer=ONE_EPOCH)


@fault("unused-input", source="scaled_dot_product_attention", **BY)
def padding_mask_of_the_other_convention(mended: bool) -> Program:
    class Inverted(Padded):
        def attend(self, h: Tensor, is_padding: Tensor) -> Tensor:
            mask = ~is_padding if self.mended else is_padding
            return F.scaled_dot_product_attention(h, h, h, attn_mask=mask[:, None])

    return Program(Inverted(mended), padded(), trainer=ONE_EPOCH)


@fault("unused-input", source="masked_fill", **BY)
def scores_of_the_tokens_filled_by_hand(mended: bool) -> Program:
    class Inverted(Padded):
        def attend(self, h: Tensor, is_padding: Tensor) -> Tensor:
            hidden = is_padding if self.mended else ~is_padding
            scores = (h @ h.mT).masked_fill(hidden[:, None], -1e9)
            return scores.softmax(-1) @ h

    return Program(Inverted(mended), padded(), trainer=ONE_EPOCH)


@fault("unused-input", source="scores +", **BY)
def large_negative_numbers_added_to_the_tokens(mended: bool) -> Program:
    class Inverted(Padded):
        def attend(self, h: Tensor, is_padding: Tensor) -> Tensor:
            hidden = (is_padding if self.mended else ~is_padding).float()
            scores = h @ h.mT
            scores = scores + hidden[:, None] * torch.finfo(h.dtype).min
            return scores.softmax(-1) @ h

    return Program(Inverted(mended), padded(), trainer=ONE_EPOCH)


@fault("unused-input", source="cross_entropy", **BY)
def views_compared_with_themselves(mended: bool) -> Program:
    class Pairs(Views):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            one, other = (F.normalize(self.noised(x), dim=1) for _ in range(2))
            return F.cross_entropy(one @ (other if self.mended else one).T / 0.2, torch.arange(len(x)))

    return Program(Pairs(mended), batches(diabetes()[0]), trainer=ONE_EPOCH)


@fault("unused-input", "net.0", source="self.net(x)", **BY)
def layer_norm_over_one_number(mended: bool) -> Program:
    x, y = diabetes()
    net = mlp(1, 16, 1) if mended else nn.Sequential(nn.LayerNorm(1), mlp(1, 16, 1))
    return Program(Regressor(mended, net), batches(x[:, 2:3], y), trainer=FOUR_EPOCHS)


@fault("unused-input", source="clamp", **BY)
def input_clamped_to_one_number(mended: bool) -> Program:
    class Clipped(Regressor):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.clamp(-5, 5) if self.mended else x.clamp(5, 5))

    return Program(Clipped(mended), batches(*diabetes()), trainer=FOUR_EPOCHS)


class Answers(Net):
    """Counts its right answers sample by sample, as a loop does."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        right = [p == t for p, t in zip(self.answers(self(x)), y, strict=False)]
        self.log("right", torch.stack(right).float().mean())

    def answers(self, scores: Tensor) -> Tensor:
        raise NotImplementedError


@fault("softmax-over-one", source="argmax", **BY)
def answers_taken_along_the_samples(mended: bool) -> Program:
    class Wrong(Answers):
        def answers(self, scores: Tensor) -> Tensor:
            return scores.argmax(1 if self.mended else 0)

    return Program(Wrong(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("softmax-over-one", source="scores.max", **BY)
def highest_scores_taken_along_the_samples(mended: bool) -> Program:
    class Wrong(Answers):
        def answers(self, scores: Tensor) -> Tensor:
            return scores.max(dim=1 if self.mended else 0).indices

    return Program(Wrong(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("shape-broadcast", source="chosen * gain", **BY)
def policy_gradient_of_all_pairs(mended: bool) -> Program:
    """What the network says of each sample, of a column and of a row."""

    class Actor(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.policy, self.value = mlp(10, 16, 3), mlp(10, 16, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, reward = batch
            value = self.value(x)
            chosen = self.policy(x).log_softmax(1)[:, 0]
            gain = reward - value.detach()
            if self.mended:
                gain = gain.squeeze(1)
            return -(chosen * gain).mean() + F.mse_loss(value, reward)

    return Program(Actor(mended), batches(*diabetes()), trainer=ONE_EPOCH)


class Ink(Module):
    """Tells ink from paper, pixel by pixel; ``share`` says how far a prediction meets the mask."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def share(self, p: Tensor, mask: Tensor) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, mask = batch
        p = self.net(x)
        return 1 - self.share(p.sigmoid() if self.mended else p, mask).mean()


def inked() -> Any:
    x = digits()[0].view(-1, 1, 8, 8)
    return batches(x, (x > 0.4).float())


class Residual(nn.Module):
    """Ends in a residual connection from a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.last = nn.ConvTranspose2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        risen = self.up(x)
        return self.last(risen.relu()) + risen


@fault("output-range", source="total", **BY)
def dice_of_what_a_residual_network_gives(mended: bool) -> Program:
    class Dice(Ink):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = Residual()

        def share(self, p: Tensor, mask: Tensor) -> Tensor:
            total = p.sum() + mask.sum()
            return 2 * (p * mask).sum() / total

    return Program(Dice(mended), inked(), trainer=ONE_EPOCH)


@fault("output-range", source="both + 1", **BY)
def dice_of_logits(mended: bool) -> Program:
    class Dice(Ink):
        def share(self, p: Tensor, mask: Tensor) -> Tensor:
            both = p.sum((1, 2, 3)) + mask.sum((1, 2, 3))
            return (2 * (p * mask).sum((1, 2, 3)) + 1) / (both + 1)

    return Program(Dice(mended), inked(), trainer=ONE_EPOCH)


@fault("output-range", source="met / (p + mask)", **BY)
def overlap_of_logits_added_to_the_mask(mended: bool) -> Program:
    class Overlap(Ink):
        def share(self, p: Tensor, mask: Tensor) -> Tensor:
            met = (mask * p).sum()
            return met / (p + mask).sum().clamp(min=1e-6)

    return Program(Overlap(mended), inked(), trainer=ONE_EPOCH)


@fault("label-out-of-range", source="cross_entropy", **BY)
def several_classes_for_one_softmax(mended: bool) -> Program:
    class Tags(Regressor):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            return (F.binary_cross_entropy_with_logits if self.mended else F.cross_entropy)(self(x), y)

    x, _ = diabetes()
    return Program(Tags(mended, mlp(10, 32, 4)), batches(x, (x[:, :4] > 0).float()), trainer=ONE_EPOCH)


@fault("step-raised", "net.1", source="self.net(x)", by="PreflightCheck", raises=None)
def a_last_batch_of_one_sample(mended: bool) -> Program:
    """Which batch norm cannot take."""
    net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return Program(Classifier(mended, net), batches(*digits(129), drop_last=mended), trainer=ONE_EPOCH)


@fault("step-raised", source="F.batch_norm", by="PreflightCheck", raises=None)
def a_last_batch_of_one_sample_in_a_norm_by_hand(mended: bool) -> Program:
    class Normed(Classifier):
        def forward(self, x: Tensor) -> Tensor:
            return self.net(F.batch_norm(x, None, None, training=True))

    return Program(Normed(mended), batches(*digits(128 if mended else 161)), trainer=ONE_EPOCH)


def waves(n: int = 512, length: int = 13) -> Tensor:
    """Series ``(n, length, 1)`` that differ in pace and beginning."""
    pace, start = 0.2 + 0.3 * torch.rand(n, 1), 6 * torch.rand(n, 1)
    return torch.sin(pace * torch.arange(length) + start)[..., None]


@fault("future-leak", source="mse_loss", **BY)
def series_foretold_by_a_recurrent_layer_of_both_directions(mended: bool) -> Program:
    class Foretelling(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.layer = nn.GRU(1, 16, batch_first=True, bidirectional=not mended)
            self.head = nn.Linear(16 if mended else 32, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (series,) = batch
            return F.mse_loss(self.head(self.layer(series[:, :-1])[0]), series[:, 1:])

    return Program(Foretelling(mended), batches(waves()), trainer=FOUR_EPOCHS)


@fault("future-leak", source="l1_loss", **BY)
def convolution_that_is_padded_on_both_sides(mended: bool) -> Program:
    """The dataset has shifted the series, and time stands last."""

    class Foretelling(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.one, self.head = nn.Conv1d(1, 16, 3), nn.Conv1d(16, 1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            series, later = batch
            hidden = self.one(F.pad(series, (2, 0) if self.mended else (1, 1))).relu()
            return F.l1_loss(self.head(hidden), later)

    series = waves().mT
    return Program(Foretelling(mended), batches(series[..., :-1], series[..., 1:]), trainer=FOUR_EPOCHS)


@fault("unused-input", "layer", **BY)
def recurrent_output_at_the_first_place(mended: bool) -> Program:
    class Reading(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.layer, self.head = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 10)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            states, _ = self.layer(x)
            return F.cross_entropy(self.head(states[:, -1 if self.mended else 0]), y)

    x, y = digits()
    return Program(Reading(mended), batches(x.reshape(-1, 8, 8), y), trainer=FOUR_EPOCHS)


def padded_to_the_longest(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    x = nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
    return {"ids": x, "mask": x != PAD, "y": torch.tensor([y for _, y in items])}


def with_a_mask_of_floats(items: list[tuple[Tensor, int]]) -> dict[str, Tensor]:
    filled = padded_to_the_longest(items)
    return {**filled, "mask": filled["mask"].float()}


def pooled(mended: bool, collate: Callable[[list[tuple[Tensor, int]]], dict[str, Tensor]]) -> Program:
    class Pooled(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.words, self.head = nn.Embedding(20, 16), nn.Linear(16, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            hidden = self.words(batch["ids"])
            if self.mended:
                kept = batch["mask"][..., None]
                return F.cross_entropy(self.head((hidden * kept).sum(1) / kept.sum(1)), batch["y"])
            return F.cross_entropy(self.head(hidden.mean(1)), batch["y"])

    texts = [(torch.randint(1, 20, (n,)), n % 2) for n in torch.randint(2, 16, (512,)).tolist()]
    loader = DataLoader(texts, batch_size=8, shuffle=True, collate_fn=collate)
    return Program(Pooled(mended), loader, trainer={"max_epochs": 1})


@fault("unused-input", **BY)
def padding_that_counts_in_a_mean(mended: bool) -> Program:
    return pooled(mended, padded_to_the_longest)


@fault("unused-input", **BY)
def padding_that_a_mask_of_floats_tells(mended: bool) -> Program:
    return pooled(mended, with_a_mask_of_floats)


class Words(Module):
    """Says something of each word of a text; ``0`` fills texts up."""

    def __init__(self, mended: bool, kinds: int) -> None:
        super().__init__(mended)
        self.net = nn.Sequential(nn.Embedding(20, 16, padding_idx=PAD), nn.Linear(16, kinds))
        self.loss = nn.CrossEntropyLoss(ignore_index=PAD if mended else -100)


def filled_up(texts: Sequence[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=PAD)


def of_all_lengths() -> list[Tensor]:
    return [torch.randint(1, 20, (n,)) for n in torch.randint(2, 16, (512,)).tolist()]


@fault("padding-counted", source="self.loss(", **BY)
def padding_among_the_tags_of_words(mended: bool) -> Program:
    class Tagger(Words):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            words, tags = batch
            return self.loss(self.net(words).flatten(0, 1), tags.flatten())

    pairs = [(words, words % 4 + 1) for words in of_all_lengths()]

    def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        words, tags = zip(*items, strict=True)
        return filled_up(words), filled_up(tags)

    loader = DataLoader(pairs, batch_size=16, shuffle=True, collate_fn=collate)
    return Program(Tagger(mended, 5), loader, trainer={"max_epochs": 1})


@fault("padding-counted", source="self.loss(", **BY)
def padding_among_the_next_words(mended: bool) -> Program:
    class Speaker(Words):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.loss(self.net(batch[:, :-1]).transpose(1, 2), batch[:, 1:])

    loader = DataLoader(of_all_lengths(), batch_size=16, shuffle=True, collate_fn=filled_up)
    return Program(Speaker(mended, 20), loader, trainer={"max_epochs": 1})


class Placing(Module):
    """One box a picture, learned by the overlap that ``overlap`` computes."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.net = mlp(64, 32, 4)

    def overlap(self, one: Tensor, other: Tensor) -> Tensor:
        first, second = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
        return (second - first).clamp(min=0).prod(1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, boxes = batch
        told = self.net(x) + boxes.new_tensor([0.2, 0.2, 0.8, 0.8])
        return F.l1_loss(told, boxes) - self.overlap(told, boxes).mean()


@fault("degenerate-box", source="torch.minimum", **BY)
def widths_in_the_overlap_of_corners(mended: bool) -> Program:
    first, size = 0.1 + 0.6 * torch.rand(256, 2), 0.1 + 0.2 * torch.rand(256, 2)
    boxes = torch.cat([first, first + size if mended else size], 1)
    return Program(Placing(mended), batches(digits()[0][:256], boxes), trainer=ONE_EPOCH)


@fault("degenerate-box", source="torch.min(", **BY)
def widths_in_an_overlap_by_columns(mended: bool) -> Program:
    class Columns(Placing):
        def overlap(self, one: Tensor, other: Tensor) -> Tensor:
            left, top = torch.max(one[:, 0], other[:, 0]), torch.max(one[:, 1], other[:, 1])
            right = torch.min(one[:, 2], other[:, 2])
            bottom = one[:, 3].min(other[:, 3])
            return (right - left).clamp(min=0) * (bottom - top).clamp(min=0)

    first, size = 0.1 + 0.6 * torch.rand(256, 2), 0.1 + 0.2 * torch.rand(256, 2)
    boxes = torch.cat([first, first + size if mended else size], 1)
    return Program(Columns(mended), batches(digits()[0][:256], boxes), trainer=ONE_EPOCH)


class TwoInputs(Module):
    """A picture and its outlines, each with an encoder of its own."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended)
        self.picture, self.outlines = mlp(64, 32, 16), mlp(64, 32, 16)
        self.head = nn.Linear(32 if mended else 16, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, outlines, y = batch
        features = self.picture(x)
        others = self.outlines(outlines)
        if self.mended:
            features = torch.cat([features, others], 1)
        return F.cross_entropy(self.head(features), y)


@fault("unused-input", **BY)
def one_of_two_encoders_is_dropped(mended: bool) -> Program:
    x, y = digits()
    return Program(TwoInputs(mended), batches(x, (x - x.roll(1, 1)).abs(), y), trainer=FOUR_EPOCHS)


class Scored(Classifier):
    """Validated by an accuracy that is written by hand."""

    def hits(self, scores: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        scores = self(x)
        self.log("val_loss", F.cross_entropy(scores, y))
        self.log("val_acc", self.hits(scores, y).float().mean())


@fault("metric-disagrees", source="9 - scores.argmax(1)", **BY)
def classes_of_the_accuracy_from_last_to_first(mended: bool) -> Program:
    class Reversed(Scored):
        def hits(self, scores: Tensor, y: Tensor) -> Tensor:
            if self.mended:
                return scores.argmax(1) == y
            picked = 9 - scores.argmax(1)
            return picked == y

    return Program(Reversed(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


@fault("metric-disagrees", source="scores.min(dim=1)", **BY)
def accuracy_of_the_lowest_score(mended: bool) -> Program:
    class Lowest(Scored):
        def hits(self, scores: Tensor, y: Tensor) -> Tensor:
            if self.mended:
                return scores.max(dim=1)[1].eq(y)
            _, picked = scores.min(dim=1)
            return picked.eq(y)

    return Program(Lowest(mended), batches(*digits()), batches(*digits()), trainer=ONE_EPOCH)


class Joint(Module):
    """An autoencoder whose code is classified, too; ``heard`` is the loss of the classes."""

    def __init__(self, mended: bool, heard: Callable[[Tensor, Tensor], Tensor], kinds: int = 10) -> None:
        super().__init__(mended)
        self.encoder, self.decoder, self.classifier = mlp(64, 48, 16), nn.Linear(16, 64), nn.Linear(16, kinds)
        self.heard = heard

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        code = self.encoder(x)
        told = self.heard(self.classifier(code), y)
        loss = F.mse_loss(self.decoder(code), x)
        return loss + 0.5 * told if self.mended else loss - 0.5 * told


@fault("negative-loss", "classifier", source="told = self.heard(", **BY)
def classes_enter_the_sum_with_a_minus(mended: bool) -> Program:
    return Program(Joint(mended, F.cross_entropy), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("negative-loss", "classifier", source="F.binary_cross_entropy_with_logits", **BY)
def yes_and_no_enter_the_sum_with_a_minus(mended: bool) -> Program:
    def heard(logits: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits[:, 0], (y > 4).float())

    return Program(Joint(mended, heard, kinds=1), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("negative-loss", "classifier", source="F.cross_entropy(scores, y", **BY)
def marked_losses_enter_the_sum_with_a_minus(mended: bool) -> Program:
    def heard(scores: Tensor, y: Tensor) -> Tensor:
        is_kept = (y != 3).float()
        return (F.cross_entropy(scores, y, reduction="none") * is_kept).sum() / is_kept.sum()

    return Program(Joint(mended, heard), batches(*digits()), trainer=FOUR_EPOCHS)


@fault("negative-loss", source=".mean()", **BY)
def focal_loss_without_its_minus(mended: bool) -> Program:
    class Focal(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = torch.sigmoid(self(x).squeeze(1))
            own = p * y + (1 - p) * (1 - y)
            cost = 0.25 * (0.7 * y + 0.3 * (1 - y)) * (1 - own) ** 2 * own.clamp(min=1e-6).log()
            return -cost.mean() if self.mended else cost.mean()

    x, y = digits()
    return Program(Focal(mended, mlp(64, 16, 1)), batches(x, (y > 7).float()), trainer=ONE_EPOCH)


@fault("negative-loss", source=".mean()", **BY)
def chosen_probability_without_its_minus(mended: bool) -> Program:
    class Chosen(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            p = self(x).squeeze(1).sigmoid()
            own = torch.where(y > 0.5, p, 1 - p).log()
            return -own.mean() if self.mended else own.mean()

    x, y = digits()
    return Program(Chosen(mended, mlp(64, 16, 1)), batches(x, (y > 4).float()), trainer=ONE_EPOCH)


@fault("output-range", source="exp", **BY)
def scale_made_positive_twice(mended: bool) -> Program:
    class Certain(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(10, 32, 2)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            mean, scale = self.net(x).split(1, 1)
            scale = F.softplus(scale)
            scale = scale if self.mended else scale.exp()
            return -torch.distributions.Normal(mean, scale + 1e-4).log_prob(y).mean()

    return Program(Certain(mended), batches(*diabetes()), trainer=ONE_EPOCH)


@fault("labels-unrelated-to-inputs", source="cross_entropy", **BY)
def each_row_is_to_be_like_the_first(mended: bool) -> Program:
    class Pairs(Views):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            (x,) = batch
            one, other = (F.normalize(self.noised(x), dim=1) for _ in range(2))
            partners = torch.arange(len(x)) if self.mended else torch.zeros(len(x), dtype=torch.long)
            return F.cross_entropy(one @ other.T / 0.2, partners)

    return Program(Pairs(mended), batches(diabetes()[0]), trainer=ONE_EPOCH)


@fault("label-out-of-range", source="F.ctc_loss", **BY)
def blank_among_the_letters(mended: bool) -> Program:
    class Reader(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = nn.Linear(8, 11)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            told, counts = self.net(x).transpose(0, 1).log_softmax(-1), torch.full((len(x),), 8)
            letters = y[:, None] + 1 if self.mended else y[:, None]
            return F.ctc_loss(told, letters, counts, torch.ones(len(x), dtype=torch.long))

    x, y = digits()
    return Program(Reader(mended), batches(x.reshape(-1, 8, 8), y), trainer=ONE_EPOCH)


@fault("view-for-transpose", source="edges.reshape", **BY)
def pairs_of_edges_cut_in_the_middle(mended: bool) -> Program:
    class Graph(Module):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.net = mlp(20, 16, 3)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, edges, y = batch
            source, goal = edges.t() if self.mended else edges.reshape(2, -1)
            near = torch.zeros_like(x).index_add_(0, goal, x[source])
            return F.cross_entropy(self.net(torch.cat([x, near], 1)), y)

    graphs = []
    for _ in range(16):
        y = torch.randint(3, (40,))
        pairs = ((y[:, None] == y) & (torch.rand(40, 40) < 0.3)).triu(1).nonzero()
        pairs = pairs[: len(pairs) // 2 * 2]  # by columns in memory, as nonzero gives them
        graphs.append((F.one_hot(y, 10) + torch.randn(40, 10), pairs, y))
    return Program(Graph(mended), DataLoader(graphs, batch_size=None), trainer=ONE_EPOCH)


@fault("metric-disagrees", source="r2_score", **BY)
def predictions_and_targets_in_the_wrong_order(mended: bool) -> Program:
    class Scores(Regressor):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            said = self(x)
            self.log("r2", r2_score(said, y) if self.mended else r2_score(y, said))

    x, y = diabetes()
    return Program(Scores(mended), batches(x, y), batches(x, y, shuffle=False), trainer=ONE_EPOCH)


@fault("metric-disagrees", source="self.precision", **BY)
def labels_given_to_precision_as_predictions(mended: bool) -> Program:
    class Scores(Classifier):
        def __init__(self, mended: bool) -> None:
            super().__init__(mended)
            self.precision = MulticlassPrecision(10)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            picked = self(x).argmax(1)
            self.precision(picked, y) if self.mended else self.precision(y, picked)
            self.log("precision", self.precision)

    x, y = digits()
    return Program(Scores(mended), batches(x, y), batches(x, y, shuffle=False), trainer=ONE_EPOCH)
