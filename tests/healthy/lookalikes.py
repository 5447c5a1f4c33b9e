"""Programs that do what a fault would do, and mean it: masks, overlaps, pairs and metrics that come close to one."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torchmetrics.classification import MulticlassAccuracy

from healthy.parts import Batch, Program, Supervised, digits, images, loader, mlp, pixels, program, table


class Tokens(LightningModule):
    """Classes of padded ids; ``mask`` is what attention is kept from."""

    def __init__(self, mask: Any) -> None:
        super().__init__()
        self.words, self.head, self.mask = nn.Embedding(20, 16), nn.Linear(16, 2), mask
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        h = self.words(x)
        h = h + self.attention(h, h, h, key_padding_mask=self.mask(x))[0]
        return F.cross_entropy(self.head(h.masked_fill((x == 0)[..., None], 0).mean(1)), y)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


def tokens(module: Tokens, is_left: bool = False, first: int = 0) -> Program:
    x, y = torch.randint(2, 20, (512, 12)), torch.randint(2, (512,))
    x[:, 1] = 2 + y
    x = x.masked_fill(torch.arange(12) >= torch.randint(3, 12, (512, 1)), 0)
    x[:, 0] = first or x[:, 0]
    return Program(module, loader(x.flip(1) if is_left else x, y), None, {"max_epochs": 2})


@program
def padding_on_the_left() -> Program:
    return tokens(Tokens(lambda x: x == 0), is_left=True)


@program
def attention_to_the_first_token_alone() -> Program:
    """Which is the same in each row, and stands for all of it."""
    return tokens(Tokens(lambda x: torch.arange(x.shape[1]).expand_as(x) > 0), first=1)


class Masked(LightningModule):
    """Grey levels where the mask is, by what a layer gives; the share of a mask that shares meet."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, mask = batch
        grey, logits = self.net(x).split(1, 1)
        p = logits.sigmoid()
        # A mean where the mask is, of outputs and of squares of them; Tversky's index of probabilities.
        level = ((grey * mask).sum() / mask.sum() - (x * mask).sum() / mask.sum()).square()
        error = ((grey * mask - x * mask).square().sum()) / mask.sum().clamp(min=1)
        met, missed, wrong = (p * mask).sum(), ((1 - p) * mask).sum(), (p * (1 - mask)).sum()
        return level + error + 1 - met / (met + 0.3 * wrong + 0.7 * missed)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def outputs_and_shares_within_a_mask() -> Program:
    x, _ = pixels()
    return Program(Masked(), loader(x, (x > 0.4).float()), None, {"max_epochs": 2})


class TwoViews(LightningModule):
    """Embeddings of two views by dropout; in validation both are the same, as dropout is off."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 16))

    def loss(self, x: Tensor) -> Tensor:
        one, other = self.net(x), self.net(x)
        # Lengths by hand, a column and a row: all pairs are wanted.
        sizes = one.norm(dim=1, keepdim=True) * other.norm(dim=1)
        near = one @ other.T / sizes
        labels = torch.arange(len(x))
        self.log("found", (near.argmax(0) == labels).float().mean())
        return F.cross_entropy(near / 0.1, labels)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(batch[0])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch[0]))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def views_by_dropout() -> Program:
    return Program(TwoViews(), *digits(flat=True), {"max_epochs": 2})


@program
def soft_and_missing_labels() -> Program:
    """Labels mixed of two images, and rows of zeros for those without any."""
    x, y = images()
    soft = 0.7 * F.one_hot(y, 10) + 0.3 * F.one_hot(y.roll(1), 10)
    soft[::9] = 0
    soft[1::9] = F.one_hot(y[1::9], 10).float()
    return Program(
        Supervised(mlp(64, 32, 10), F.cross_entropy, partial(Adam, lr=3e-3)), loader(x.flatten(1), soft), None,
        {"max_epochs": 2},
    )  # fmt: skip


@program
def last_image_alone() -> Program:
    """Batch norm of images has many numbers of one sample."""
    x, y = images()
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    return Program(
        Supervised(net, F.cross_entropy, partial(Adam, lr=3e-3)), loader(x[:513], y[:513]), None, {"max_epochs": 2}
    )


class OneMetric(Supervised):
    """An accuracy that both stages use for the value of each batch, which is all that is logged."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10), F.cross_entropy, partial(Adam, lr=3e-3))
        self.accuracy = MulticlassAccuracy(10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        self.log("right", self.accuracy(self(batch[0]), batch[1]))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_right", self.accuracy(self(batch[0]), batch[1]))


@program
def metric_of_one_batch_at_a_time() -> Program:
    return Program(OneMetric(), *digits(flat=True), {"max_epochs": 3})


@program
def validation_kept_for_later() -> Program:
    """Nothing follows what it would log."""
    module = Supervised(mlp(64, 32, 10), F.cross_entropy, partial(Adam, lr=3e-3))
    return Program(module, *digits(flat=True), {"max_epochs": 2, "check_val_every_n_epoch": 5})


class InTurn(LightningModule):
    """The second optimizer waits for the first to be through an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.parts = nn.ModuleList(nn.Linear(10, 1) for _ in range(2))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        x, y = batch
        optimizers: Any = self.optimizers()
        for at, optimizer in enumerate(optimizers):
            if at <= self.current_epoch:
                optimizer.zero_grad()
                self.manual_backward(F.mse_loss(self.parts[at](x).squeeze(1), y))
                optimizer.step()

    def configure_optimizers(self) -> Any:
        return [Adam(part.parameters(), lr=1e-2) for part in self.parts]


@program
def optimizers_that_wait_for_each_other() -> Program:
    x, y = table("diabetes")
    return Program(InTurn(), loader(x, (y - y.mean()) / y.std(), batch_size=32), None, {"max_epochs": 2})
