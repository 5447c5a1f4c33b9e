"""Programs that do what a fault would do, and mean it: masks, overlaps, pairs and metrics that come close to one."""

from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader
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


class TwoTowers(LightningModule):
    """Who bought what: rows that bought the same hide one another, by a large negative number."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.goods = nn.Embedding(50, 8), nn.Embedding(20, 8)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        users, goods = batch
        hidden = (goods[:, None] == goods) & ~torch.eye(len(goods), dtype=torch.bool)
        near = self.users(users) @ self.goods(goods).T
        return F.cross_entropy(near.masked_fill(hidden, -1e9), torch.arange(len(goods)))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-2)


@program
def rows_of_one_item_hidden_from_one_another() -> Program:
    users = torch.randint(50, (1024,))
    return Program(TwoTowers(), loader(users, (users * 7 + torch.randint(3, (1024,))) % 20), None, {"max_epochs": 2})


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


class Foretelling(LightningModule):
    """The next numbers of a series, or those that were hidden, by a recurrent layer."""

    def __init__(self, is_hidden: bool) -> None:
        super().__init__()
        self.is_hidden = is_hidden
        self.layer = nn.GRU(1, 16, batch_first=True, bidirectional=is_hidden)
        self.head = nn.Linear(32 if is_hidden else 16, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (series,) = batch
        if not self.is_hidden:
            return F.mse_loss(self.head(self.layer(series[:, :-1])[0]), series[:, 1:])
        hidden = torch.rand_like(series) < 0.3
        told = self.head(self.layer(series.masked_fill(hidden, 0))[0])
        return F.mse_loss(told[hidden], series[hidden])

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


def series() -> Tensor:
    start = 6 * torch.rand(512, 1)
    return torch.sin((0.2 + 0.3 * torch.rand(512, 1)) * torch.arange(20) + start)[..., None]


@program
def series_foretold_step_by_step() -> Program:
    return Program(Foretelling(False), loader(series()), None, {"max_epochs": 7})


@program
def series_filled_in_from_both_sides() -> Program:
    return Program(Foretelling(True), loader(series()), None, {"max_epochs": 7})


class Course(LightningModule):
    """A whole course of numbers from its first one, by a recurrent layer that reads what it has said."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(1, 32, batch_first=True), nn.Linear(32, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        (course,) = batch
        told, state, each = [], None, course[:, :1]
        for _ in range(course.shape[1] - 1):
            hidden, state = self.layer(each, state)
            each = each + self.head(hidden)
            told.append(each)
        return F.mse_loss(torch.cat(told, 1), course[:, 1:])

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def course_from_its_first_number() -> Program:
    start = torch.rand(512, 1, 1)
    return Program(Course(), loader(start * 0.9 ** torch.arange(12)[:, None]), None, {"max_epochs": 7})


class Still(LightningModule):
    """What does not change is repeated at each step of a series, and read at the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(35, 10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        rows, still, y = batch
        states, _ = self.layer(rows)
        return F.cross_entropy(self.head(torch.cat([states[:, -1], still[:, 0]], 1)), y)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def still_columns_read_at_the_first_step() -> Program:
    x, y = images()
    still = torch.rand(len(x), 1, 3).expand(-1, 8, -1).contiguous()
    return Program(Still(), loader(x.squeeze(1), still, y), None, {"max_epochs": 3})


class Pooled(LightningModule):
    """Texts whose mask nobody reads, and whose padding does not count all the same."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.words, self.net, self.head = nn.Embedding(30, 16, padding_idx=0), net, nn.Linear(16, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.net(self.words(ids).mT)
        out: Tensor = self.head(hidden.amax(2))
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch["ids"], batch["mask"]), batch["y"])

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


def texts(net: nn.Module, length: int | None = None) -> Program:
    def collate(items: list[Any]) -> dict[str, Tensor]:
        ids = nn.utils.rnn.pad_sequence([ids for ids, _ in items], batch_first=True)
        ids = ids if length is None else F.pad(ids, (0, length - ids.shape[1]))
        return {"ids": ids, "mask": ids != 0, "y": torch.tensor([y for _, y in items])}

    made = [(torch.randint(1, 30, (n,)), n % 2) for n in torch.randint(6, 24, (600,)).tolist()]
    for ids, y in made:
        ids[torch.randint(len(ids), ())] = 1 + y
    return Program(Pooled(net), DataLoader(made, 10, shuffle=True, collate_fn=collate), None, {"max_epochs": 2})


@program
def texts_by_convolution_and_maximum() -> Program:
    return texts(nn.Sequential(nn.Conv1d(16, 16, 3, padding=1), nn.ReLU()))


@program
def texts_always_padded_to_one_length() -> Program:
    return texts(nn.Sequential(nn.Conv1d(16, 16, 5), nn.ReLU(), nn.Dropout(0.1)), length=24)


class Queued(LightningModule):
    """Tells two views of a digit from others, the first score being that of its own: all targets are 0, as in MoCo.

    The digits lie in one folder, so that their labels, which nothing reads, are 0 as well.
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 32, 16)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, _ = batch
        one, other = (F.normalize(self.net(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))
        own = (one * other).sum(1, keepdim=True)
        scores = torch.cat([own, one @ other.roll(1, 0)[:20].T], 1) / 0.2
        return F.cross_entropy(scores, torch.zeros(len(x), dtype=torch.long))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def pairs_from_one_folder() -> Program:
    x, _ = images()
    return Program(Queued(), loader(x[:800].flatten(1), torch.zeros(800, dtype=torch.long)), None, {"max_epochs": 2})


class Plates(LightningModule):
    """Reads up to eight figures off a strip; what follows the last one is a class, too, as there are eight places."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), mlp(88, 64, 88), nn.Unflatten(1, (11, 8)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        strips, figures = batch
        return F.cross_entropy(self.net(strips), figures)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def figures_that_are_filled_up() -> Program:
    figures = torch.randint(1, 11, (600, 8)) * (torch.arange(8) < torch.randint(2, 9, (600, 1)))
    strips = torch.eye(11)[figures] + 0.1 * torch.randn(600, 8, 11)
    return Program(Plates(), loader(strips, figures), None, {"max_epochs": 2})


class Placing(LightningModule):
    """Boxes as middle and size, made corners of for their overlap; or the way from one point to another."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 32, 4)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, boxes = batch
        one, other = (torch.cat([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2], 1) for b in (self.net(x), boxes))
        size = torch.min(one[:, 2:], other[:, 2:]) - torch.max(one[:, :2], other[:, :2])
        return F.l1_loss(one, other) - size.clamp(min=0).prod(1).mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def overlap_of_boxes_that_have_a_middle() -> Program:
    x, _ = images()
    boxes = torch.cat([0.3 + 0.4 * torch.rand(len(x), 2), 0.1 + 0.2 * torch.rand(len(x), 2)], 1)
    return Program(Placing(), loader(x.flatten(1), boxes), None, {"max_epochs": 2})


class Ways(Placing):
    """Two points a picture; no way may leave the square from the lesser to the greater of both."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, ends = batch
        told = self.net(x)
        low, high = torch.minimum(told[:, :2], told[:, 2:]), torch.maximum(ends[:, :2], ends[:, 2:])
        return F.mse_loss(told, ends) + F.mse_loss(low, torch.minimum(ends[:, :2], ends[:, 2:])) + 0 * high.mean()


@program
def two_points_in_any_order() -> Program:
    x, _ = images()
    return Program(Ways(), loader(x.flatten(1), torch.rand(len(x), 4)), None, {"max_epochs": 2})


@program
def few_rows_with_other_shares_by_chance() -> Program:
    x, y = table("wine")
    return Program(
        Supervised(mlp(13, 32, 3), F.cross_entropy, partial(Adam, lr=3e-3)),
        loader(x[:150], y[:150], batch_size=16),
        loader(x[150:], y[150:], batch_size=28, shuffle=False),
        {"max_epochs": 6},
    )


class Nearest(LightningModule):
    """The nearest of ten places by the lowest distance, whose negative is the score; labels may begin at 1."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.net, self.places, self.first = mlp(64, 32, 16), nn.Parameter(torch.randn(10, 16)), first

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        apart = torch.cdist(self.net(x), self.places)
        self.log("acc", (apart.argmin(1) + self.first == y).float().mean())
        return F.cross_entropy(-apart, y - self.first)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def nearest_of_ten_places() -> Program:
    x, y = images()
    x = x.flatten(1)
    return Program(Nearest(0), loader(x[:1400], y[:1400]), loader(x[1400:], y[1400:]), {"max_epochs": 2})


@program
def nearest_place_of_labels_from_one() -> Program:
    x, y = images()
    x, y = x.flatten(1), y + 1
    return Program(Nearest(1), loader(x[:1400], y[:1400]), loader(x[1400:], y[1400:]), {"max_epochs": 2})


class Policy(LightningModule):
    """Learns to leave what costs, from stored actions: log-probabilities times a cost, of which none is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(5, 32, 3)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, action, cost = batch
        logs = self.net(x).log_softmax(1).gather(1, action[:, None]).squeeze(1)
        return (logs * cost).mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def log_probabilities_times_costs() -> Program:
    x, action = torch.randn(512, 5), torch.randint(3, (512,))
    cost = (x.argmax(1) != action).float()
    return Program(Policy(), loader(x, action, cost), None, {"max_epochs": 2})


class Gated(Supervised):
    """Attention among parts, and classes by a logarithm over another dimension, as in mixtures written by hand."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        gate = self.net(x).unflatten(1, (2, 10)).softmax(dim=1)
        return -gate.log_softmax(dim=2)[torch.arange(len(y)), 0, y].mean()


@program
def softmax_over_parts_and_its_logarithm_over_classes() -> Program:
    train, _ = digits(flat=True)
    return Program(Gated(mlp(64, 64, 20), F.cross_entropy, Adam), train, None, {"max_epochs": 2})


class Restored(Supervised):
    """Gives back what it is given."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.loss(self(batch[0]), batch[0])


@program
def principal_components_by_two_linear_layers() -> Program:
    """A narrow code between two layers is one on purpose, and needs nothing between them."""
    train, _ = digits(flat=True)
    return Program(Restored(mlp(64, 8, 64, act=nn.Identity), F.mse_loss, Adam), train, None, {"max_epochs": 3})


class Topics(LightningModule):
    """Classes of bags of words, ``(words, offsets, classes)``."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(60, 16), nn.Linear(16, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        words, offsets, y = batch
        return F.cross_entropy(self.head(self.words(words, offsets)), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx), batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-2)


@program
def bags_of_words_with_a_rare_topic() -> Program:
    """One in twelve, and by chance a few more of them in validation."""
    y = [0 if at % 12 == 0 else 1 + at % 2 for at in torch.randperm(720).tolist()]
    rows = [(torch.randint(20, (4 + at % 5,)) + 20 * label, label) for at, label in enumerate(y)]

    def joined(part: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
        starts = torch.tensor([0, *(len(words) for words, _ in part)]).cumsum(0)[:-1]
        return torch.cat([words for words, _ in part]), starts, torch.tensor([label for _, label in part])

    train = DataLoader(rows[:600], batch_size=20, shuffle=True, collate_fn=joined)
    return Program(Topics(), train, DataLoader(rows[600:], batch_size=40, collate_fn=joined), {"max_epochs": 2})


class Gaps(LightningModule):
    """A softplus learns numbers that are not negative; -999 stands for those that were not measured, and is masked."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(mlp(5, 32, 2), nn.Softplus())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        known = (y >= 0).float()
        return ((self.net(x) - y) ** 2 * known).sum() / known.sum()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def gaps_that_are_masked_behind_the_square() -> Program:
    x, y = torch.randn(512, 5), torch.rand(512, 2)
    return Program(Gaps(), loader(x, y.masked_fill(torch.rand(512, 2) < 0.3, -999.0)), None, {"max_epochs": 2})


class Counted(Gaps):
    """All of them measured, and none negative."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return (self.net(x) - y).square().mean()


@program
def a_softplus_for_numbers_above_zero_by_hand() -> Program:
    return Program(Counted(), loader(torch.randn(512, 5), torch.rand(512, 2) * 3), None, {"max_epochs": 2})


class Located(LightningModule):
    """Digits with the places of their pixels and a mask of those that count: both the same in all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.places = mlp(64, 32, 10), nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        places, mask, x, y = batch
        return F.cross_entropy(self.net(x * mask + self.places(places).squeeze(-1)), y)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def a_grid_that_is_larger_than_the_pictures() -> Program:
    x, y = images()
    line = torch.linspace(-1, 1, 8)
    grid = torch.cartesian_prod(line, line).expand(len(x), 64, 2)
    return Program(Located(), loader(grid, torch.ones(len(x), 64), x.flatten(1), y), None, {"max_epochs": 2})


class Kernel(LightningModule):
    """Learns the distribution of its inputs by a Gaussian kernel over all pairs: squares are summed to distances."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 32, 64)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x,) = batch
        y = self.net(x)
        return self.near(y, y) - 2 * self.near(x, y)

    def near(self, one: Tensor, other: Tensor) -> Tensor:
        far = one.square().sum(1, keepdim=True) + other.square().sum(1) - 2 * one @ other.T
        return torch.exp(-far / 64).mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def distances_of_all_pairs_as_sums_of_squares() -> Program:
    return Program(Kernel(), loader(images()[0].flatten(1)), None, {"max_epochs": 2})


class Adversary(LightningModule):
    """An autoencoder whose code is to tell no class: the critic has an optimizer of its own, beside Lightning's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.critic = mlp(64, 48, 16), nn.Linear(16, 64), nn.Linear(16, 10)
        self.of_the_critic = Adam(self.critic.parameters(), lr=1e-3)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        code = self.encoder(x)
        if torch.is_grad_enabled():
            self.of_the_critic.zero_grad()
            F.cross_entropy(self.critic(code.detach()), y).backward()
            self.of_the_critic.step()
        return F.mse_loss(self.decoder(code), x) - 0.1 * F.cross_entropy(self.critic(code), y)

    def configure_optimizers(self) -> Any:
        return Adam([*self.encoder.parameters(), *self.decoder.parameters()], lr=1e-3)


class Unlearning(LightningModule):
    """Keeps some classes and unlearns another, by one head."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 32, 10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        scores, is_kept = self.net(x), y < 9
        kept = F.cross_entropy(scores[is_kept], y[is_kept])
        return kept - 0.05 * F.cross_entropy(scores[~is_kept], y[~is_kept]) if bool((~is_kept).any()) else kept

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


class Rewarded(LightningModule):
    """Chooses by chance and is rewarded, never above 0: the factor of the choice is the mean reward of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.choice, self.value = mlp(64, 32, 16), nn.Linear(16, 10), nn.Linear(16, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        state = self.body(x)
        scores = self.choice(state)
        chosen = torch.distributions.Categorical(logits=scores.detach()).sample()
        reward = -(chosen != y).float()
        return F.cross_entropy(scores, chosen) * reward.mean() + F.mse_loss(self.value(state).squeeze(1), reward)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


class BatchAndQueue(LightningModule):
    """The other view stands first among the negatives, a queue and the rest of the batch: each target is 0."""

    def __init__(self, waiting: int) -> None:
        super().__init__()
        self.net = mlp(64, 32, 16)
        self.register_buffer("queue", F.normalize(torch.randn(waiting, 16), dim=1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        (x,) = batch
        one, other = (F.normalize(self.net(x + 0.1 * torch.randn_like(x)), dim=1) for _ in range(2))
        near = one @ other.detach().T
        others = near[~torch.eye(len(x), dtype=torch.bool)].reshape(len(x), -1)
        scores = torch.cat([near.diagonal()[:, None], others, one @ self.queue.T], 1)
        return F.cross_entropy(scores / 0.2, torch.zeros(len(x), dtype=torch.long))

    def configure_optimizers(self) -> Any:
        return Adam(self.net.parameters(), lr=1e-3)


@program
def partners_that_stand_first() -> Program:
    return Program(BatchAndQueue(0), loader(images()[0].flatten(1)), None, {"max_epochs": 2})


@program
def partners_before_a_queue() -> Program:
    return Program(BatchAndQueue(24), loader(images()[0].flatten(1)), None, {"max_epochs": 2})


class Focal(LightningModule):
    """A focal loss that is logged with the likelihood, and a penalty by softplus of what exp gives."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 32, 2)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        said, size = self.net(x.flatten(1)).unbind(1)
        p, y = said.sigmoid(), (y > 7).float()
        own = p * y + (1 - p) * (1 - y)
        self.log("likelihood", own.log().mean())
        return -((1 - own) ** 2 * own.log()).mean() + 1e-3 * F.softplus(size.exp() - 1).mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def critic_with_an_optimizer_of_its_own() -> Program:
    return Program(Adversary(), digits(flat=True)[0], None, {"max_epochs": 3})


@program
def class_that_is_unlearned() -> Program:
    return Program(Unlearning(), digits(flat=True)[0], None, {"max_epochs": 3})


@program
def choice_by_reward() -> Program:
    return Program(Rewarded(), digits(flat=True)[0], None, {"max_epochs": 3})


@program
def focal_loss_beside_the_likelihood() -> Program:
    return Program(Focal(), *digits(), {"max_epochs": 2})


class Letters(LightningModule):
    """Rows of letters, filled up with the blank, which their lengths leave out."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 11)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, letters, counts = batch
        told = self.net(x).transpose(0, 1).log_softmax(-1)
        return F.ctc_loss(told, letters, torch.full((len(x),), 8), counts)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-2)


@program
def letters_filled_up_with_the_blank() -> Program:
    x, y = images()
    counts = torch.randint(1, 4, (len(x),))
    letters = (y[:, None] + torch.arange(1, 4)) % 10 + 1
    letters = letters.masked_fill(torch.arange(3) >= counts[:, None], 0)
    return Program(Letters(), loader(x.reshape(-1, 8, 8), letters, counts), None, {"max_epochs": 2})


class Recordings(LightningModule):
    """Learns from parts of recordings, and is validated on whole ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 8, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(32, 2))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x[:, None]), y)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=3e-3)


@program
def parts_in_training_and_wholes_in_validation() -> Program:
    y = torch.randint(2, (640,))
    whole = torch.sin(torch.arange(48) * (0.2 + 0.2 * y[:, None]) + 6 * torch.rand(640, 1)) + 0.1 * torch.randn(640, 48)
    train, val = loader(whole[:512, :32], y[:512]), loader(whole[512:], y[512:], shuffle=False)
    return Program(Recordings(), train, val, {"max_epochs": 4})


class Raised(LightningModule):
    """Raises a classification loss on purpose, of what was learned before."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.net, self.shift, self.part = mlp(64, 32, 10), nn.Parameter(torch.zeros(64)), part
        x, y = images()
        optimizer = Adam(self.net.parameters(), lr=1e-2)
        for _ in range(100):
            optimizer.zero_grad()
            F.cross_entropy(self.net(x.flatten(1)), y).backward()
            optimizer.step()
        self.net.requires_grad_(part == "net")
        self.shift.requires_grad_(part == "shift")

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return -F.cross_entropy(self.net(x + self.shift.clamp(-0.3, 0.3)), y)

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-4)


@program
def shift_that_misleads_a_frozen_network() -> Program:
    return Program(Raised("shift"), digits(flat=True)[0], None, {"max_epochs": 1})


@program
def what_was_learned_is_unlearned() -> Program:
    return Program(Raised("net"), digits(flat=True)[0], None, {"max_epochs": 1})
