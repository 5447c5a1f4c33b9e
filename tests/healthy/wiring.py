"""Unusual wiring that is right: experts that rest, heads that take turns, policies, graphs, manual optimisation."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from sklearn.neighbors import kneighbors_graph
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR
from torch.utils.data import DataLoader

from healthy.parts import Batch, Program, Supervised, digits, images, loader, mlp, pixels, program, table


class Experts(nn.Module):
    """The gate sends each sample to one expert; the last expert is a reserve that nobody is sent to."""

    def __init__(self, count: int = 4) -> None:
        super().__init__()
        self.gate = nn.Linear(64, count)
        self.experts = nn.ModuleList(mlp(64, 32, 10) for _ in range(count))
        with torch.no_grad():
            self.gate.bias[-1] = -20

    def forward(self, x: Tensor) -> Tensor:
        weight, choice = self.gate(x).softmax(-1).max(-1)
        out = x.new_zeros(len(x), 10)
        for i, expert in enumerate(self.experts):
            sent = choice == i
            if sent.any():
                out[sent] = weight[sent, None] * expert(x[sent])
        return out


@program
def mixture_of_experts() -> Program:
    train, val = digits(flat=True)
    return Program(Supervised(Experts(), F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 5})


class Bandit(LightningModule):
    """REINFORCE: guess the digit, be paid for a hit; a running mean of the pay is the baseline."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = mlp(64, 64, 10)
        self.register_buffer("baseline", torch.tensor(0.1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        guess: Any = torch.distributions.Categorical(logits=self.policy(x))
        action = guess.sample()
        reward = (action == y).float()
        loss: Tensor = -(guess.log_prob(action) * (reward - self.get_buffer("baseline"))).mean()
        self.get_buffer("baseline").lerp_(reward.mean(), 0.1)
        self.log_dict({"loss": loss, "reward": reward.mean()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.policy.parameters(), lr=5e-3)


@program
def reinforce() -> Program:
    return Program(Bandit(), digits(flat=True)[0], trainer={"max_epochs": 10})


class ActorCritic(LightningModule):
    """Push a cart left or right, keep it near the middle: advantages from a learnt value, a bonus for entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 32), nn.Tanh())
        self.actor, self.critic = nn.Linear(32, 2), nn.Linear(32, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        place, speed = batch[0].unbind(1)
        chances, values, pay = [], [], []
        entropy = torch.zeros((), device=self.device)
        for _ in range(15):
            hidden = self.trunk(torch.stack([place, speed], 1))
            choice: Any = torch.distributions.Categorical(logits=self.actor(hidden))
            action = choice.sample()
            speed = 0.9 * speed + 0.2 * (2 * action - 1)
            place = place + speed
            chances.append(choice.log_prob(action))
            values.append(self.critic(hidden).squeeze(1))
            pay.append(-place.abs())
            entropy = entropy + choice.entropy().mean() / 15
        future = torch.zeros_like(place)
        returns: list[Tensor] = []
        for reward in reversed(pay):
            future = reward + 0.8 * future
            returns.insert(0, future)
        value, target = torch.stack(values), torch.stack(returns)
        advantage = (target - value).detach()
        actor = -(torch.stack(chances) * advantage).mean()
        loss = actor + 0.5 * F.mse_loss(value, target) - 0.01 * entropy
        self.log_dict({"loss": loss, "reward": torch.stack(pay).mean()})
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2)


@program
def actor_critic() -> Program:
    starts = torch.randn(2048, 2) * torch.tensor([1.0, 0.2])
    return Program(ActorCritic(), loader(starts), trainer={"max_epochs": 3, "gradient_clip_val": 5.0})


class Tasks(LightningModule):
    """One trunk, a head a task. `turn` says which tasks learn in a batch; the others' heads get no gradient."""

    def __init__(self, turn: Callable[[int, int], list[str]]) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*mlp(64, 64, 32), nn.ReLU())
        self.heads = nn.ModuleDict({"digit": nn.Linear(32, 10), "parity": nn.Linear(32, 2)})
        self.turn = turn

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        targets = {"digit": y, "parity": y % 2}
        hidden = self.trunk(x)
        loss = torch.zeros((), device=self.device)
        for task in self.turn(self.current_epoch, batch_idx):
            one = F.cross_entropy(self.heads[task](hidden), targets[task])
            self.log(task, one)
            loss = loss + one
        return loss

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-3)


@program
def heads_alternate_by_batch() -> Program:
    module = Tasks(lambda epoch, batch: [("digit", "parity")[batch % 2]])
    return Program(module, digits(flat=True)[0], trainer={"max_epochs": 5})


@program
def head_rests_in_first_epochs() -> Program:
    module = Tasks(lambda epoch, batch: ["digit"] if epoch < 2 else ["digit", "parity"])
    return Program(module, digits(flat=True)[0], trainer={"max_epochs": 5})


class TwoTables(LightningModule):
    """Two loaders at once, two stems, one body."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleDict({"wine": nn.Linear(13, 32), "cancer": nn.Linear(30, 32)})
        self.body = nn.Sequential(nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.heads = nn.ModuleDict({"wine": nn.Linear(32, 3), "cancer": nn.Linear(32, 2)})

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> Tensor:
        losses = {
            name: F.cross_entropy(self.heads[name](self.body(self.stems[name](x))), y) for name, (x, y) in batch.items()
        }
        self.log_dict(losses, batch_size=32)
        return torch.stack(list(losses.values())).sum()

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=2e-3)


@program
def two_loaders_at_once() -> Program:
    train = {"wine": loader(*table("wine"), batch_size=32), "cancer": loader(*table("breast_cancer"), batch_size=32)}
    return Program(TwoTables(), train, trainer={"max_epochs": 6})


class SkipsBatches(Supervised):
    """A batch without a single positive teaches nothing here: training_step returns None."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        return super().training_step(batch, batch_idx) if batch[1].any() else None


@program
def some_batches_return_none() -> Program:
    x, y = images()
    net = nn.Sequential(*mlp(64, 32, 1), nn.Flatten(0))
    module = SkipsBatches(net, F.binary_cross_entropy_with_logits, partial(Adam, lr=5e-3))
    return Program(module, loader(x.flatten(1), (y == 3).float(), batch_size=16), trainer={"max_epochs": 2})


class GraphNet(LightningModule):
    """Two graph convolutions on a dense adjacency matrix; one batch is the whole graph."""

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(columns, 16), nn.Linear(16, classes)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        hidden = F.dropout(F.relu(adjacency @ self.inner(x)), 0.5, self.training)
        out: Tensor = adjacency @ self.outer(hidden)
        return out

    def training_step(self, graph: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self(graph["x"], graph["adjacency"])
        loss = F.cross_entropy(logits[graph["known"]], graph["y"][graph["known"]])
        self.log("loss", loss, batch_size=1)
        return loss

    def validation_step(self, graph: dict[str, Tensor], batch_idx: int) -> None:
        logits = self(graph["x"], graph["adjacency"])[~graph["known"]]
        accuracy = (logits.argmax(1) == graph["y"][~graph["known"]]).float().mean()
        self.log("val_accuracy", accuracy, batch_size=1)

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=1e-2, weight_decay=5e-4)


@program
def graph_convolution() -> Program:
    """Wines joined to their six nearest; 20 of 178 labels are known."""
    x, y = table("wine")
    near = torch.tensor(kneighbors_graph(x.numpy(), 6, include_self=True).toarray(), dtype=torch.float32)
    adjacency = ((near + near.T) > 0).float()
    root = adjacency.sum(1).rsqrt()
    graph = {"x": x, "y": y, "adjacency": root[:, None] * adjacency * root, "known": torch.arange(len(x)) < 20}
    whole: DataLoader[Any] = DataLoader([graph], batch_size=None)
    return Program(GraphNet(13, 3), whole, whole, {"max_epochs": 100, "check_val_every_n_epoch": 20})


@program
def weight_and_spectral_norm() -> Program:
    train, val = digits(flat=True)
    net = nn.Sequential(
        weight_norm(nn.Linear(64, 64)), nn.ReLU(), spectral_norm(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 10)
    )
    return Program(Supervised(net, F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 4})


class Sparse(nn.Module):
    """Squared ReLU, then only the 16 largest of 128 units speak."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.inner(x)) ** 2
        kept = hidden.topk(16, -1)
        out: Tensor = self.outer(torch.zeros_like(hidden).scatter(-1, kept.indices, kept.values))
        return out


@program
def sparse_by_design() -> Program:
    train, val = digits(flat=True)
    return Program(Supervised(Sparse(), F.cross_entropy, partial(Adam, lr=2e-3)), train, val, {"max_epochs": 4})


class Binary(nn.Module):
    """Hidden bits: the sign forward, its straight-through estimate backward."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        soft = self.inner(x).tanh()
        out: Tensor = self.outer(soft + (soft.sign() - soft).detach())
        return out


@program
def straight_through_bits() -> Program:
    train, val = digits(flat=True)
    return Program(Supervised(Binary(), F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 4})


class Probed(LightningModule):
    """A probe on detached features watches an autoencoder without touching it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = mlp(64, 64, 16), mlp(16, 64, 64)
        self.probe = nn.Linear(16, 10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        code = self.encoder(x)
        reconstruction = F.mse_loss(self.decoder(code), x)
        probe = F.cross_entropy(self.probe(code.detach()), y)
        self.log_dict({"reconstruction": reconstruction, "probe": probe})
        return reconstruction + probe

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def probe_on_detached_features() -> Program:
    return Program(Probed(), digits(flat=True)[0], trainer={"max_epochs": 5})


class Turn(torch.autograd.Function):
    """The identity, whose gradient is turned round."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class DomainAdversary(LightningModule):
    """Features that tell the digit but hardly whether the image was brightened (gradient reversal)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*mlp(64, 64, 32), nn.ReLU())
        self.digit, self.domain = nn.Linear(32, 10), nn.Linear(32, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        bright = torch.rand(len(x), 1, device=self.device).round()
        hidden = self.features(x + 0.3 * bright)
        digit = F.cross_entropy(self.digit(hidden), y)
        turned: Tensor = Turn.apply(hidden)
        domain = F.binary_cross_entropy_with_logits(self.domain(turned), bright)
        self.log_dict({"digit": digit, "domain": domain})
        return digit + domain

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def gradient_reversal() -> Program:
    x, y = pixels()
    return Program(DomainAdversary(), loader(x.flatten(1), y), trainer={"max_epochs": 6})


class Manual(LightningModule):
    """A classifier that steps by hand; subclasses say when."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = mlp(64, 64, 10)

    def loss(self, batch: Batch) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return Adam(self.parameters(), lr=3e-3)


class ClearsAfterStep(Manual):
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss(batch))
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()
        optimizer.zero_grad()


@program
def manual_clears_after_step() -> Program:
    return Program(ClearsAfterStep(), digits(flat=True)[0], trainer={"max_epochs": 5})


class StepsPastLightning(Manual):
    """Steps the optimizer itself and counts the steps for the loggers, as libraries do; no hook sees one."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        self.loss(batch).backward()
        optimizer.step()
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed += 1

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = Adam(self.parameters(), lr=3e-3)
        return {"optimizer": optimizer, "lr_scheduler": ConstantLR(optimizer, factor=1.0)}

    def on_train_epoch_end(self) -> None:
        schedule: Any = self.lr_schedulers()
        schedule.step()


@program
def manual_steps_past_lightning() -> Program:
    return Program(StepsPastLightning(), digits(flat=True)[0], trainer={"max_epochs": 4})


class AccumulatesTwo(Manual):
    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss(batch) / 2)
        if batch_idx % 2 == 1 or self.trainer.is_last_batch:
            optimizer.step()
            optimizer.zero_grad()


@program
def manual_accumulates_two_batches() -> Program:
    return Program(AccumulatesTwo(), digits(batch_size=32, flat=True)[0], trainer={"max_epochs": 4})


class OneBackwardTwoSteps(Manual):
    """Body and head have optimizers of their own, fed by one backward."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.manual_backward(self.loss(batch))
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return [Adam(self.net[0].parameters(), lr=3e-3), Adam(self.net[2].parameters(), lr=3e-3)]


@program
def one_backward_two_steps() -> Program:
    return Program(OneBackwardTwoSteps(), digits(flat=True)[0], trainer={"max_epochs": 5})


class TakesTurns(Manual):
    """The body learns in even epochs, the head in odd ones."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizers: Any = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizers[self.current_epoch % 2].step()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        body, _, head = self.net
        return [Adam(body.parameters(), lr=3e-3), Adam(head.parameters(), lr=3e-3)]


@program
def optimizers_take_turns_by_epoch() -> Program:
    return Program(TakesTurns(), digits(flat=True)[0], trainer={"max_epochs": 6})


class SharpnessAware(Manual):
    """SAM: climb a little, take the gradient there, climb back, step."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        norm = nn.utils.get_total_norm([p.grad for p in self.net.parameters() if p.grad is not None])
        climbs = [0.05 * p.grad / (norm + 1e-12) for p in self.net.parameters() if p.grad is not None]
        self.move(climbs)
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        self.move([-climb for climb in climbs])
        optimizer.step()

    @torch.no_grad()
    def move(self, by: list[Tensor]) -> None:
        torch._foreach_add_(list(self.net.parameters()), by)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return SGD(self.net.parameters(), lr=0.1, momentum=0.9)


@program
def sharpness_aware() -> Program:
    return Program(SharpnessAware(), digits(flat=True)[0], trainer={"max_epochs": 4})


class ScheduledByHand(Manual):
    """Manual optimisation with a schedule that the module itself steps, once an epoch."""

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()

    def on_train_epoch_end(self) -> None:
        schedule: Any = self.lr_schedulers()
        schedule.step()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = AdamW(self.parameters(), lr=5e-3)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.3)]


@program
def manual_schedule() -> Program:
    return Program(ScheduledByHand(), digits(flat=True)[0], trainer={"max_epochs": 5})


class SparseAutoencoder(LightningModule):
    """Columns of the decoder are set back to length 1 after every step: weights change outside the optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 128), nn.Linear(128, 64)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x = batch[0]
        code = F.relu(self.encoder(x - self.decoder.bias))
        reconstruction = ((self.decoder(code) - x) ** 2).sum(1).mean()
        loss: Tensor = reconstruction + 0.1 * code.abs().sum(1).mean()
        self.log("loss", loss)
        return loss

    @torch.no_grad()
    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        self.decoder.weight.div_(self.decoder.weight.norm(dim=0, keepdim=True))

    def configure_optimizers(self) -> Optimizer:
        return Adam(self.parameters(), lr=3e-3)


@program
def decoder_held_at_unit_norm() -> Program:
    return Program(SparseAutoencoder(), digits(flat=True)[0], trainer={"max_epochs": 5})


class Margins(nn.Module):
    """Cosine classifier with a learnt temperature (as in CLIP, kept as a logarithm)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = mlp(64, 64, 32)
        self.classes = nn.Parameter(torch.randn(10, 32))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(self, x: Tensor) -> Tensor:
        cosine = F.normalize(self.features(x), dim=-1) @ F.normalize(self.classes, dim=-1).T
        return self.log_scale.exp() * cosine


@program
def cosine_classifier() -> Program:
    train, val = digits(flat=True)
    return Program(Supervised(Margins(), F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 4})


class Selection(nn.Module):
    """A variable selection network (Lim et al., 2021) that is given one variable: there is nothing to choose."""

    def __init__(self, variables: int = 1, width: int = 8) -> None:
        super().__init__()
        self.joint = nn.Linear(variables * width, variables)
        self.each = nn.ModuleList(nn.Linear(width, width) for _ in range(variables))
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None, :8]
        weights = torch.softmax(self.joint(x.flatten(1)), dim=-1)
        return self.head(sum(weights[:, i : i + 1] * part(x[:, i]).tanh() for i, part in enumerate(self.each)))


@program
def a_selection_of_one_variable() -> Program:
    x, y = table("diabetes")
    module = Supervised(Selection(), F.mse_loss, partial(Adam, lr=1e-2))
    return Program(module, loader(x, (y[:, None] - y.mean()) / y.std(), batch_size=32), trainer={"max_epochs": 4})


class Rollout(LightningModule):
    """A policy with a copy of itself as baseline, in eval mode and renewed each epoch (Kool et al., 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.policy = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
        self.renew()

    def renew(self) -> None:
        self.baseline = copy.deepcopy(self.policy).eval()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (x,) = batch
        chances = torch.distributions.Categorical(logits=self.policy(x))
        action = chances.sample()
        with torch.inference_mode():
            usual = x.gather(1, self.baseline(x).argmax(1, keepdim=True)).squeeze(1)
        return -((x.gather(1, action[:, None]).squeeze(1) - usual) * chances.log_prob(action)).mean()

    def on_train_epoch_end(self) -> None:
        self.renew()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return Adam(self.policy.parameters(), 1e-2)


@program
def a_baseline_in_eval_mode() -> Program:
    return Program(Rollout(), loader(torch.rand(320, 4), batch_size=32), trainer={"max_epochs": 3})


class SharedNoise(nn.Module):
    """One learned noise for all samples, and a stationary kernel's prior variance: the same everywhere by design."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = mlp(10, 32, 1)
        self.noise, self.length = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        noise = F.softplus(self.noise) + torch.full((len(x),), 1e-4)
        z = x / F.softplus(self.length)
        prior = F.softplus(self.noise) * torch.exp(-0.5 * (z - z).square().sum(-1))
        return torch.stack([self.mean(x)[:, 0], noise + prior], dim=1)


@program
def a_noise_that_all_samples_share() -> Program:
    x, y = table("diabetes")

    def likelihood(out: Tensor, target: Tensor) -> Tensor:
        return (0.5 * ((target - out[:, 0]).square() / out[:, 1] + out[:, 1].log())).mean()

    module = Supervised(SharedNoise(), likelihood, partial(Adam, lr=1e-2))
    return Program(module, loader(x, (y - y.mean()) / y.std(), batch_size=32), trainer={"max_epochs": 4})


class SelectionOverTime(Selection):
    """The same at each of several places: the places are not what it chooses from."""

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :8].unflatten(1, (4, 2)).repeat(1, 1, 4)
        weights = torch.softmax(self.joint(x), dim=-1).unsqueeze(-2)
        values = torch.stack([part(x).tanh() for part in self.each], dim=-1)
        return self.head((values * weights).sum(dim=-1).mean(1))


@program
def a_selection_of_one_variable_over_time() -> Program:
    x, y = table("diabetes")
    module = Supervised(SelectionOverTime(), F.mse_loss, partial(Adam, lr=1e-2))
    return Program(module, loader(x, (y[:, None] - y.mean()) / y.std(), batch_size=32), trainer={"max_epochs": 4})


@program
def last_layer_renewed_after_loading() -> Program:
    """All of a pretrained network is loaded, and the layer that knew the other classes begins anew."""
    train, val = digits(batch_size=32, flat=True)
    pretrained = mlp(64, 32, 10).state_dict()
    module = Supervised(mlp(64, 32, 10), F.cross_entropy, partial(AdamW, lr=1e-3))

    def setup(stage: str) -> None:
        module.net.load_state_dict(pretrained)
        next(part for part in reversed(list(module.net)) if isinstance(part, nn.Linear)).reset_parameters()

    module.setup = setup
    return Program(module, train, val, {"max_epochs": 2})


class Halves(Supervised):
    """Two encoders, of the upper and the lower half of an image; every third batch goes without the second."""

    def __init__(self) -> None:
        parts = {"upper": mlp(32, 32, 16), "lower": mlp(32, 32, 16), "head": nn.Linear(32, 10)}
        super().__init__(nn.ModuleDict(parts), F.cross_entropy, partial(Adam, lr=3e-3))
        self.goes_without = False

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = self.net["upper"](x[:, :32]), self.net["lower"](x[:, 32:])
        if self.training and self.goes_without:
            lower = torch.zeros_like(lower)
        return self.net["head"](torch.cat([upper, lower], -1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        self.goes_without = batch_idx % 3 == 0
        return super().training_step(batch, batch_idx)


@program
def modality_left_out_of_some_batches() -> Program:
    train, val = digits(batch_size=32, flat=True)
    return Program(Halves(), train, val, {"max_epochs": 3})
