"""Optimisers, schedules, clipping, accumulation, losses: the many ways in which a plain net is trained well."""

import math
from functools import partial
from typing import Any

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from healthy.parts import (
    Batch,
    Program,
    Supervised,
    digits,
    images,
    loader,
    mlp,
    program,
    small_cnn,
    standardized,
    table,
)


def diabetes() -> Batch:
    """Standardised columns, the target as it comes: 25 to 346."""
    x, y = table("diabetes")
    return x, y.float()[:, None]


@program
def linear_regression() -> Program:
    x, y = diabetes()
    module = Supervised(nn.Linear(10, 1), F.mse_loss, partial(SGD, lr=0.1))
    return Program(module, loader(x, standardized(y)), trainer={"max_epochs": 15})


@program
def logistic_regression() -> Program:
    x, y = table("breast_cancer")
    net = nn.Sequential(nn.Linear(30, 1), nn.Flatten(0))
    module = Supervised(net, F.binary_cross_entropy_with_logits, partial(SGD, lr=0.1))
    return Program(module, loader(x, y.float()), trainer={"max_epochs": 12})


@program
def raw_diabetes_targets() -> Program:
    """Losses in the tens of thousands: the scale of the target, not an explosion."""
    module = Supervised(mlp(10, 64, 1), F.mse_loss, partial(Adam, lr=3e-2))
    return Program(module, loader(*diabetes(), batch_size=32), trainer={"max_epochs": 12})


@program
def lbfgs_regression() -> Program:
    """The whole table is one batch; each step calls the closure many times."""
    x, y = diabetes()
    optimizer = partial(LBFGS, lr=1.0, max_iter=5, line_search_fn="strong_wolfe")
    module = Supervised(mlp(10, 8, 1, act=nn.Tanh), F.mse_loss, optimizer)
    return Program(module, loader(x, standardized(y), batch_size=len(x)), trainer={"max_epochs": 60})


@program
def accumulation_and_clipping() -> Program:
    train, val = digits(batch_size=16)
    module = Supervised(small_cnn(), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 3, "accumulate_grad_batches": 4, "gradient_clip_val": 3.0})


@program
def clipping_fires_on_few_steps() -> Program:
    train, val = digits(batch_size=32, flat=True)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1))
    return Program(module, train, val, {"max_epochs": 4, "gradient_clip_val": 1.25})


@program
def clipping_by_value() -> Program:
    train, val = digits(flat=True)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(Adam, lr=3e-3))
    clip = {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}
    return Program(module, train, val, {"max_epochs": 4, **clip})


class OwnHooks(Supervised):
    """Overrides what the manual shows: warm-up in optimizer_step, gradients zeroed in place, clipping of one part."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)
        if self.trainer.global_step < 20:
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * (self.trainer.global_step + 1) / 20

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)


@program
def own_hooks() -> Program:
    train, val = digits(flat=True)
    return Program(OwnHooks(mlp(64, 64, 10), F.cross_entropy, partial(Adam, lr=1.5e-4)), train, val, {"max_epochs": 4})


class ZerosInPlace(Supervised):
    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        optimizer.zero_grad(set_to_none=False)


@program
def gradients_zeroed_in_place() -> Program:
    train, val = digits(flat=True)
    module = ZerosInPlace(mlp(64, 64, 10), F.cross_entropy, partial(AdamW, lr=2e-3))
    return Program(module, train, val, {"max_epochs": 8, "accumulate_grad_batches": 2})


class ResidualMlp(nn.Module):
    """Sixteen pre-norm residual blocks."""

    def __init__(self, width: int = 64, depth: int = 16) -> None:
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        out: Tensor = self.head(x)
        return out


@program
def deep_residual_layer_norm() -> Program:
    """Trained until single batches spike above a small loss."""
    train, val = digits(flat=True)
    return Program(Supervised(ResidualMlp(), F.cross_entropy, partial(AdamW, lr=1e-3)), train, val, {"max_epochs": 8})


@program
def parameter_groups() -> Program:
    """No decay on norms and biases, half the rate for the stem."""

    def optimizer(parameters: Any) -> Optimizer:
        every = list(parameters)
        return AdamW(
            [
                {"params": every[:2], "lr": 5e-4},
                {"params": [p for p in every[2:] if p.ndim > 1], "weight_decay": 0.05},
                {"params": [p for p in every[2:] if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=1e-3,
        )

    train, val = digits(flat=True)
    return Program(Supervised(ResidualMlp(depth=4), F.cross_entropy, optimizer), train, val, {"max_epochs": 4})


@program
def reduce_on_plateau() -> Program:
    train, val = digits(flat=True)
    schedule = partial(ReduceLROnPlateau, factor=0.5, patience=1)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(Adam, lr=1e-2), schedule, monitor="val_loss")
    return Program(module, train, val, {"max_epochs": 8})


@program
def cosine_warm_restarts() -> Program:
    train, val = digits(flat=True)
    schedule = partial(CosineAnnealingWarmRestarts, T_0=30, T_mult=2)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.2, momentum=0.9), schedule, "step")
    return Program(module, train, val, {"max_epochs": 8})


@program
def exponential_by_epoch() -> Program:
    train, val = digits(flat=True)
    schedule = partial(ExponentialLR, gamma=0.8)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(Adam, lr=5e-3), schedule)
    return Program(module, train, val, {"max_epochs": 8})


@program
def linear_warmup_then_cosine() -> Program:
    """SequentialLR by step: from a thousandth of the rate up, then down to zero with the last step."""
    train, val = digits(flat=True)

    def schedule(optimizer: Optimizer) -> SequentialLR:
        warm = LinearLR(optimizer, 1e-3, total_iters=15)
        return SequentialLR(optimizer, [warm, CosineAnnealingLR(optimizer, 5 * len(train) - 15)], [15])

    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(AdamW, lr=5e-3), schedule, "step")
    return Program(module, train, val, {"max_epochs": 5})


@program
def max_steps_alone() -> Program:
    train, _ = digits(flat=True)
    return Program(
        Supervised(mlp(64, 64, 10), F.cross_entropy, partial(RMSprop, lr=1e-3)), train, None, {"max_steps": 100}
    )


@program
def last_batch_of_one() -> Program:
    """1025 rows by 64: the last batch is one row."""
    x, y = images()
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(Adagrad, lr=0.02))
    return Program(module, loader(x[:1025].flatten(1), y[:1025]), trainer={"max_epochs": 6})


@program
def tiny_net() -> Program:
    x, y = table("wine")
    module = Supervised(mlp(13, 6, 3), F.cross_entropy, partial(Adam, lr=1e-2))
    return Program(module, loader(x, y, batch_size=16), trainer={"max_epochs": 8})


@program
def sigmoids_of_depth_three() -> Program:
    train, val = digits(flat=True)
    net = mlp(64, 48, 32, 10, act=nn.Sigmoid)
    return Program(Supervised(net, F.cross_entropy, partial(Adam, lr=1e-2)), train, val, {"max_epochs": 7})


@program
def one_dimensional_inputs() -> Program:
    """A sine from numbers: the batch has shape (n,)."""
    x = torch.linspace(-3, 3, 1024)
    net = nn.Sequential(nn.Unflatten(0, (-1, 1)), *mlp(1, 32, 32, 1, act=nn.Tanh), nn.Flatten(0))
    module = Supervised(net, F.mse_loss, partial(Adam, lr=1e-2))
    return Program(module, loader(x, x.sin() + 0.05 * torch.randn(1024)), trainer={"max_epochs": 8})


@program
def double_precision() -> Program:
    x, y = diabetes()
    module = Supervised(mlp(10, 32, 1), F.smooth_l1_loss, partial(Adam, lr=5e-3))
    train = loader(x.double(), standardized(y).double(), batch_size=32)
    return Program(module, train, trainer={"max_epochs": 8, "precision": "64-true"})


@program
def hinge() -> Program:
    """Eight or not: a linear support vector machine."""
    x, y = images()
    net = nn.Sequential(nn.Linear(64, 1), nn.Flatten(0))
    module = Supervised(net, lambda out, sign: F.relu(1 - out * sign).mean(), partial(SGD, lr=0.02, weight_decay=1e-3))
    return Program(module, loader(x.flatten(1), 2.0 * (y == 8) - 1), trainer={"max_epochs": 6})


@program
def multi_label() -> Program:
    """Is it even, large, a prime, round?"""
    x, y = images()
    labels = torch.stack(
        [torch.isin(y, torch.tensor(s)) for s in ((0, 2, 4, 6, 8), (5, 6, 7, 8, 9), (2, 3, 5, 7), (0, 6, 8, 9))]
    )
    module = Supervised(mlp(64, 64, 4), F.binary_cross_entropy_with_logits, partial(Adam, lr=3e-3))
    return Program(module, loader(x.flatten(1), labels.T.float()), trainer={"max_epochs": 5})


@program
def balanced_by_sampler() -> Program:
    """One class in ten, drawn as often as all others together."""
    x, y = images()
    label = (y == 1).long()
    sampler = WeightedRandomSampler(torch.where(label == 1, 9.0, 1.0).tolist(), len(x))
    train = DataLoader(TensorDataset(x.flatten(1), label), batch_size=64, sampler=sampler)
    return Program(
        Supervised(mlp(64, 32, 2), F.cross_entropy, partial(Adam, lr=3e-3)), train, trainer={"max_epochs": 4}
    )


@program
def weighted_classes() -> Program:
    """A mild imbalance of a tenth, answered by class weights."""
    x, y = images()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.55, 5.0]))
    module = Supervised(mlp(64, 32, 2), loss, partial(Adam, lr=3e-3))
    return Program(module, loader(x.flatten(1), (y == 5).long()), trainer={"max_epochs": 5})


@program
def five_percent_label_noise() -> Program:
    x, y = images()
    noisy = torch.where(torch.rand(len(y)) < 0.05, torch.randint(10, (len(y),)), y)
    module = Supervised(mlp(64, 64, 10), F.cross_entropy, partial(Adam, lr=3e-3))
    return Program(module, loader(x[:1440].flatten(1), noisy[:1440]), trainer={"max_epochs": 6})


@program
def positive_regression() -> Program:
    """PReLU inside, softplus on top, positive targets in units of a hundred."""
    x, y = diabetes()
    net = nn.Sequential(*mlp(10, 32, 1, act=nn.PReLU), nn.Softplus())
    return Program(
        Supervised(net, F.mse_loss, partial(Adam, lr=1e-2)),
        loader(x, y / 100, batch_size=32),
        trainer={"max_epochs": 8},
    )


@program
def poisson_counts() -> Program:
    """Counts drawn around a log-linear mean; the loss without its constant is negative."""
    x = torch.randn(1500, 8)
    rate = (0.4 * x @ torch.tensor([1.0, -1, 0.5, 0.5, 0, 0, 1, -0.5]) + 1.0).exp()
    net = nn.Sequential(nn.Linear(8, 1), nn.Flatten(0))
    module = Supervised(net, nn.PoissonNLLLoss(), partial(SGD, lr=0.02))
    return Program(module, loader(x, torch.poisson(rate)), trainer={"max_epochs": 6})


def log_of_positive(output: Tensor, target: Tensor) -> Tensor:
    """Squared error of logarithms where the target is positive; both places of `where` are safe."""
    positive = target > 0
    safe = torch.where(positive, target, torch.ones_like(target))
    return torch.where(positive, (output - safe.log()) ** 2, torch.zeros_like(output)).mean()


@program
def masked_safe_log() -> Program:
    """A third of the targets is zero: the masked logarithm leaves no trace in the gradient."""
    x, y = diabetes()
    holes = torch.where(torch.rand_like(y) < 0.33, torch.zeros_like(y), y / 100)
    module = Supervised(mlp(10, 32, 1), log_of_positive, partial(Adam, lr=3e-3))
    return Program(module, loader(x, holes, batch_size=32), trainer={"max_epochs": 8})


def quantiles(output: Tensor, target: Tensor) -> Tensor:
    """Pinball loss of the deciles 1, 5 and 9."""
    levels = torch.tensor([0.1, 0.5, 0.9], device=output.device)
    error = target - output
    return torch.maximum(levels * error, (levels - 1) * error).mean()


@program
def quantile_regression() -> Program:
    x, y = diabetes()
    module = Supervised(mlp(10, 32, 3), quantiles, partial(Adam, lr=5e-3))
    return Program(module, loader(x, standardized(y), batch_size=32), trainer={"max_epochs": 8})


class Fourier(nn.Module):
    """Fixed random features in a buffer, a linear map on top."""

    def __init__(self, columns: int, features: int = 256) -> None:
        super().__init__()
        self.register_buffer("directions", torch.randn(columns, features) / math.sqrt(columns) / 2)
        self.head = nn.Linear(2 * features, 10)

    def forward(self, x: Tensor) -> Tensor:
        angles = x @ self.get_buffer("directions")
        out: Tensor = self.head(torch.cat([angles.sin(), angles.cos()], 1))
        return out


@program
def random_features() -> Program:
    train, val = digits(flat=True)
    module = Supervised(Fourier(64), F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9))
    return Program(module, train, val, {"max_epochs": 4})


class Plain(Supervised):
    """The loss comes back in a dict, and so does the optimiser; the rate is constant."""

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return {"loss": super().training_step(batch, batch_idx), "rows": len(batch[0])}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return {"optimizer": SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)}


@program
def step_returns_dict() -> Program:
    train, val = digits(flat=True)
    return Program(Plain(mlp(64, 64, 10), F.cross_entropy, SGD), train, val, {"max_epochs": 4})


class Shifted(torch.optim.Optimizer):
    """Fills a queue of gradients, and moves along the oldest once it is full, as AdaShift (Zhou et al., 2019) does."""

    def __init__(self, parameters: Any, lr: float = 0.05, wait: int = 10) -> None:
        super().__init__(parameters, {"lr": lr, "wait": wait})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                queue = self.state[parameter].setdefault("queue", [])
                queue.append(parameter.grad.clone())
                if len(queue) > group["wait"]:
                    size = queue[-1].square().mean().sqrt() + 1e-8
                    parameter.add_(queue.pop(0) / size, alpha=-0.1 * group["lr"])
        return loss


class InTurns(SGD):
    """Adds up the gradients of some steps before each move, and counts them by itself."""

    def __init__(self, parameters: Any, lr: float, every: int = 16) -> None:
        super().__init__(parameters, lr=lr)
        self.every, self.seen, self.sums = every, 0, {}

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                self.sums[parameter] = self.sums.get(parameter, 0) + parameter.grad / self.every
        self.seen += 1
        if self.seen % self.every == 0:
            for parameter, total in self.sums.items():
                parameter.grad = total
            self.sums = {}
            super().step()
        return loss


@program
def gradients_gathered_before_the_first_move() -> Program:
    x, y = table("breast_cancer")
    module = Supervised(mlp(30, 16, 2), F.cross_entropy, partial(Shifted, lr=0.01))
    return Program(module, loader(x, y, batch_size=16), trainer={"max_epochs": 2})


@program
def a_move_every_sixteen_steps() -> Program:
    x, y = table("breast_cancer")
    module = Supervised(mlp(30, 16, 2), F.cross_entropy, partial(InTurns, lr=0.5))
    return Program(module, loader(x, y, batch_size=16), trainer={"max_epochs": 4})


class Symmetric(Supervised):
    """Has a part whose output all but cancels: its gradient is what rounding leaves, far below the eps of Adam."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(10, 1), F.mse_loss, partial(Adam, lr=0.01))
        self.odd = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 1e-17 * self.odd(x).mean(1, keepdim=True)


@program
def a_part_that_cancels_by_symmetry() -> Program:
    x, y = diabetes()
    return Program(Symmetric(), loader(x, standardized(y)), trainer={"max_epochs": 8})


class HeldBack(Supervised):
    """Gradients are set to 0 in a hook for the first 40 steps: of the first layer, or of all as statistics warm up."""

    def __init__(self, every: bool) -> None:
        super().__init__(mlp(64, 32, 10), F.cross_entropy, partial(SGD, lr=0.1))
        self.held = list(self.net.parameters())[: None if every else 2]

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.global_step < 40:
            for parameter in self.held:
                assert parameter.grad is not None
                parameter.grad.zero_()


@program
def first_layer_held_back_by_its_gradient() -> Program:
    train, val = digits(flat=True)
    return Program(HeldBack(every=False), train, val, {"max_epochs": 4})


@program
def all_held_back_by_their_gradients() -> Program:
    train, val = digits(flat=True)
    return Program(HeldBack(every=True), train, val, {"max_epochs": 4})


class FrozenByHook(Supervised):
    """A layer of random features is kept by clearing its gradient at each step."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        for parameter in self.net[0].parameters():  # type: ignore[index, operator]  # a Sequential
            parameter.grad = None


@program
def layer_frozen_by_clearing_its_gradient() -> Program:
    train, val = digits(flat=True)
    return Program(FrozenByHook(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1)), train, val, {"max_epochs": 4})


@program
def loss_scaled_by_hand() -> Program:
    """The loss is multiplied by 65,536 and the gradients are divided by it, as a scaler of one's own does."""

    class Scales(Supervised):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            x, y = batch
            return self.loss(self(x), y) * 65536

        def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
            for parameter in self.parameters():
                assert parameter.grad is not None
                parameter.grad /= 65536

    train, val = digits(flat=True)
    return Program(Scales(mlp(64, 64, 10), F.cross_entropy, partial(SGD, lr=0.1)), train, val, {"max_epochs": 4})
