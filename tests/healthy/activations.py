"""Zeros, ones and flat outputs that are right: sparse units, sure answers, gates, masks, heads that start at zero."""

import math
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils.checkpoint import checkpoint

from healthy.optimisation import diabetes
from healthy.parts import (
    Batch,
    Program,
    Supervised,
    digits,
    images,
    loader,
    mlp,
    pixels,
    pretrain,
    program,
    shuffled,
    standardized,
    table,
)


def classifier(net: nn.Module, epochs: int = 6, flat: bool = True, rate: float = 2e-3, **trainer: Any) -> Program:
    """The digits, by Adam, in batches of 32: 45 steps an epoch."""
    train, val = digits(batch_size=32, flat=flat)
    return Program(
        Supervised(net, F.cross_entropy, partial(Adam, lr=rate)), train, val, {"max_epochs": epochs, **trainer}
    )


# --- units at zero -------------------------------------------------------------------------------------------------


@program
def wide_net_with_idle_units() -> Program:
    """A third of 256 units came dead from the run before, off for every image; the others do the work."""
    net = mlp(64, 256, 10)
    with torch.no_grad():
        net[0].bias[:90] = -30.0
    train, val = digits(batch_size=32, flat=True)
    module = Supervised(net, F.cross_entropy, partial(AdamW, lr=2e-3, weight_decay=1e-2))
    return Program(module, train, val, {"max_epochs": 6})


class Penalised(Supervised):
    """An L1 penalty on what is active teaches units to rest."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        hidden = F.relu(self.net[0](x))
        loss = F.cross_entropy(self.net[2](hidden), y)
        self.log_dict({"loss": loss, "active": (hidden > 0).float().mean()})
        return loss + 3e-3 * hidden.sum(1).mean()


@program
def sparse_by_penalty() -> Program:
    train, _ = digits(batch_size=32, flat=True)
    module = Penalised(mlp(64, 128, 10), F.cross_entropy, partial(Adam, lr=3e-3))
    return Program(module, train, trainer={"max_epochs": 8})


class KSparse(LightningModule):
    """An autoencoder whose code keeps its eight largest values of 96."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 96), nn.Linear(96, 64)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x = batch[0]
        code = F.relu(self.encoder(x))
        kept = code.topk(8, -1)
        loss = F.mse_loss(self.decoder(torch.zeros_like(code).scatter(-1, kept.indices, kept.values)), x)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def k_sparse_autoencoder() -> Program:
    return Program(KSparse(), digits(batch_size=32, flat=True)[0], trainer={"max_epochs": 8})


class RareExperts(nn.Module):
    """Six experts with ReLU inside; two are asked about one image in fifty."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 6)
        self.experts = nn.ModuleList(mlp(64, 32, 10) for _ in range(6))
        with torch.no_grad():
            self.gate.bias[4:] = -3.0

    def forward(self, x: Tensor) -> Tensor:
        weight, choice = self.gate(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 10)
        for i, expert in enumerate(self.experts):
            rows = (choice == i).nonzero().flatten()
            if len(rows):
                out = out.index_copy(0, rows, weight[rows, None] * expert(x[rows]))
        return out


@program
def experts_that_are_rarely_asked() -> Program:
    return classifier(RareExperts(), rate=3e-3)


@program
def dropout_of_a_half() -> Program:
    """Half of every batch's activations are zero, twice, and not the same ones."""
    net = nn.Sequential(
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )
    return classifier(net, epochs=8)


class Masked(nn.Module):
    """ReLU over padded sequences: what lies behind the end is set to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(8, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, 8, 8)
        length = 5 + (torch.arange(len(x), device=x.device) % 4)
        there = (torch.arange(8, device=x.device) < length[:, None]).float()[..., None]
        hidden = F.relu(self.body(rows + torch.arange(8, device=x.device)[:, None] / 8)) * there
        out: Tensor = self.head(hidden.sum(1))
        return out


@program
def padding_set_to_zero() -> Program:
    return classifier(Masked(), epochs=8, rate=5e-3)


class OnDeadFeatures(Supervised):
    """A frozen body, half of whose channels died in its own training; the head makes do with the others."""

    def __init__(self) -> None:
        body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
        x, y = images()
        pretrain(nn.Sequential(body, nn.Linear(64, 10)), x.flatten(1), y)
        with torch.no_grad():
            body[0].bias[::2] = -50.0
            body[2].bias[::2] = -50.0
        super().__init__(nn.Linear(64, 10), F.cross_entropy, partial(Adam, lr=5e-3))
        self.body = body.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.body(x)
        out: Tensor = self.net(features)
        return out


@program
def frozen_backbone_with_dead_units() -> Program:
    train, val = digits(batch_size=32, flat=True)
    return Program(OnDeadFeatures(), train, val, {"max_epochs": 5})


class Recomputed(nn.Module):
    """In-place ReLU whose activations are computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 64)
        self.block = nn.Sequential(nn.Linear(64, 64), nn.ReLU(inplace=True), nn.Linear(64, 64), nn.ReLU(inplace=True))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(checkpoint(self.block, self.stem(x), use_reentrant=False))
        return out


@program
def relu_under_checkpointing() -> Program:
    return classifier(Recomputed())


@program
def compiled_part() -> Program:
    """The hidden layers are one compiled graph."""
    body = torch.compile(mlp(64, 64, 64), backend="aot_eager")
    return classifier(nn.Sequential(body, nn.ReLU(), nn.Linear(64, 10)))


@program
def many_counts_are_zero() -> Program:
    """Two counts in three are zero, and a ReLU on top is what fits them: for some batches it is nearly all zero."""
    x = torch.randn(1600, 6)
    y = F.relu(x @ torch.tensor([1.0, -1.0, 0.5, 0.0, 0.0, 0.5]) - 0.6 + 0.1 * torch.randn(1600))[:, None]
    net = nn.Sequential(*mlp(6, 32, 1), nn.ReLU())
    return Program(
        Supervised(net, F.mse_loss, partial(Adam, lr=5e-3)), loader(x, y, batch_size=32), trainer={"max_epochs": 7}
    )


class Mobile(nn.Sequential):
    """Depthwise convolutions, ReLU6, hard-swish and a hard-sigmoid gate, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU6(inplace=True),
            nn.Conv2d(24, 24, 3, 2, 1, groups=24), nn.BatchNorm2d(24), nn.Hardswish(inplace=True),
            SqueezeExcite(24, nn.Hardsigmoid()), nn.Conv2d(24, 48, 1), nn.BatchNorm2d(48), nn.ReLU6(inplace=True),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 10),
        )  # fmt: skip


class SqueezeExcite(nn.Module):
    """A gate for each channel, from the mean of all of them."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*mlp(channels, channels // 4, channels), gate)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.net(x.mean((2, 3)))[:, :, None, None]
        return out


@program
def mobile_net() -> Program:
    return classifier(Mobile(), flat=False, rate=5e-3)


@program
def squeeze_and_excitation() -> Program:
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), SqueezeExcite(32, nn.Sigmoid()),
        nn.Conv2d(32, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), SqueezeExcite(32, nn.Sigmoid()),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip
    return classifier(net, flat=False, rate=2e-3)


class Boxes(LightningModule):
    """One box an image, learnt by its overlap with the true one; that of most anchors with most boxes is zero."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 96, 4)
        corners = torch.cartesian_prod(torch.arange(0.0, 8, 2), torch.arange(0.0, 8, 2))
        self.register_buffer("anchors", torch.cat([corners, corners + 2], 1))

    def overlap(self, a: Tensor, b: Tensor) -> Tensor:
        low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
        shared = (high - low).clamp(min=0).prod(-1)
        areas = [(one[..., 2:] - one[..., :2]).clamp(min=0).prod(-1) for one in (a, b)]
        return shared / (areas[0] + areas[1] - shared + 1e-6)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, box = batch
        guess = self.net(x)
        covered = self.overlap(self.get_buffer("anchors"), box[:, None])
        weight = 1 + covered.max(1).values
        overlap = self.overlap(guess, box)
        loss = (weight * (1 - overlap)).mean() + F.smooth_l1_loss(guess, box)
        self.log_dict({"loss": loss, "overlap": overlap.mean()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-3)


@program
def boxes_that_do_not_overlap() -> Program:
    """The box around all bright pixels of an image in the upper left quarter of a field."""
    x = pixels()[0][:, 0]
    bright = x > 0.6
    spans = []
    for dim in (1, 2):
        line = bright.any(3 - dim).float()
        spans.append((line.argmax(1), 8 - line.flip(1).argmax(1)))
    box = torch.stack([spans[1][0], spans[0][0], spans[1][1], spans[0][1]], 1).float() / 2
    return Program(Boxes(), loader(x.flatten(1) - 0.5, box, batch_size=32), trainer={"max_epochs": 6})


class Chooses(nn.Module):
    """One of eight codes for each quarter of an image, drawn by Gumbel-softmax: one-hot by design."""

    def __init__(self) -> None:
        super().__init__()
        self.choose, self.head = mlp(16, 64, 32), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        quarters = x.view(-1, 4, 16)
        codes = F.gumbel_softmax(self.choose(quarters).view(-1, 4, 4, 8), tau=0.5, hard=True)
        out: Tensor = self.head(codes.flatten(1))
        return out


@program
def choices_drawn_by_gumbel() -> Program:
    return classifier(Chooses(), epochs=9, rate=5e-3)


# --- units at their limits -----------------------------------------------------------------------------------------


@program
def sure_of_two_classes() -> Program:
    """A sigmoid and its likelihood, learnt until nearly every answer is 0 or 1, and right."""
    x, y = table("breast_cancer")
    net = nn.Sequential(*mlp(30, 32, 1), nn.Sigmoid(), nn.Flatten(0))
    module = Supervised(net, F.binary_cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(x, y.float(), batch_size=16), trainer={"max_epochs": 11})


@program
def sure_of_ten_classes() -> Program:
    """A softmax inside the net and the likelihood outside: on top it says 1 or 0, and is right."""
    train, val = digits(batch_size=32, flat=True)
    net = nn.Sequential(*mlp(64, 128, 10), nn.Softmax(-1))
    module = Supervised(net, lambda p, y: F.nll_loss(p.clamp_min(1e-7).log(), y), partial(Adam, lr=5e-3))
    return Program(module, train, val, {"max_epochs": 8})


@program
def labels_that_never_occur() -> Program:
    """Twelve labels, of which two have no example: their sigmoids say 0, and are right."""
    x, y = images()
    net = nn.Sequential(*mlp(64, 64, 12), nn.Sigmoid())
    module = Supervised(net, F.binary_cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(x.flatten(1), F.one_hot(y, 12).float(), batch_size=32), trainer={"max_epochs": 7})


class Steering(LightningModule):
    """A policy that steers full left or full right, for nothing is better far from the goal; its output is a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(*mlp(2, 32, 1, act=nn.Tanh), nn.Tanh())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        place, speed = batch[0].unbind(1)
        cost = torch.zeros((), device=self.device)
        force = place
        for _ in range(12):
            force = self.policy(torch.stack([place, speed], 1)).squeeze(1)
            speed = (0.8 * speed + 0.3 * force).clamp(-1, 1)
            place = place + speed
            cost = cost + place.abs().mean() / 12
        self.log_dict({"cost": cost, "full": (force.abs() > 0.95).float().mean()})
        return cost

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2)


@program
def full_left_or_full_right() -> Program:
    return Program(Steering(), loader(torch.randn(1280, 2) * 4, batch_size=64), trainer={"max_epochs": 10})


@program
def pixels_black_or_white() -> Program:
    """An autoencoder of thresholded images: behind its sigmoid nearly every pixel is 0 or 1."""
    x = (pixels()[0].flatten(1) > 0.5).float()
    net = nn.Sequential(*mlp(64, 96, 24, 96, 64), nn.Sigmoid())
    module = Supervised(net, F.binary_cross_entropy, partial(Adam, lr=5e-3))
    return Program(module, loader(x, x, batch_size=32), trainer={"max_epochs": 7})


class LongMemory(nn.Module):
    """An LSTM, written out, whose gates of forgetting start wide open (a bias of 4): it has to remember."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.gates, self.head = nn.Linear(8 + width, 4 * width), nn.Linear(width, 10)
        nn.init.constant_(self.gates.bias[width : 2 * width], 4.0)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        hidden = memory = x.new_zeros(len(x), self.width)
        for row in x.view(-1, 8, 8).unbind(1):
            read, keep, write, new = self.gates(torch.cat([row, hidden], 1)).chunk(4, 1)
            memory = torch.sigmoid(keep) * memory + torch.sigmoid(write) * torch.tanh(new)
            hidden = torch.sigmoid(read) * torch.tanh(memory)
        out: Tensor = self.head(hidden)
        return out


@program
def gates_that_start_open() -> Program:
    return classifier(LongMemory(), epochs=5, rate=1e-2)


class Highway(nn.Module):
    """Gates that start shut (a bias of -3): at first each layer hands its input on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -3.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, F.relu(self.body(x)), torch.sigmoid(self.gate(x)))


@program
def highway_that_starts_shut() -> Program:
    return classifier(nn.Sequential(nn.Linear(64, 48), *(Highway(48) for _ in range(6)), nn.Linear(48, 10)), rate=3e-3)


@program
def gated_linear_units() -> Program:
    net = nn.Sequential(nn.Linear(64, 96), nn.GLU(), nn.Linear(48, 96), nn.GLU(), nn.Linear(48, 10))
    return classifier(net, rate=5e-3)


@program
def self_normalising_net() -> Program:
    """SELU, whose left end is flat by design."""
    net = mlp(64, *[48] * 5, 10, act=nn.SELU)
    for layer in net[::2]:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        nn.init.zeros_(layer.bias)
    return classifier(net)


class Pointer(LightningModule):
    """Look a value up by its key: the attention that does it well is at one place, and nowhere else."""

    def __init__(self, keys: int = 12, width: int = 32) -> None:
        super().__init__()
        self.ask, self.know = nn.Embedding(keys, width), nn.Embedding(keys, width)
        self.read = nn.Embedding(10, width)
        self.head = nn.Linear(width, 10)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        keys, values, asked, answer = batch
        scores = (self.know(keys) @ self.ask(asked)[:, :, None]).squeeze(2) / keys.shape[1] ** 0.5
        weights = scores.softmax(-1)
        loss = F.cross_entropy(self.head((weights[..., None] * self.read(values)).sum(1)), answer)
        self.log_dict({"loss": loss, "sharpness": weights.max(-1).values.mean()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2)


@program
def attention_at_one_place() -> Program:
    rows = 3200
    keys = torch.rand(rows, 12).argsort(1)
    values = torch.randint(10, (rows, 12))
    place = torch.randint(12, (rows, 1))
    asked, answer = keys.gather(1, place).squeeze(1), values.gather(1, place).squeeze(1)
    return Program(Pointer(), loader(keys, values, asked, answer, batch_size=64), trainer={"max_epochs": 7})


class CausalAttention(nn.Module):
    """Attention as a formula, with a causal mask and a mask of padding: many rows see one place only."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(1, width), nn.Linear(width, 3 * width), nn.Linear(width, 10)
        self.place = nn.Parameter(0.1 * torch.randn(16, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.view(-1, 8, 8)[:, ::2, ::2].reshape(-1, 16, 1)
        length = 10 + torch.arange(len(x), device=x.device) % 7
        padding = torch.arange(16, device=x.device) >= length[:, None]
        hidden = self.embed(tokens) + self.place
        q, k, v = self.qkv(hidden).chunk(3, -1)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(torch.ones(16, 16, device=x.device).triu(1).bool(), -math.inf)
        scores = scores.masked_fill(padding[:, None, :], -math.inf)
        mixed = F.gelu(hidden + scores.softmax(-1) @ v) * (~padding)[..., None]
        out: Tensor = self.out(mixed.sum(1))
        return out


@program
def attention_under_two_masks() -> Program:
    return classifier(CausalAttention(), epochs=8, rate=1e-2)


# --- outputs that are nearly the same ------------------------------------------------------------------------------


class ReZero(nn.Module):
    """Residual branches whose weight starts at zero, as does the head: at first the output is the same for all."""

    def __init__(self, width: int = 48, depth: int = 8) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(mlp(width, width, width) for _ in range(depth))
        self.scales = nn.Parameter(torch.zeros(depth))
        self.head = nn.Linear(width, 10)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for scale, block in zip(self.scales, self.blocks, strict=True):
            x = x + scale * block(x)
        out: Tensor = self.head(x)
        return out


@program
def head_and_branches_start_at_zero() -> Program:
    """Warm-up from a rate of zero keeps it so for some steps."""
    train, val = digits(batch_size=32, flat=True)
    warm = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: min(1.0, step / 40))
    module = Supervised(ReZero(), F.cross_entropy, partial(AdamW, lr=3e-3), warm, "step")
    return Program(module, train, val, {"max_epochs": 6})


@program
def nearly_constant_target() -> Program:
    """Targets of 1000 give or take one: the predictions differ in the fourth digit, as they should."""
    x, y = diabetes()
    net = mlp(10, 32, 1)
    nn.init.constant_(net[2].bias, 1000.0)
    module = Supervised(net, F.mse_loss, partial(Adam, lr=1e-2))
    return Program(module, loader(x, 1000 + standardized(y), batch_size=32), trainer={"max_epochs": 12})


@program
def prior_comes_first() -> Program:
    """One image in ten is positive: the net first says "one in ten" to all, and only then tells them apart."""
    x, y = images()
    net = nn.Sequential(*mlp(64, 32, 1), nn.Flatten(0))
    with torch.no_grad():
        net[2].weight.mul_(0.01)
        net[2].bias.fill_(-2.2)
    module = Supervised(net, F.binary_cross_entropy_with_logits, partial(SGD, lr=0.05, momentum=0.9))
    return Program(module, loader(x.flatten(1), (y == 8).float(), batch_size=32), trainer={"max_epochs": 6})


class Taste(LightningModule):
    """Matrix factorisation: two tables of embeddings, and no other layer."""

    def __init__(self, users: int, things: int, width: int = 8) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(users, width), nn.Embedding(things, width)
        for each in (self.users, self.things):
            nn.init.normal_(each.weight, std=0.1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        user, thing, rating = batch
        loss = F.mse_loss((self.users(user) * self.things(thing)).sum(1), rating)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-2)


@program
def nothing_but_embeddings() -> Program:
    """Pixels of images as ratings: image by place."""
    x = images()[0].flatten(1)[:200]
    user, thing = torch.meshgrid(torch.arange(200), torch.arange(64), indexing="ij")
    train = loader(user.flatten(), thing.flatten(), x.flatten(), batch_size=128)
    return Program(Taste(200, 64), train, trainer={"max_epochs": 4})


@program
def one_sample_a_batch() -> Program:
    """With one row there is nothing for an output to differ from."""
    x, y = shuffled(*table("wine"))
    module = Supervised(mlp(13, 16, 3), F.cross_entropy, partial(SGD, lr=0.02))
    return Program(module, loader(x, y, batch_size=1), trainer={"max_epochs": 2})


class ImagePrior(LightningModule):
    """One noisy image, one fixed noise as input: the same batch for ever, and an output that cannot but be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(8, 24, 3, padding=1), nn.BatchNorm2d(24), nn.LeakyReLU(), nn.Upsample(scale_factor=2),
            nn.Conv2d(24, 24, 3, padding=1), nn.BatchNorm2d(24), nn.LeakyReLU(), nn.Conv2d(24, 1, 1), nn.Sigmoid(),
        )  # fmt: skip
        self.register_buffer("noise", torch.randn(1, 8, 8, 8))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = F.mse_loss(self.net(self.get_buffer("noise")), batch[0])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2)


@program
def one_image_from_fixed_noise() -> Program:
    """Four digits side by side."""
    x = pixels()[0][:4, 0]
    image = torch.cat([torch.cat([x[0], x[1]], 1), torch.cat([x[2], x[3]], 1)])[None, None]
    return Program(ImagePrior(), loader(image, batch_size=1), trainer={"max_epochs": 150})


class OneClass(LightningModule):
    """Deep SVDD: all usual images are drawn to one point, so that the others stand off; without biases not all do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 48, bias=False), nn.LeakyReLU(), nn.Linear(48, 16, bias=False))
        x, y = images()
        self.usual, self.other = x.flatten(1)[y == 0], x.flatten(1)[y == 7]
        with torch.no_grad():
            self.register_buffer("centre", self.net(self.usual).mean(0))

    def distance(self, x: Tensor) -> Tensor:
        distance: Tensor = (self.net(x) - self.get_buffer("centre")).square().sum(1)
        return distance

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.distance(batch[0]).mean()
        self.log("loss", loss)
        return loss

    def on_train_epoch_end(self) -> None:
        with torch.no_grad():
            self.log("other_over_usual", self.distance(self.other).mean() / self.distance(self.usual).mean())

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=1e-3, weight_decay=1e-2)


@program
def one_class_drawn_to_a_point() -> Program:
    module = OneClass()
    return Program(module, loader(module.usual, batch_size=16), trainer={"max_epochs": 12})


class Margin(LightningModule):
    """Pairs of images: the loss is exactly zero for all that lie far enough apart, which in the end most do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*mlp(64, 64, 16))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        code = F.normalize(self.net(x), dim=1)
        near = code @ code.T
        same = y[:, None] == y
        loss = ((1 - near) * same).mean() + 4 * (F.relu(near - 0.3) * ~same).mean()
        self.log_dict({"loss": loss, "apart": ((near < 0.3) | same).float().mean()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def contrastive_with_a_margin() -> Program:
    return Program(Margin(), digits(batch_size=32, flat=True)[0], trainer={"max_epochs": 6})


@program
def tanh_in_bfloat16() -> Program:
    """Eight bits of mantissa: numbers near 1 are 1."""
    return classifier(mlp(64, 64, 48, 10, act=nn.Tanh), precision="bf16-mixed")
