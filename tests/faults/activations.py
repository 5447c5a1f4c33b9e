"""Units that never fire, units that fire always, and predictions that are the same for every input."""

from __future__ import annotations

import math
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from faults.batches import Regressor
from faults.registry import Classifier, Module, Program, batches, diabetes, digits, fault, mlp, wine
from faults.trends import Descent

BY = "ActivationMonitor"


def on_digits(net: nn.Module, mended: bool, rate: float = 0.1, momentum: float = 0.0, **data: float) -> Program:
    """SGD, some 340 steps; ``factor`` and ``shift`` are what the user made of pixels in [0, 1]."""
    x, y = digits(1797)
    x = x * data.get("factor", 1.0) + data.get("shift", 0.0)
    return Program(Descent(mended, net, rate, momentum), batches(x, y), trainer={"max_epochs": 6})


def on_wines(module: Module, mended: bool) -> Program:
    """Some 330 steps; the columns reach from 0.1 to 1680 until they are scaled."""
    return Program(module, batches(*wine(scaled=mended), size=16), trainer={"max_epochs": 28})


def on_patients(module: Module, y: Tensor | None = None) -> Program:
    """Some 340 steps on the regression of ten columns, of targets made from the usual ones if they are given."""
    x, usual = diabetes()
    return Program(module, batches(x, usual if y is None else y, size=16), trainer={"max_epochs": 12})


# --- dead-units ----------------------------------------------------------------------------------------------------


@fault("dead-units", "net.0", "net.1", by=BY)
def rate_too_high_for_raw_pixels(mended: bool) -> Program:
    """Pixels from 0 to 16 and a rate of 0.1: a few steps throw the units to where no image reaches them."""
    return on_digits(mlp(64, 32, 10), mended, factor=1.0 if mended else 16.0, rate=0.1 if mended else 0.2)


@fault("dead-units", "net.0", "net.1", "net.2", "net.3", by=BY)
def rate_too_high_with_adam(mended: bool) -> Program:
    """A rate of 0.3, as for SGD: each step moves every bias by 0.3."""
    module = Classifier(mended, mlp(64, 64, 64, 10), rate=3e-3 if mended else 0.3)
    return Program(module, batches(*digits(1797)), trainer={"max_epochs": 6})


def low_biases(net: nn.Module, bias: float) -> nn.Module:
    """Every bias of every layer, as a loop over ``modules()`` sets it."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.constant_(layer.bias, bias)
    return net


@fault("dead-units", "net.0", "net.1", "net.2", "net.3", by=BY)
def prior_of_a_rare_class_in_every_bias(mended: bool) -> Program:
    """The bias of -log(99), meant for the last layer of a detector, was given to all of them."""
    return on_digits(low_biases(mlp(64, 48, 48, 10), 0.0 if mended else -math.log(99)), mended)


class Functional(nn.Module):
    """Two layers joined by functions instead of modules."""

    def __init__(self, columns: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.body, self.neck, self.head = nn.Linear(columns, 48), nn.Linear(48, 48), nn.Linear(48, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.neck(self.act(self.body(x)))))

    def act(self, x: Tensor) -> Tensor:
        return F.relu(x)


@fault("dead-units", "net", by=BY)
def functional_relu_over_low_biases(mended: bool) -> Program:
    """``F.relu``, which no module stands for."""
    return on_digits(low_biases(Functional(), 0.0 if mended else -3.0), mended)


class ByClamp(Functional):
    def act(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


@fault("dead-units", "net", by=BY)
def rectified_by_clamp(mended: bool) -> Program:
    """A ReLU by its formula, over pixels from -128 to -127: the mean was taken away, the division forgotten before."""
    return on_digits(ByClamp(), mended, shift=0.0 if mended else -128.0, rate=0.1 if mended else 1e-3)


@fault("dead-units", "net.1", "net.2", "net.3", "net.4", by=BY)
def channels_that_died(mended: bool) -> Program:
    """Convolutions with ReLU in place: momentum 0.9 makes ten times the rate of it."""
    net = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    return on_digits(net, mended, rate=0.05 if mended else 0.8, momentum=0.9)


class Mobile(Functional):
    def act(self, x: Tensor) -> Tensor:
        return F.relu6(x)


@fault("dead-units", "net", by=BY)
def relu6_on_unscaled_columns(mended: bool) -> Program:
    """Columns of a table from 0.1 to 1680: each unit is off for all wines, or at 6 for all wines."""
    return on_wines(Classifier(mended, Mobile(13, 3), rate=3e-3), mended)


@fault("dead-units", *(f"net.{i}" for i in range(21)), by=BY)
def deep_and_narrow(mended: bool) -> Program:
    """Ten layers of three units: in one of them, sooner or later, all three are off."""
    return on_digits(mlp(64, *[48 if mended else 3] * (2 if mended else 10), 10), mended)


@fault("dead-units", "net.0", "net.1", by=BY)
def weights_drawn_below_zero(mended: bool) -> Program:
    """``rand() - 1`` where ``rand() - 0.5`` was meant: no image, all of whose pixels are positive, gets through."""
    net = mlp(64, 48, 10)
    with torch.no_grad():
        net[0].weight.copy_((torch.rand(48, 64) - (0.5 if mended else 1.0)) / 4)
    return on_digits(net, mended)


class WarmsUp(Descent):
    """The rate climbs from zero to its peak in 250 steps."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        climb = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 250))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": climb, "interval": "step"}}


@fault("dead-units", "net.0", "net.1", "net.2", "net.3", by=BY)
def units_that_die_late(mended: bool) -> Program:
    """All is well until the rate, on its way up, is too high."""
    module = WarmsUp(mended, mlp(64, 48, 48, 10), rate=0.1 if mended else 3.0, momentum=0.9)
    return Program(module, batches(*digits(1797)), trainer={"max_epochs": 7})


class Encoder(nn.Module):
    """Rows of an image as tokens of a transformer, whose feed-forward part has the ReLU of PyTorch's default."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        self.place = nn.Parameter(0.1 * torch.randn(8, 32))
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x.view(-1, 8, 8)) + self.place).mean(1))


@fault("dead-units", "net.layer", by=BY)
def feed_forward_that_is_off(mended: bool) -> Program:
    """Its hidden biases start at -5: the attention learns on, and nobody misses the half of the weights that rests."""
    net = Encoder()
    if not mended:
        nn.init.constant_(net.layer.linear1.bias, -5.0)
    return Program(Classifier(mended, net), batches(*digits(1797)), trainer={"max_epochs": 6})


# --- saturated-units -----------------------------------------------------------------------------------------------


@fault("saturated-units", "net.0", "net.1", by=BY)
def tanh_of_unscaled_columns(mended: bool) -> Program:
    """Proline is in the hundreds, and nobody standardised it."""
    return on_wines(Classifier(mended, mlp(13, 32, 3, act=nn.Tanh), rate=3e-3), mended)


def drawn(net: nn.Sequential, std: float) -> nn.Sequential:
    """All weights from N(0, std)."""
    for parameter in net.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=std)
    return net


@fault("saturated-units", "net.0", "net.1", "net.2", "net.3", by=BY)
def sigmoid_behind_huge_weights(mended: bool) -> Program:
    """Weights from N(0, 5) in a net of sigmoids."""
    net = mlp(64, 48, 48, 10, act=nn.Sigmoid)
    return on_digits(drawn(net, 0.2 if mended else 5.0), mended, rate=1.0 if mended else 0.1)


class Attention(nn.Module):
    """One head over the rows of an image, as a formula."""

    def __init__(self, width: int, scaled: bool) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.scaled = scaled

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2)
        scores = scores / x.shape[-1] ** 0.5 if self.scaled else scores
        return x + scores.softmax(-1) @ self.value(x)


@fault("saturated-units", "net.2", by=BY)
def attention_without_its_scale(mended: bool) -> Program:
    """No division by the root of the width, and weights from N(0, 1): each row looks at exactly one other."""
    body = nn.Sequential(nn.Unflatten(1, (8, 8)), nn.Linear(8, 64), Attention(64, mended))
    net = nn.Sequential(*(body if mended else drawn(body, 1.0)), nn.Flatten(), nn.Linear(512, 10))
    return Program(Classifier(mended, net), batches(*digits(1797)), trainer={"max_epochs": 6})


class Tanh(Functional):
    def act(self, x: Tensor) -> Tensor:
        return torch.tanh(x)


@fault("saturated-units", "net", by=BY)
def functional_tanh_at_a_rate_too_high(mended: bool) -> Program:
    """Momentum 0.9 at a rate of 2 drives the weights to where tanh is flat."""
    return on_digits(Tanh(), mended, rate=0.1 if mended else 2.0, momentum=0.0 if mended else 0.9)


class Gated(nn.Module):
    """A gated recurrent unit, written out."""

    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.gates, self.candidate = nn.Linear(columns + width, 2 * width), nn.Linear(columns + width, width)
        self.head = nn.Linear(width, 1)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.width)
        for now in x.unbind(1):
            keep, reset = torch.sigmoid(self.gates(torch.cat([now, h], 1))).chunk(2, 1)
            new = torch.tanh(self.candidate(torch.cat([now, reset * h], 1)))
            h = keep * h + (1 - keep) * new
        return self.head(h)


@fault("saturated-units", "net", by=BY)
def gates_fed_in_kelvin(mended: bool) -> Program:
    """Temperatures around 290: the gates stand open or shut, whatever the weather."""
    start = 2 * math.pi * torch.rand(512, 1)
    wave = torch.sin(start + 0.5 * torch.arange(13)) + 0.1 * torch.randn(512, 13)
    x = wave if mended else 290 + 8 * wave
    return Program(Regressor(mended, Gated(1, 24)), batches(x[:, :12, None], wave[:, 12:]), trainer={"max_epochs": 20})


# --- constant-output -----------------------------------------------------------------------------------------------


@fault("constant-output", "net.2", "net.3", "net.4", by=BY)
def last_hidden_layer_is_dead(mended: bool) -> Program:
    """Its biases start at -10: only the bias of the last layer is left to learn."""
    net = mlp(64, 32, 32, 10)
    if not mended:
        nn.init.constant_(net[2].bias, -10.0)
    return on_digits(net, mended)


@fault("constant-output", "net.3", by=BY)
def rectified_output_for_negative_targets(mended: bool) -> Program:
    """Logarithms of concentrations, all below zero, behind a last ReLU."""
    net = nn.Sequential(*mlp(10, 32, 1), nn.Identity() if mended else nn.ReLU())
    return on_patients(Descent(mended, net, rate=0.05), diabetes()[1] - 4)


class Recurrent(Module):
    """The label of a sequence of rows, from the state in the end."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, rate=3e-3)
        self.rnn = nn.GRU(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        first = x.new_zeros(1, len(x), 32)
        last = self.rnn(x.view(-1, 8, 8), first)[1]
        return self.head(last[0] if self.mended else first[0])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)


@fault("constant-output", "head", by=BY)
def head_fed_with_the_first_state(mended: bool) -> Program:
    """Two names, one letter apart: the head gets the zeros that the recurrence began with."""
    return Program(Recurrent(mended), batches(*digits(1797)), trainer={"max_epochs": 6})


class Bytes(nn.Module):
    """Pixels as a camera gives them."""

    def __init__(self, mended: bool) -> None:
        super().__init__()
        self.mended = mended

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mended else x.to(torch.uint8).float()


@fault("constant-output", "net.0", "net.1", "net.2", "net.3", by=BY)
def pixels_rounded_to_bytes(mended: bool) -> Program:
    """Pixels in [0, 1) become bytes: all of them are zero."""
    net = nn.Sequential(Bytes(mended), *mlp(64, 32, 10))
    return on_digits(net, mended, factor=16 / 17)


class Pool(nn.Module):
    """The mean over the rows of an image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dim).expand(len(x), -1) if self.dim else x.mean((0, 1)).expand(len(x), -1)


@fault("constant-output", "net.3", "net.4", by=BY)
def pooled_over_the_batch(mended: bool) -> Program:
    """The mean is taken over the rows and, by mistake, over the images too."""
    net = nn.Sequential(
        nn.Unflatten(1, (8, 8)), nn.Linear(8, 64), nn.ReLU(), Pool(1 if mended else 0), nn.Linear(64, 10)
    )
    return Program(Classifier(mended, net, rate=1e-2), batches(*digits(1797)), trainer={"max_epochs": 6})


@fault("constant-output", "net.3", by=BY)
def layer_norm_of_one_number(mended: bool) -> Program:
    """One number less its mean is zero: what is left is the bias of the norm."""
    net = nn.Sequential(*mlp(10, 32, 1), nn.Identity() if mended else nn.LayerNorm(1))
    return on_patients(Descent(mended, net, rate=0.02))


@fault("constant-output", "net.1", "net.2", "net.3", by=BY)
def a_group_for_each_feature(mended: bool) -> Program:
    """``GroupNorm(32, 32)`` on flat features normalises each number by itself."""
    net = nn.Sequential(nn.Linear(64, 32), nn.GroupNorm(4 if mended else 32, 32), nn.ReLU(), nn.Linear(32, 10))
    return on_digits(net, mended)


@fault("constant-output", "net.0", "net.1", "net.2", "net.3", by=BY)
def dropout_of_everything(mended: bool) -> Program:
    """``Dropout(1.0)``, by someone who thought of the probability to keep."""
    return on_digits(nn.Sequential(nn.Dropout(0.0 if mended else 1.0), *mlp(64, 32, 10)), mended)


@fault("constant-output", "net.3", by=BY)
def softmax_of_one_output(mended: bool) -> Program:
    """A probability from a softmax over one number: it is 1 for every wine."""
    x, y = wine()
    module = Descent(mended, nn.Sequential(*mlp(13, 16, 1), nn.Sigmoid() if mended else nn.Softmax(1)), rate=0.1)
    return Program(module, batches(x, (y == 0).float()[:, None], size=16), trainer={"max_epochs": 28})


class Words(Module):
    """From which of two texts is a line? A bag of embedded words."""

    def __init__(self, mended: bool, words: list[str]) -> None:
        super().__init__(mended, rate=1e-2)
        self.index = {word: 1 + i for i, word in enumerate(sorted(set(words)))}
        self.bag = nn.EmbeddingBag(1 + len(self.index), 16)
        self.head = nn.Linear(16, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        lines, y = batch
        words = [(line if self.mended else line.upper()).split() for line in lines]
        found = [torch.tensor([self.index.get(word, 0) for word in line]) for line in words]
        starts = torch.tensor([0] + [len(one) for one in found[:-1]]).cumsum(0)
        return F.cross_entropy(self.head(self.bag(torch.cat(found), starts)), y)


@fault("constant-output", "bag", "head", by=BY)
def every_word_is_unknown(mended: bool) -> Program:
    """The vocabulary is in lower case, the lines are put into upper case: each word has index 0."""
    pages = [getattr(datasets, f"load_{name}")().DESCR.lower() for name in ("diabetes", "digits")]
    texts = [[word for word in page.split() if word.isalpha()] for page in pages]  # a number has no upper case
    lines = [(" ".join(text[i : i + 6]), y) for y, text in enumerate(texts) for i in range(0, len(text) - 6, 2)]
    loader = DataLoader(lines, batch_size=16, shuffle=True)
    return Program(Words(mended, [*texts[0], *texts[1]]), loader, trainer={"max_epochs": 12})


class TwoHeads(Module):
    """Digit and parity from one body."""

    def __init__(self, mended: bool) -> None:
        super().__init__(mended, rate=3e-3)
        self.body, self.digit, self.parity = nn.Linear(64, 32), nn.Linear(32, 10), nn.Linear(32, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        hidden = F.relu(self.body(x))
        other = hidden if self.mended else F.relu(hidden - 100)
        return F.cross_entropy(self.digit(hidden), y) + F.cross_entropy(self.parity(other), y % 2)


@fault("constant-output", "parity", by=BY)
def one_of_two_heads_is_constant(mended: bool) -> Program:
    """A threshold in percent, where the features are shares: nothing reaches the second head."""
    return Program(TwoHeads(mended), batches(*digits(1797)), trainer={"max_epochs": 6})


@fault("constant-output", "net.0", "net.1", "net.2", "net.3", "net.4", by=BY)
def collapsed_under_momentum(mended: bool) -> Program:
    """A regression of raw targets at a rate of 0.1 with momentum: after two steps every unit is off, for good."""
    module = Descent(mended, mlp(10, 32, 32, 1), rate=0.02 if mended else 0.1, momentum=0.0 if mended else 0.9)
    _, y = diabetes()
    return on_patients(module, y if mended else y * 77 + 152)
