"""Gradients clipped well, in every style; large gradients that need no clipping; and things that only look like it."""

import math
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler, TensorDataset

from healthy.generative import WassersteinGan
from healthy.optimisation import ResidualMlp, diabetes
from healthy.parts import (
    Batch,
    Program,
    Supervised,
    digits,
    images,
    loader,
    mlp,
    pixels,
    program,
    small_cnn,
    standardized,
)
from healthy.sequences import CausalTransformer, padded_lines, words
from healthy.vision import Vit
from healthy.wiring import Bandit, Manual


@program
def transformer_clipped_while_it_warms_up() -> Program:
    """AdamW under a threshold that clips all of the first steps, while the rate warms up, and few of the later ones."""
    lines, vocabulary = padded_lines(49)
    module = CausalTransformer(vocabulary, lines.shape[1] - 1, steps=150)
    return Program(module, loader(lines, batch_size=16), trainer={"max_steps": 150, "gradient_clip_val": 0.5})


@program
def vit_clipped_at_a_tenth() -> Program:
    """The threshold of DETR, which clips every step: AdamW divides by the size of the gradient anyway."""
    train, val = digits()
    module = Supervised(Vit(), F.cross_entropy, partial(AdamW, lr=3e-3, weight_decay=1e-4))
    return Program(module, train, val, {"max_epochs": 8, "gradient_clip_val": 0.1})


class WordModel(LightningModule):
    """PyTorch's word language model: an LSTM, plain SGD at a rate of 20, clipped at 0.25 in nearly every step."""

    def __init__(self, vocabulary: int, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.rnn = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary)
        for layer in (self.embed, self.head):
            nn.init.uniform_(layer.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        tokens = batch[0]
        logits = self.head(F.dropout(self.rnn(self.embed(tokens[:, :-1]))[0], 0.2))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.parameters(), lr=20.0)


@program
def word_model_at_a_rate_of_twenty() -> Program:
    found, vocabulary = words(400)
    rows = torch.tensor(found[: len(found) // 21 * 21]).view(-1, 21)
    train = loader(rows, batch_size=10)
    return Program(WordModel(vocabulary), train, trainer={"max_epochs": 20, "gradient_clip_val": 0.25})


class WeightClippingGan(WassersteinGan):
    """The first Wasserstein GAN: after each step of the critic its *weights* are clamped; no gradient is."""

    widths = (64, 64, 1)
    batches_per_forgery = 3

    def critic_loss(self, distance: Tensor, *_others: Any) -> Tensor:
        return -distance

    def step_critic(self, optimizer: Any) -> None:
        optimizer.step()
        with torch.no_grad():
            for weight in self.critic.parameters():
                weight.clamp_(-0.05, 0.05)

    def configure_optimizers(self) -> list[Optimizer]:
        return [RMSprop(part.parameters(), lr=2e-3) for part in (self.generator, self.critic)]


@program
def wasserstein_gan_with_clipped_weights() -> Program:
    return Program(WeightClippingGan(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 12})


class ClippedGan(WassersteinGan):
    """Both sides clipped, each by its own threshold, before its own step."""

    def step_critic(self, optimizer: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=10.0, gradient_clip_algorithm="norm")
        optimizer.step()

    def step_generator(self, optimizer: Any) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()


@program
def gan_with_both_sides_clipped() -> Program:
    return Program(ClippedGan(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 8})


class LazilyPenalised(WassersteinGan):
    """Lazy regularisation: the penalty comes with every eighth step only, eight times as heavy."""

    batches_per_forgery = 1

    def critic_loss(self, distance: Tensor, real: Tensor, fake: Tensor, batch_idx: int) -> Tensor:
        loss = F.softplus(self.critic(fake)).mean() + F.softplus(-self.critic(real)).mean()
        return loss + 8 * 0.5 * self.slope_penalty(real, fake) if batch_idx % 8 == 0 else loss

    def generator_loss(self, fake: Tensor) -> Tensor:
        return F.softplus(-self.critic(fake)).mean()


@program
def gan_penalised_every_eighth_step() -> Program:
    return Program(LazilyPenalised(), loader(pixels()[0], drop_last=True), trainer={"max_epochs": 8})


@program
def values_clipped_for_few_elements() -> Program:
    """By value, at ten times a usual element."""
    train, val = digits(flat=True, batch_size=32)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    clip = {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}
    return Program(module, train, val, {"max_epochs": 6, **clip})


@program
def learnt_to_the_last_digit() -> Program:
    """Every digit is right at last: gradients fall by orders of magnitude, and single batches stand out by as much."""
    train, val = digits(batch_size=32)
    return Program(Supervised(small_cnn(), F.cross_entropy, partial(Adam, lr=5e-3)), train, val, {"max_epochs": 9})


@program
def learnt_to_the_last_digit_under_a_threshold() -> Program:
    """The threshold that clips some steps of the first epochs clips none in the end."""
    train, val = digits(batch_size=32, flat=True)
    module = Supervised(mlp(64, 128, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 8, "gradient_clip_val": 1.5})


class Proximal(Bandit):
    """Proximal policy optimisation on noisy pay, the norm held at 0.5 as all of its implementations do."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        guess: Any = torch.distributions.Categorical(logits=self.policy(x))
        action = guess.sample()
        pay = (action == y) + 0.5 * torch.randn(len(x), device=self.device)
        advantage = pay - self.get_buffer("baseline")
        advantage = (advantage - advantage.mean()) / advantage.std()
        chance = guess.log_prob(action)
        ratio = (chance - chance.detach()).exp()
        gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        loss: Tensor = -gain - 0.01 * guess.entropy().mean()
        self.get_buffer("baseline").lerp_(pay.mean(), 0.1)
        self.log_dict({"loss": loss, "reward": (action == y).float().mean()})
        return loss


@program
def proximal_policy_under_noise() -> Program:
    return Program(Proximal(), digits(flat=True)[0], trainer={"max_epochs": 14, "gradient_clip_val": 0.5})


@program
def accumulation_with_a_short_window() -> Program:
    """45 batches of 32, eight a step: the last window of each epoch is short, and its gradient small."""
    train, val = digits(batch_size=32)
    module = Supervised(small_cnn(), F.cross_entropy, partial(SGD, lr=0.3, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 14, "accumulate_grad_batches": 8, "gradient_clip_val": 2.0})


class TwoClipped(Manual):
    """Body and head, each with an optimiser and a threshold; one through Lightning, one through torch."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        body, head = optimizers
        body.zero_grad()
        head.zero_grad()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(body, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        clip_grad_norm_(self.net[2].parameters(), 1.0)
        body.step()
        head.step()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        body, _, head = self.net
        return [Adam(body.parameters(), lr=3e-3), SGD(head.parameters(), lr=0.1)]


@program
def two_optimizers_clipped_by_hand() -> Program:
    return Program(TwoClipped(), digits(flat=True, batch_size=32)[0], trainer={"max_epochs": 5})


class ClipsAtNextStart(Manual):
    """Gradients of four batches pile up; they are clipped and used at the start of the batch that follows."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        if batch_idx > 0 and batch_idx % 4 == 0:
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch) / 4)


@program
def clipped_at_the_start_of_the_next_batch() -> Program:
    """The clip comes before the backward of its batch, and is right: it belongs to the batches before."""
    return Program(ClipsAtNextStart(), digits(flat=True, batch_size=16)[0], trainer={"max_epochs": 9})


def sixteen_bits() -> dict[str, Any]:
    """Real 16-bit mixed precision with a GradScaler, on a CPU."""
    return {"plugins": [MixedPrecision("16-mixed", "cpu")]}


class HalfSupervised(Supervised):
    """The loss is taken in 32 bits, as autocast on a GPU does."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x).float()
        return out


@program
def scaled_and_clipped_by_the_trainer() -> Program:
    """Lightning takes the scale out before it clips."""
    train, val = digits(flat=True)
    module = HalfSupervised(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 6, "gradient_clip_val": 1.5, **sixteen_bits()})


class UnscalesFirst(Manual):
    """The recipe of PyTorch's manual: unscale, clip, step through the scaler."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        plugin: Any = self.trainer.precision_plugin
        scaler = plugin.scaler
        loss = F.cross_entropy(self.net(x).float(), y)
        optimizer.zero_grad()
        self.manual_backward(loss)
        scaler.unscale_(optimizer)
        clip_grad_norm_(self.net.parameters(), 1.5)
        scaler.step(optimizer)
        scaler.update()
        self.log("loss", loss)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return SGD(self.parameters(), lr=0.1, momentum=0.9)


@program
def unscaled_by_hand_then_clipped() -> Program:
    return Program(UnscalesFirst(), digits(flat=True)[0], trainer={"max_epochs": 6, **sixteen_bits()})


class ClipsWhenUnscaled(Manual):
    """Manual optimisation under a scaler, clipped in the hook that comes when the scale is out."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        optimizer: Any = self.optimizers()
        loss = F.cross_entropy(self.net(x).float(), y)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("loss", loss)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.clip_gradients(optimizer, gradient_clip_val=1.5, gradient_clip_algorithm="norm")


@program
def clipped_in_the_hook_before_the_step() -> Program:
    return Program(ClipsWhenUnscaled(), digits(flat=True)[0], trainer={"max_epochs": 6, **sixteen_bits()})


class ClipsAfterBackward(Supervised):
    def on_after_backward(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters(), 1.5)


@program
def clipped_after_each_backward() -> Program:
    """With 32-bit gradients the hook after backward is as good a place as any; two micro-batches are a step."""
    train, val = digits(flat=True, batch_size=16)
    module = ClipsAfterBackward(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 6, "accumulate_grad_batches": 2})


class ClipsFirstOfTwo(Manual):
    """The gradient of a noisy side task is clipped before that of the main task is added to it."""

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Linear(64, 64)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, _ = batch
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        hidden = F.relu(self.net[0](x))
        self.manual_backward(F.mse_loss(self.side(hidden), x + torch.randn_like(x)))
        self.clip_gradients(optimizer, gradient_clip_val=0.75, gradient_clip_algorithm="norm")
        self.manual_backward(self.loss(batch))
        optimizer.step()


@program
def first_of_two_gradients_clipped() -> Program:
    """A clip before a backward that is meant: the gradient it saw goes into the step."""
    return Program(ClipsFirstOfTwo(), digits(flat=True, batch_size=32)[0], trainer={"max_epochs": 6})


class ClipsRecurrence(Supervised):
    """Only the recurrent weights are clipped, as far below the head's norm as they lie."""

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        nn.utils.clip_grad_norm_(self.net[0].parameters(), 0.5)


class LastState(nn.Module):
    def __init__(self, columns: int, width: int) -> None:
        super().__init__()
        self.rnn = nn.RNN(columns, width, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.rnn(x)[0][:, -1]
        return last


@program
def one_part_clipped() -> Program:
    x, y = images()
    net = nn.Sequential(LastState(8, 48), nn.Linear(48, 10))
    module = ClipsRecurrence(net, F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, loader(x.view(-1, 8, 8), y), trainer={"max_epochs": 9})


@program
def lbfgs_clipped() -> Program:
    """The closure, and the clipping in it, runs several times a step."""
    x, y = diabetes()
    module = Supervised(
        mlp(10, 8, 1, act=nn.Tanh), F.mse_loss, partial(LBFGS, max_iter=5, line_search_fn="strong_wolfe")
    )
    train = loader(x, standardized(y), batch_size=len(x))
    return Program(module, train, trainer={"max_epochs": 60, "gradient_clip_val": 0.5})


class AdaptivelyClipped(Supervised):
    """Brock's adaptive clipping, written out: each row of a weight by the ratio of its gradient to itself."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for weight in self.net.parameters():
            if weight.grad is not None and weight.ndim > 1:
                limit = 0.05 * weight.detach().norm(dim=-1, keepdim=True).clamp_min(1e-3)
                weight.grad.mul_((limit / weight.grad.norm(dim=-1, keepdim=True).clamp_min(1e-6)).clamp(max=1.0))


@program
def adaptive_clipping_by_rows() -> Program:
    train, val = digits(flat=True)
    module = AdaptivelyClipped(ResidualMlp(depth=4), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 8})


class LogsNorm(Supervised):
    """Torch's clipping as a ruler: a threshold of infinity measures and changes nothing."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.log("norm", nn.utils.clip_grad_norm_(self.parameters(), math.inf))


@program
def norm_logged_by_an_infinite_threshold() -> Program:
    train, val = digits(flat=True)
    module = LogsNorm(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 6})


class ClipsByHistory(Supervised):
    """AutoClip: the threshold is the tenth percentile of the run's own norms, so most steps are clipped by design."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self.norms: list[float] = []

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        self.norms.append(float(nn.utils.get_total_norm(gradients)))
        threshold = sorted(self.norms)[len(self.norms) // 10]
        self.clip_gradients(optimizer, gradient_clip_val=threshold, gradient_clip_algorithm="norm")


@program
def clipped_at_its_tenth_percentile() -> Program:
    train, val = digits(flat=True)
    module = ClipsByHistory(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 8})


class TwoScales(Supervised):
    """Every fourth batch is an auxiliary task whose loss is in other units: two sizes of norms, no outliers."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        hidden = self.net[:2](x)
        if batch_idx % 4 == 3:
            loss: Tensor = 20 * F.mse_loss(self.net[3](hidden), x)
            self.log("reconstruction", loss)
        else:
            loss = F.cross_entropy(self.net[2](hidden), y)
            self.log("loss", loss)
        return loss


@program
def two_tasks_in_two_units() -> Program:
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10), nn.Linear(64, 64))
    module = TwoScales(net, F.cross_entropy, partial(Adam, lr=2e-3))
    return Program(module, digits(flat=True)[0], trainer={"max_epochs": 10})


@program
def rare_positives_weigh_more() -> Program:
    """One label in ten is positive and weighs nine times as much: batches without one have smaller gradients."""
    x, y = images()
    net = nn.Sequential(*mlp(64, 32, 1), nn.Flatten(0))
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(9.0))
    module = Supervised(net, loss, partial(Adam, lr=2e-3))
    return Program(module, loader(x.flatten(1), (y == 8).float(), batch_size=16), trainer={"max_epochs": 3})


class ByLength(Sampler[list[int]]):
    """Batches of rows of alike length, the short ones larger: a bucket sampler."""

    def __init__(self, lengths: Tensor, tokens: int) -> None:
        self.order, self.lengths, self.tokens = lengths.argsort().tolist(), lengths.tolist(), tokens

    def batches(self) -> list[list[int]]:
        found: list[list[int]] = [[]]
        for row in self.order:
            if found[-1] and (len(found[-1]) + 1) * self.lengths[row] > self.tokens:
                found.append([])
            found[-1].append(row)
        return found

    def __iter__(self) -> Iterator[list[int]]:
        found = self.batches()
        return iter([found[i] for i in torch.randperm(len(found)).tolist()])

    def __len__(self) -> int:
        return len(self.batches())


@program
def buckets_by_length() -> Program:
    """From two lines of 48 letters to thirty of four a batch: norms differ with the bucket, and none is wrong."""
    lines, vocabulary = padded_lines(49)
    lengths = (lines != 0).sum(1)
    train: DataLoader[Any] = DataLoader(TensorDataset(lines), batch_sampler=ByLength(lengths, 400))
    module = CausalTransformer(vocabulary, lines.shape[1] - 1, steps=160)
    return Program(module, train, trainer={"max_steps": 160})


class WarmsUp(Supervised):
    """Large gradients at first, a rate that starts at zero: by the time it has arrived they have gone."""

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(self.parameters())
        schedule = LambdaLR(optimizer, lambda step: min(1.0, step / 60))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@program
def large_gradients_at_first() -> Program:
    """Raw targets from 25 to 346: the norms are in the thousands while the rate warms up, and fall to hundreds."""
    x, y = diabetes()
    module = WarmsUp(mlp(10, 64, 1), F.mse_loss, partial(Adam, lr=3e-2))
    return Program(module, loader(x, y, batch_size=32), trainer={"max_epochs": 25})


def clipped_pair() -> Program:
    """Two processes, whose gradients are averaged before they are clipped; it is outside the registry of one device."""
    torch.manual_seed(0)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    pair = {"strategy": DDPStrategy(start_method="fork", timeout=timedelta(seconds=60)), "devices": 2}
    train, _ = digits(flat=True, batch_size=32)
    return Program(module, train, trainer={"max_epochs": 5, "gradient_clip_val": 1.5, **pair})
