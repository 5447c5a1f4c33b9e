"""Programs whose data, network or first loss come close to a fault before the first step, and mean it."""

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset

from healthy.parts import Batch, Program, digits, loader, mlp, pixels, program, table

EPOCHS = {"max_epochs": 3}


class ByHand(LightningModule):
    """A network whose loss no function of torch computes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return -self(x).log_softmax(1)[torch.arange(len(y)), y].mean()

    def configure_optimizers(self) -> Any:
        return Adam(self.parameters(), lr=1e-3)


@program
def likelihood_of_a_large_batch_by_hand() -> Program:
    """Batch norm counts on its own averages in eval mode, layer norm on the sample alone."""
    net = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.GELU(), nn.LayerNorm(128), nn.Linear(128, 10))
    train, _ = digits(batch_size=256, flat=True, drop_last=True)
    return Program(ByHand(net), train, None, {"max_epochs": 12})


class Twins(ByHand):
    """Correlations between the columns of two views, which ``forward`` standardises over the batch (Barlow Twins)."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return (z - z.mean(0)) / (z.std(0) + 1e-4)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        one, other = (self(batch[0] + 0.1 * torch.randn_like(batch[0])) for _ in range(2))
        correlations = one.T @ other / len(one)
        off = correlations - torch.diag(correlations.diagonal())
        return (1 - correlations.diagonal()).square().sum() + 5e-3 * off.square().sum()


@program
def columns_are_correlated_over_the_batch() -> Program:
    train, _ = digits(batch_size=64, flat=True, drop_last=True)
    return Program(Twins(mlp(64, 64, 16)), train, None, {"max_epochs": 4})


class Risks(ByHand):
    """Cox's partial likelihood: each risk is weighed against those of all who are still at risk; ``forward`` is not."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, time = batch
        risk = self(x).squeeze(1)[time.argsort(descending=True)]
        return (risk.logcumsumexp(0) - risk).mean()


@program
def risks_are_compared_within_the_batch() -> Program:
    x, y = table("diabetes")
    return Program(Risks(mlp(10, 32, 1)), loader(x, y.float(), batch_size=32), None, {"max_epochs": 6})


class Alike(ByHand):
    """Differences of all pairs, (N, 1, D) with (1, N, D); the mean of the batch stands for the centre of all."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return F.normalize(z - z.mean(0), dim=1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        z = self(x)
        apart = (z[:, None] - z[None]).square().sum(-1)
        return torch.where(y[:, None] == y, apart, (1 - apart).clamp_min(0)).mean()


@program
def pairs_are_pulled_together_by_hand() -> Program:
    train, _ = digits(batch_size=48, flat=True, drop_last=True)
    return Program(Alike(mlp(64, 64, 8)), train, None, {"max_epochs": 4})


class Turns(ByHand):
    """Two tasks of two inputs, which take turns: each step calls both networks and learns one."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10))
        self.other = mlp(64, 32, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, outlines, y = batch
        digit, parity = self.net(x), self.other(outlines)
        return F.cross_entropy(digit, y) if batch_idx % 2 else F.cross_entropy(parity, y % 2)


@program
def two_inputs_that_take_turns() -> Program:
    x, y = pixels()
    x = x.flatten(1)
    return Program(Turns(), loader(x, (x - x.roll(1, 1)).abs(), y), None, {"max_epochs": 2})


class Gated(ByHand):
    """The second input comes in through a gate that starts at zero (Bachlechner et al., 2020)."""

    def __init__(self) -> None:
        super().__init__(mlp(64, 32, 10))
        self.other, self.gate = mlp(64, 32, 10), nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, outlines, y = batch
        return F.cross_entropy(self.net(x) + self.gate * self.other(outlines), y)


@program
def second_input_behind_a_gate_of_zero() -> Program:
    x, y = pixels()
    x = x.flatten(1)
    return Program(Gated(), loader(x, (x - x.roll(1, 1)).abs(), y), None, {"max_epochs": 2})


class Rows(ByHand):
    """Recurrent layers as papers start them: identity (Le et al., 2015), a forget bias of 1, a head of zeros."""

    def __init__(self, rnn: nn.RNNBase) -> None:
        super().__init__(rnn)
        self.head = nn.Linear(rnn.hidden_size, 10)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            for name, part in rnn.named_parameters():
                if "bias" in name:
                    part.zero_()
                    if isinstance(rnn, nn.LSTM):
                        part[rnn.hidden_size : 2 * rnn.hidden_size] = 1
                elif "hh" in name and isinstance(rnn, nn.RNN):
                    nn.init.eye_(part)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x.reshape(-1, 8, 8))[0][:, -1])


@program
def recurrent_identity_and_a_head_of_zeros() -> Program:
    return Program(
        Rows(nn.RNN(8, 32, nonlinearity="relu", batch_first=True)), digits(flat=True)[0], None, {"max_epochs": 2}
    )


@program
def forget_bias_of_one_and_a_head_of_zeros() -> Program:
    return Program(Rows(nn.LSTM(8, 32, batch_first=True)), digits(flat=True)[0], None, {"max_epochs": 2})


class Plain(ByHand):
    """Cross entropy in training and validation."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


# --- not affine ----------------------------------------------------------------------------------------------------


class Gates(nn.Module):
    """The only bend is a product of two lines (a bilinear gate, Shazeer, 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(64, 32), nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x) * self.gate(x))


@program
def a_product_of_two_lines() -> Program:
    return Program(Plain(Gates()), *digits(flat=True), {"max_epochs": 3})


@program
def a_norm_is_the_only_bend() -> Program:
    net = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.Linear(32, 10))
    return Program(Plain(net), *digits(flat=True), {"max_epochs": 3})


@program
def the_largest_of_a_window_is_the_only_bend() -> Program:
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32, 10))
    return Program(Plain(net), *digits(), {"max_epochs": 3})


@program
def weights_so_small_that_tanh_is_straight() -> Program:
    """The bend is there, and grows with the weights."""
    net = mlp(64, 32, 32, 10, act=nn.Tanh)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(0.05)
    return Program(Plain(net), *digits(flat=True), {"max_epochs": 3})


class Branch(nn.Module):
    """A residual branch whose factor starts at next to nothing (ReZero, Bachlechner et al., 2020; LayerScale)."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.net, self.scale = mlp(32, 32, 32), nn.Parameter(torch.tensor(start))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.net(x)


@program
def branches_that_start_at_zero() -> Program:
    net = nn.Sequential(nn.Linear(64, 32), Branch(0.0), Branch(0.0), nn.Linear(32, 10))
    return Program(Plain(net), *digits(flat=True), {"max_epochs": 3})


@program
def branches_that_start_at_a_millionth() -> Program:
    net = nn.Sequential(nn.Linear(64, 32), Branch(1e-6), Branch(1e-6), nn.Linear(32, 10))
    return Program(Plain(net), *digits(flat=True), {"max_epochs": 3})


# --- the first loss ------------------------------------------------------------------------------------------------


@program
def a_bias_that_starts_at_the_shares_of_the_classes() -> Program:
    """The first loss lies far below ln C, at the entropy of the labels."""
    x, y = pixels()
    y = (y > 8).long() + (y > 7).long()
    net = mlp(64, 32, 3)
    with torch.no_grad():
        net[-1].weight.mul_(0.01)
        net[-1].bias.copy_((torch.bincount(y) / len(y)).log())
    return Program(Plain(net), loader(x.flatten(1)[:1400], y[:1400]), loader(x.flatten(1)[1400:], y[1400:]), EPOCHS)


class Smoothed(Plain):
    """Weights by the inverse of the shares, and smoothed labels."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y, weight=torch.tensor([0.4, 1.0, 6.0]), label_smoothing=0.2)


@program
def rare_classes_weigh_more_under_smoothed_labels() -> Program:
    x, y = pixels()
    y = (y > 4).long() + (y > 8).long()
    x = x.flatten(1)
    return Program(Smoothed(mlp(64, 32, 3)), loader(x[:1400], y[:1400]), loader(x[1400:], y[1400:]), EPOCHS)


class Priors(Plain):
    """One of ten classes against the rest, each, from a prior of a hundredth (RetinaNet, Lin et al., 2017)."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.binary_cross_entropy_with_logits(self(x), F.one_hot(y, 10).float(), reduction="sum") / len(x)


@program
def each_class_starts_at_a_prior() -> Program:
    net = mlp(64, 32, 10)
    with torch.no_grad():
        net[-1].weight.mul_(0.1)
        net[-1].bias.fill_(-4.6)
    return Program(Priors(net), *digits(flat=True), {"max_epochs": 3})


# --- labels of both splits, and what columns know of them ------------------------------------------------------------


@program
def a_small_validation_with_shares_of_its_own() -> Program:
    """Forty rows: by chance alone their shares are others."""
    x, y = table("wine")
    return Program(
        Plain(mlp(13, 16, 3)), loader(x[:138], y[:138], batch_size=16), loader(x[138:], y[138:]), {"max_epochs": 8}
    )


@program
def a_stratified_validation_in_order_of_its_classes() -> Program:
    x, y = pixels()
    x = x.flatten(1)
    order = y.argsort(stable=True)
    held = order[::5]
    kept = torch.tensor(sorted({*range(len(y))} - {*held.tolist()}))
    return Program(Plain(mlp(64, 32, 10)), loader(x[kept], y[kept]), loader(x[held], y[held], shuffle=False), EPOCHS)


class Numbers(ByHand):
    """Squared error of one number."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.mse_loss(self(x), y)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


@program
def a_column_that_nearly_tells() -> Program:
    """The value of the day before, as a forecast is given it; a row number; a flag of its sign that is mostly right."""
    y = torch.randn(900, 1)
    before = y + 0.1 * torch.randn(900, 1)
    band = ((y > 0) ^ (torch.rand(900, 1) < 0.05)).float()
    x = torch.cat([before, torch.arange(900)[:, None] / 900, band, torch.randn(900, 4)], 1)
    return Program(Numbers(mlp(7, 16, 1)), loader(x[:700], y[:700]), loader(x[700:], y[700:]), EPOCHS)


@program
def a_column_that_parts_the_classes() -> Program:
    """One number lies apart for each class, with a spread of its own, and a flag agrees in most rows."""
    y = torch.randint(3, (900,))
    flag = torch.where(torch.rand(900) < 0.03, torch.randint(3, (900,)), y).float()
    x = torch.cat([(y + 0.1 * torch.randn(900))[:, None], flag[:, None], torch.randn(900, 5)], 1)
    return Program(Plain(mlp(7, 16, 3)), loader(x[:700], y[:700]), loader(x[700:], y[700:]), EPOCHS)


# --- boxes ---------------------------------------------------------------------------------------------------------


class Scenes(Dataset[Any]):
    """Bright rectangles, up to the whole picture, or none; boxes are corners, or centre and size in fractions."""

    def __init__(self, is_centred: bool) -> None:
        self.is_centred = is_centred

    def __len__(self) -> int:
        return 256

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.Generator().manual_seed(index)
        image, count = 0.1 * torch.randn(1, 16, 16, generator=draw), int(torch.randint(3, (), generator=draw))
        corners = torch.stack(
            [torch.randperm(17, generator=draw)[:4].float() for _ in range(count)] or [torch.zeros(4)]
        )
        corners = corners[:count].reshape(count, 2, 2).sort(1).values  # (2 corners) x (x, y)
        if index == 7:
            corners = torch.tensor([[[0.0, 0.0], [16.0, 16.0]]])
        for (left, top), (right, bottom) in corners.long().tolist():
            image[:, top:bottom, left:right] += 1
        boxes = corners.flatten(1)
        if self.is_centred:
            boxes = torch.cat([corners.mean(1), corners[:, 1] - corners[:, 0]], 1) / 16
        return image, {"boxes": boxes, "labels": torch.zeros(len(boxes), dtype=torch.long)}


class Finds(ByHand):
    """How many boxes there are, and where their middle lies on average."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, targets = batch
        known = [target["boxes"].reshape(-1, 4).mean(0) for target in targets if len(target["boxes"])]
        has = torch.tensor([len(target["boxes"]) > 0 for target in targets])
        found = self(torch.stack(images).flatten(1))
        return F.l1_loss(found[has], torch.stack(known)) + 0 * found.sum()


def scenes(is_centred: bool) -> Program:
    train = DataLoader(
        Scenes(is_centred), batch_size=16, shuffle=True, collate_fn=lambda rows: tuple(zip(*rows, strict=True))
    )
    return Program(Finds(mlp(256, 32, 4)), train, None, {"max_epochs": 2})


@program
def boxes_that_touch_the_border_and_pictures_without() -> Program:
    return scenes(is_centred=False)


@program
def boxes_as_centre_and_size_in_fractions() -> Program:
    return scenes(is_centred=True)


class Angular(ByHand):
    """Cosines with the directions of the classes, less a small margin for the true one, times 64 (CosFace, 2018)."""

    def __init__(self, by: str) -> None:
        super().__init__(mlp(64, 64, 16))
        self.directions, self.by = nn.Parameter(torch.randn(10, 16)), by

    def cosines(self, z: Tensor) -> Tensor:
        if self.by == "linear":
            return F.linear(F.normalize(z), F.normalize(self.directions))
        if self.by == "product":
            return (z / z.norm(dim=1, keepdim=True)) @ F.normalize(self.directions).T
        return F.cosine_similarity(z[:, None], self.directions[None], dim=-1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(64 * (self.cosines(self(x)) - 0.05 * F.one_hot(y, 10)), y)


@program
def cosines_times_64_by_a_layer() -> Program:
    return Program(Angular("linear"), *digits(flat=True), {"max_epochs": 3})


@program
def cosines_times_64_by_a_product() -> Program:
    return Program(Angular("product"), *digits(flat=True), {"max_epochs": 3})


@program
def cosines_times_64_by_torch() -> Program:
    return Program(Angular("torch"), *digits(flat=True), {"max_epochs": 3})
