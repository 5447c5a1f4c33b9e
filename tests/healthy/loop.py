"""Loops that come close to a fault: modes, metrics and schedules that are as they are on purpose."""

import copy
from collections import deque
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from healthy.parts import Batch, Program, Supervised, digits, mlp, program


class Classifies(Supervised):
    """The digits, with batch norm and dropout."""

    def __init__(self) -> None:
        net = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
        super().__init__(net, F.cross_entropy, partial(AdamW, lr=3e-3))


def on_digits(module: Supervised, **trainer: Any) -> Program:
    train, val = digits(batch_size=32, flat=True)
    return Program(module, train, val, {"max_epochs": 3, **trainer})


@program
def monte_carlo_dropout() -> Program:
    """Dropout layers, and they alone, drop in validation; the answers of five passes are averaged."""

    class Samples(Classifies):
        def on_validation_epoch_start(self) -> None:
            for part in self.modules():
                if isinstance(part, nn.Dropout):
                    part.train()

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            x, y = batch
            shares = torch.stack([self(x).softmax(-1) for _ in range(5)]).mean(0)
            self.log("right", (shares.argmax(-1) == y).float().mean())

    return on_digits(Samples())


@program
def best_accuracy_of_the_run() -> Program:
    """A maximum lasts; what it is taken of is reset by Lightning."""

    class Counts(Classifies):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy, self.best, self.mean = MulticlassAccuracy(10), MaxMetric(), MeanMetric()

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            x, y = batch
            scores = self(x)
            self.accuracy(scores, y)
            self.mean(F.cross_entropy(scores, y))
            self.log("accuracy", self.accuracy)
            self.log("mean", self.mean)

        def on_validation_epoch_end(self) -> None:
            self.best.update(self.accuracy.compute())
            self.log("best", self.best.compute())

        def configure_callbacks(self) -> list[Callback]:
            return [EarlyStopping("accuracy", mode="max", patience=5), EarlyStopping("mean", patience=5)]

    return on_digits(Counts())


@program
def error_rates_and_negated_losses_are_followed() -> Program:
    """Each in its own direction, though what they are made of has the other."""

    class Follows(Classifies):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            x, y = batch
            scores = self(x)
            self.log("wrong", (scores.argmax(-1) != y).float().mean())
            self.log("missed", 1 - (scores.argmax(-1) == y).float().mean())
            self.log("score", -F.cross_entropy(scores, y))

        def configure_callbacks(self) -> list[Callback]:
            names = {"wrong": "min", "missed": "min", "score": "max"}
            return [EarlyStopping(name, mode=mode, patience=5) for name, mode in names.items()]

    return on_digits(Follows())


class Steps(Classifies):
    """Steps its schedule by hand at each batch."""

    frequency = 10**9  # Lightning never gets there

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        schedules: Any = self.lr_schedulers()
        schedules.step()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        schedule = CosineAnnealingLR(optimizer, int(self.trainer.estimated_stepping_batches))
        return [optimizer], [{"scheduler": schedule, "frequency": self.frequency}]


@program
def schedule_that_lightning_is_kept_from() -> Program:
    return on_digits(Steps())


@program
def two_updates_of_a_batch_by_hand() -> Program:
    """Manual optimization, and one step of the schedule for both updates."""

    class Manual(Steps):
        frequency = 1

        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:
            x, y = batch
            optimizer: Any = self.optimizers()
            for _ in range(2):
                optimizer.zero_grad()
                self.manual_backward(F.cross_entropy(self(x), y))
                optimizer.step()
            schedules: Any = self.lr_schedulers()
            schedules.step()

    return on_digits(Manual())


@program
def heads_that_take_turns() -> Program:
    """Thirty batches each: a head that is not asked has no gradient, and nothing cuts it off."""

    class Turns(Classifies):
        def __init__(self) -> None:
            super().__init__()
            self.heads = nn.ModuleList(mlp(10, 10) for _ in range(2))

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            x, y = batch
            head = self.heads[self.trainer.global_step // 30 % 2]
            scores: Tensor = head(self(x))
            return F.cross_entropy(scores, y)

    return on_digits(Turns(), max_epochs=3)


@program
def pruned_for_validation_and_kept() -> Program:
    """Small weights are set to 0 as validation begins, training goes on so, and a copy is kept."""

    class Prunes(Classifies):
        def on_validation_start(self) -> None:
            with torch.no_grad():
                for weight in self.parameters():
                    weight[weight.abs() < 1e-3] = 0
            self.pruned = {name: value.clone() for name, value in self.state_dict().items()}

    return on_digits(Prunes())


@program
def rate_that_was_searched_for() -> Program:
    """The search leaves an optimizer that a scheduler was built on."""

    class Finds(Classifies):
        lr = 3e-3

        def configure_optimizers(self) -> Any:
            return AdamW(self.parameters(), lr=self.lr)

        def configure_callbacks(self) -> list[Callback]:
            return [LearningRateFinder(min_lr=1e-4, max_lr=1e-2, num_training_steps=20)]

    return on_digits(Finds())


@program
def a_reference_that_is_a_copy_and_stays() -> Program:
    """The network is to stay near what it was: the copy of the begin is called in training and in validation."""

    class Stays(Classifies):
        def __init__(self) -> None:
            super().__init__()
            self.reference = copy.deepcopy(self.net).requires_grad_(False)

        def on_train_epoch_start(self) -> None:
            self.reference.eval()

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            far = F.mse_loss(self(batch[0]), self.reference(batch[0]))
            return super().training_step(batch, batch_idx) + 0.01 * far

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            super().validation_step(batch, batch_idx)
            self.log("moved", F.mse_loss(self(batch[0]), self.reference(batch[0])))

    return on_digits(Stays())


@program
def means_of_classes_are_counted() -> Program:
    """Fitted in one pass without gradients, as banks of features and Gaussians for anomalies are: no optimizer."""

    class Counts(Classifies):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Identity()
            self.sums, self.counts = nn.Buffer(torch.zeros(10, 64)), nn.Buffer(torch.ones(10))

        def forward(self, x: Tensor) -> Tensor:
            return -torch.cdist(x, self.sums / self.counts[:, None])

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            self.sums.index_add_(0, batch[1], batch[0])
            self.counts.index_add_(0, batch[1], torch.ones(len(batch[1])))

        def configure_optimizers(self) -> None:  # type: ignore[override]
            return None

    return on_digits(Counts(), max_epochs=1)


class Collected(Supervised):
    """Predictions of an epoch with their graphs, as Lightning's guide collects them; the last loss; a few of before."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10), F.cross_entropy, lambda parts: Adam(parts, lr=1e-3))
        self.outputs: list[Tensor] = []
        self.recent: deque[Tensor] = deque(maxlen=50)
        self.last: Tensor | None = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        scores = self(batch[0])
        self.last = F.cross_entropy(scores, batch[1])
        self.outputs.append(scores)
        self.recent.append(self.last)
        return self.last

    def on_train_epoch_end(self) -> None:
        self.log("spread", torch.cat(self.outputs).std())
        self.outputs.clear()


@program
def predictions_are_collected_for_an_epoch() -> Program:
    return Program(Collected(), digits(flat=True)[0], None, {"max_epochs": 4})


@program
def epochs_left_out_by_a_hook() -> Program:
    """A hook that returns -1 ends an epoch, here each in which only validation is wanted."""

    class Pauses(Classifies):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
            return -1 if self.current_epoch in (1, 2, 4) else None

    return on_digits(Pauses(), max_epochs=5)
