"""Schedules that end low in health: decays at milestones, by epoch and by step."""

from functools import partial

from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, StepLR

from healthy.parts import MakeSchedule, Program, Supervised, digits, mlp, program


def decayed(schedule: MakeSchedule, epochs: int, interval: str = "epoch") -> Program:
    """The digits, 45 steps an epoch, at a rate whose hundredth is exact in floats."""
    train, val = digits(batch_size=32, flat=True)
    module = Supervised(mlp(64, 32, 10), F.cross_entropy, partial(AdamW, lr=1e-3), schedule, interval)
    return Program(module, train, val, {"max_epochs": epochs})


@program
def milestones_late_in_the_run() -> Program:
    """A tenth at five and seven epochs of nine."""
    return decayed(partial(MultiStepLR, milestones=[5, 7], gamma=0.1), 9)


@program
def a_tenth_at_each_third() -> Program:
    """The recipe of ImageNet, 30 and 60 epochs of 90, at a tenth of its length."""
    return decayed(partial(StepLR, step_size=3, gamma=0.1), 9)


@program
def milestones_of_a_long_run() -> Program:
    """Both lie in the first quarter, and far enough apart to have been meant."""
    return decayed(partial(MultiStepLR, milestones=[2, 4], gamma=0.1), 17)


@program
def milestones_in_steps() -> Program:
    return decayed(partial(MultiStepLR, milestones=[200, 300], gamma=0.1), 9, "step")


@program
def averaged_weights_with_batch_norm() -> Program:
    """Lightning reads one epoch more, without any backward, for the statistics of the averaged network."""
    made = decayed(partial(StepLR, step_size=3, gamma=0.5), 4)
    made.module.net.insert(1, nn.BatchNorm1d(32))
    averaging = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=2)
    made.module.configure_callbacks = lambda: [averaging]
    return made


class Steady:
    """A schedule of one's own that keeps the rate, however often it is stepped."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.rate = optimizer, 1e-3

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def state_dict(self) -> dict[str, float]:
        return {"rate": self.rate}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.rate = state["rate"]


@program
def steady_schedule_of_ones_own() -> Program:
    made = decayed(Steady, 3, "step")
    made.module.lr_scheduler_step = lambda scheduler, metric: scheduler.step()
    return made


@program
def bfloat16_whose_warm_up_is_long() -> Program:
    """The first hundred steps are too small for 16 bits; those at the full rate are not."""
    made = decayed(lambda optimizer: LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 200)), 6, "step")
    net = made.module.net
    nn.init.constant_(net[0].bias, 0.5)
    return Program(made.module, made.train, made.val, {**made.trainer, "precision": "bf16-true"})
