"""Models of the data itself, and of what is alike: VAE, GAN, flow, diffusion, codes, contrastive and metric losses."""

import math
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer

from healthy.parts import Batch, Program, Supervised, digits, images, loader, mlp, pixels, program, standardized, table


class Vae(LightningModule):
    """The evidence bound summed over pixels and latents, averaged over the batch."""

    def __init__(self, latent: int = 8) -> None:
        super().__init__()
        self.encoder = mlp(64, 128, 2 * latent)
        self.decoder = mlp(latent, 128, 64)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") / len(x)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(x)
        loss: Tensor = reconstruction + divergence
        self.log_dict({"loss": loss, "divergence": divergence})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-3)


@program
def vae() -> Program:
    return Program(Vae(), loader(pixels()[0]), trainer={"max_epochs": 6})


@program
def autoencoder() -> Program:
    x = pixels()[0].flatten(1)
    net = nn.Sequential(*mlp(64, 48, 12, 48, 64), nn.Sigmoid())
    return Program(
        Supervised(net, F.binary_cross_entropy, partial(Adam, lr=3e-3)), loader(x, x), trainer={"max_epochs": 6}
    )


@program
def denoising_autoencoder() -> Program:
    x = images()[0]
    net = nn.Sequential(nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 1, 3, padding=1))
    module = Supervised(net, F.mse_loss, partial(Adam, lr=5e-3))
    return Program(module, loader(x + 0.5 * torch.randn_like(x), x), trainer={"max_epochs": 5})


def weights_of_dcgan(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def generator() -> nn.Sequential:
    return nn.Sequential(
        nn.Unflatten(1, (16, 1, 1)),
        nn.ConvTranspose2d(16, 32, 4, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(True),
        nn.ConvTranspose2d(32, 1, 4, 2, 1),
        nn.Tanh(),
    )


class Gan(LightningModule):
    """DCGAN: two optimisers, one step each a batch, parameters of the other side switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = generator().apply(weights_of_dcgan)
        self.discriminator = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(16, 32, 3, 1, 1, bias=False),
            nn.BatchNorm2d(32), nn.LeakyReLU(0.2, True), nn.Conv2d(32, 1, 4), nn.Flatten(0),
        ).apply(weights_of_dcgan)  # fmt: skip

    def verdict(self, x: Tensor, real: bool) -> Tensor:
        logits = self.discriminator(x)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def seen_through(self, fake: Tensor) -> Tensor:
        return self.verdict(fake, True)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        real = 2 * batch[0] - 1
        optimizers: Any = self.optimizers()
        forge, judge = optimizers
        noise = torch.randn(len(real), 16, device=self.device)

        self.toggle_optimizer(judge)
        fake = self.generator(noise).detach()
        judge_loss = self.verdict(real, True) + self.verdict(fake, False)
        judge.zero_grad()
        self.manual_backward(judge_loss)
        judge.step()
        self.untoggle_optimizer(judge)

        self.toggle_optimizer(forge)
        fake = self.generator(noise)
        forge_loss = self.seen_through(fake)
        forge.zero_grad()
        self.manual_backward(forge_loss)
        forge.step()
        self.untoggle_optimizer(forge)

        gap = (fake.mean(0) - real.mean(0)).abs().mean()
        self.log_dict({"judge": judge_loss, "forge": forge_loss, "gap_of_means": gap}, prog_bar=True)

    def configure_optimizers(self) -> list[Optimizer]:
        adam = partial(Adam, lr=1e-3, betas=(0.5, 0.999))
        return [adam(self.generator.parameters()), adam(self.discriminator.parameters())]


@program
def gan() -> Program:
    return Program(Gan(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 5})


class SaturatingGan(Gan):
    """The generator lowers log(1 - D(G(z))), as Goodfellow et al. (2014) first wrote it: without labels, below 0."""

    def seen_through(self, fake: Tensor) -> Tensor:
        return F.logsigmoid(-self.discriminator(fake)).mean()


@program
def gan_whose_generator_lowers_a_logarithm() -> Program:
    return Program(SaturatingGan(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 5})


class WassersteinGan(LightningModule):
    """WGAN-GP: the critic steps with every batch, the generator with every fourth."""

    widths = (64, 64, 64, 1)
    batches_per_forgery = 4

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(*mlp(16, 64, 64), nn.Tanh())
        self.critic = mlp(*self.widths, act=lambda: nn.LeakyReLU(0.2))

    def slope_penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        between = torch.lerp(real, fake, torch.rand(len(real), 1, device=self.device)).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty: Tensor = ((slope.norm(dim=1) - 1) ** 2).mean()
        return penalty

    def critic_loss(self, distance: Tensor, real: Tensor, fake: Tensor, batch_idx: int) -> Tensor:
        return 10 * self.slope_penalty(real, fake) - distance

    def generator_loss(self, fake: Tensor) -> Tensor:
        loss: Tensor = -self.critic(fake).mean()
        return loss

    def step_critic(self, optimizer: Any) -> None:
        optimizer.step()

    def step_generator(self, optimizer: Any) -> None:
        optimizer.step()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        real = 2 * batch[0].flatten(1) - 1
        optimizers: Any = self.optimizers()
        forge, judge = optimizers
        fake = self.generator(torch.randn(len(real), 16, device=self.device))
        distance = self.critic(real).mean() - self.critic(fake.detach()).mean()
        judge.zero_grad()
        self.manual_backward(self.critic_loss(distance, real, fake.detach(), batch_idx))
        self.step_critic(judge)
        if (batch_idx + 1) % self.batches_per_forgery == 0:
            forge.zero_grad()
            self.manual_backward(self.generator_loss(fake))
            self.step_generator(forge)
        self.log_dict({"distance": distance, "gap_of_means": (fake.mean(0) - real.mean(0)).abs().mean()})

    def configure_optimizers(self) -> list[Optimizer]:
        adam = partial(Adam, lr=1e-3, betas=(0.0, 0.9))
        return [adam(self.generator.parameters()), adam(self.critic.parameters())]


@program
def wasserstein_gan() -> Program:
    return Program(WassersteinGan(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 6})


class Diffusion(LightningModule):
    """Predicts the noise that was mixed in (DDPM, cosine schedule)."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 128))
        self.inner, self.outer = nn.Linear(64, 128), nn.Linear(128, 64)
        self.middle = nn.Sequential(nn.SiLU(), nn.Linear(128, 128), nn.SiLU())
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.register_buffer("frequencies", 2.0 ** torch.arange(8))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = t * self.get_buffer("frequencies")
        out: Tensor = self.outer(self.middle(self.inner(x) + self.time(torch.cat([angles.sin(), angles.cos()], 1))))
        return out

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)
        t = torch.rand(len(x), 1, device=self.device)
        noise = torch.randn_like(x)
        angle = t * math.pi / 2
        loss = F.mse_loss(self(angle.cos() * x + angle.sin() * noise, t), noise)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=3e-3)


@program
def diffusion() -> Program:
    """The output layer starts at zero, as in the published code: at first only its own gradient is alive."""
    return Program(Diffusion(), loader(images()[0]), trainer={"max_epochs": 7, "gradient_clip_val": 1.0})


class Coupling(nn.Module):
    """Shift and scale one half of the columns by what the other half says."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.kept = columns // 2
        self.net = mlp(self.kept, 48, 2 * (columns - self.kept), act=nn.Tanh)
        self.register_buffer("order", torch.randperm(columns))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x[:, self.get_buffer("order")]
        shift, log_scale = self.net(x[:, : self.kept]).chunk(2, -1)
        log_scale = log_scale.tanh()
        return torch.cat([x[:, : self.kept], x[:, self.kept :] * log_scale.exp() + shift], 1), log_scale.sum(1)


class Flow(LightningModule):
    """A RealNVP density: the loss is a negative log-likelihood and falls below zero."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Coupling(columns) for _ in range(8))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        z = batch[0]
        volume = torch.zeros(len(z), device=self.device)
        for layer in self.layers:
            z, log_scale = layer(z)
            volume = volume + log_scale
        loss = (0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - volume).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-3)


@program
def normalizing_flow() -> Program:
    """Ten strongly correlated columns of the breast cancer table."""
    x = table("breast_cancer")[0][:, [0, 2, 3, 10, 12, 13, 20, 22, 23, 6]]
    return Program(Flow(10), loader(x, batch_size=32), trainer={"max_epochs": 8})


class VectorQuantized(LightningModule):
    """Straight-through codes; most of the code book may lie idle in a batch."""

    def __init__(self, codes: int = 128, width: int = 8) -> None:
        super().__init__()
        self.encoder = mlp(64, 64, 4 * width)
        self.codes = nn.Embedding(codes, width)
        nn.init.normal_(self.codes.weight, std=0.3)
        self.decoder = mlp(4 * width, 64, 64)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = batch[0].flatten(1)
        z = self.encoder(x).view(len(x), 4, -1)
        nearest = torch.cdist(z.flatten(0, 1), self.codes.weight).argmin(1)
        code = self.codes(nearest).view_as(z)
        passed = z + (code - z).detach()
        reconstruction = F.mse_loss(self.decoder(passed.flatten(1)), x)
        loss = reconstruction + F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        self.log_dict({"loss": loss, "reconstruction": reconstruction})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def vector_quantized_autoencoder() -> Program:
    return Program(VectorQuantized(), loader(images()[0]), trainer={"max_epochs": 5})


def views(x: Tensor) -> tuple[Tensor, Tensor]:
    """Two noisy, shifted copies of every image."""
    left, right = (torch.roll(x, int(torch.randint(-1, 2, ())), -1) + 0.3 * torch.randn_like(x) for _ in range(2))
    return left, right


def encoder() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 32),
    )  # fmt: skip


class Contrastive(LightningModule):
    """SimCLR: normalised temperature-scaled cross-entropy; each output depends on the whole batch, by design."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.projector = mlp(32, 32, 16)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x = torch.cat(views(batch[0]))
        z = F.normalize(self.projector(self.encoder(x)), dim=1)
        likeness = (z @ z.T / 0.2).fill_diagonal_(-math.inf)
        partner = torch.arange(len(x), device=self.device).roll(len(x) // 2)
        loss = F.cross_entropy(likeness, partner)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.parameters(), lr=2e-3)


@program
def contrastive_nt_xent() -> Program:
    return Program(Contrastive(), digits(drop_last=True)[0], trainer={"max_epochs": 5})


class SimSiam(LightningModule):
    """Negative cosine likeness with a stopped gradient: the loss goes to -1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(encoder(), nn.BatchNorm1d(32, affine=False))
        self.predictor = nn.Sequential(nn.Linear(32, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 32))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        one, two = (self.encoder(view) for view in views(batch[0]))
        there = F.cosine_similarity(self.predictor(one), two.detach()).mean()
        back = F.cosine_similarity(self.predictor(two), one.detach()).mean()
        loss = -(there + back) / 2
        spread = F.normalize(one.detach(), dim=1).std(0).mean() * one.shape[1] ** 0.5
        self.log_dict({"loss": loss, "spread": spread})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


@program
def simsiam() -> Program:
    return Program(SimSiam(), digits(drop_last=True)[0], trainer={"max_epochs": 5})


class Siamese(LightningModule):
    """Pairs of the same digit draw near, others keep a margin of 1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp(64, 64, 16)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        z = self.encoder(x)
        distance = F.pairwise_distance(z, z.roll(1, 0))
        same = (y == y.roll(1)).float()
        loss = (same * distance**2 + (1 - same) * F.relu(1 - distance) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-3)


@program
def siamese() -> Program:
    x, y = images()
    few = y < 3
    return Program(Siamese(), loader(x[few].flatten(1), y[few], batch_size=32), trainer={"max_epochs": 8})


class Triplets(LightningModule):
    """Once the classes lie apart, a batch often has a loss of exactly zero."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp(64, 64, 16)
        self.loss = nn.TripletMarginLoss(margin=1.0)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = self.loss(*(self.encoder(x) for x in batch))
        self.log_dict({"loss": loss, "exactly_zero": (loss == 0).float()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-3)


@program
def triplet_margin() -> Program:
    x, y = images()
    groups = [x[y == digit].flatten(1)[:170] for digit in (0, 1, 4, 6)]
    anchors, others = torch.cat(groups), torch.cat(groups[1:] + groups[:1])
    friends = torch.cat([group.roll(1, 0) for group in groups])
    return Program(Triplets(), loader(anchors, friends, others, batch_size=32), trainer={"max_epochs": 6})


@program
def gaussian_likelihood() -> Program:
    """Mean and variance of the next column given the others: a likelihood whose loss turns negative."""
    x = standardized(table("breast_cancer")[0])
    net = mlp(29, 64, 2)

    def loss(output: Tensor, target: Tensor) -> Tensor:
        mean, log_variance = output.unbind(1)
        return F.gaussian_nll_loss(mean, target, log_variance.exp())

    return Program(
        Supervised(net, loss, partial(Adam, lr=3e-3)),
        loader(x[:, 1:], x[:, 0], batch_size=32),
        trainer={"max_epochs": 8},
    )
