"""Images: convolutions, batch norm, residual nets, vision transformers, frozen and copied backbones."""

import copy
from functools import partial

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.checkpoint import checkpoint

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
    small_cnn,
)


@program
def cnn() -> Program:
    train, val = digits()
    return Program(Supervised(small_cnn(), F.cross_entropy, partial(Adam, lr=2e-3)), train, val, {"max_epochs": 5})


@program
def cnn_bf16() -> Program:
    train, val = digits()
    module = Supervised(small_cnn(), F.cross_entropy, partial(AdamW, lr=2e-3))
    return Program(module, train, val, {"max_epochs": 4, "precision": "bf16-mixed"})


class Residual(nn.Module):
    """Two convolutions whose last gamma starts at zero: at first the block is the identity."""

    def __init__(self, inner: int, outer: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outer),
            nn.ReLU(inplace=True),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False),
        )
        self.norm = nn.BatchNorm2d(outer)
        nn.init.zeros_(self.norm.weight)
        same = inner == outer and stride == 1
        self.skip = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride, bias=False)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.norm(self.branch(x)) + self.skip(x))
        return out


@program
def resnet_onecycle() -> Program:
    train, val = digits(drop_last=True)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        Residual(16, 16),
        Residual(16, 32, 2),
        Residual(32, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    sgd = partial(SGD, lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = partial(OneCycleLR, max_lr=0.3, total_steps=6 * len(train))
    module = Supervised(net, F.cross_entropy, sgd, schedule, "step")
    return Program(module, train, val, {"max_epochs": 6})


@program
def batch_norm_sgd() -> Program:
    """SGD at 0.1 with momentum, and a convolution bias that the norm behind it cancels."""
    train, val = digits(drop_last=True)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    return Program(Supervised(net, F.cross_entropy, partial(SGD, lr=0.1, momentum=0.9)), train, val, {"max_epochs": 4})


@program
def raw_pixels_normed_by_first_layer() -> Program:
    """Pixels from 0 to 255 are fine when the first layer normalises them."""
    x, y = pixels()
    net = nn.Sequential(nn.BatchNorm2d(1), *small_cnn())
    return Program(
        Supervised(net, F.cross_entropy, partial(Adam, lr=2e-3)), loader(255 * x, y), trainer={"max_epochs": 4}
    )


class Attention(nn.Module):
    """Plain attention with separate projections: no gradient can reach the key bias but rounding."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for m in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(-2))
        return out


class VitBlock(nn.Module):
    """Pre-norm attention and MLP, each scaled by a LayerScale that starts at 1e-6."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 4)
        self.mlp = mlp(width, 2 * width, width, act=nn.GELU)
        self.scale1 = nn.Parameter(torch.full((width,), 1e-6))
        self.scale2 = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scale1 * self.attention(self.norm1(x))
        out: Tensor = x + self.scale2 * self.mlp(self.norm2(x))
        return out


class Vit(nn.Module):
    def __init__(self, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.Sequential(*(VitBlock(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position
        out: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return out


@program
def vit_layer_scale() -> Program:
    train, val = digits()
    module = Supervised(Vit(), F.cross_entropy, partial(AdamW, lr=3e-3, weight_decay=0.05))
    return Program(module, train, val, {"max_epochs": 6, "gradient_clip_val": 3.0})


def trained_features(norm: bool) -> nn.Sequential:
    """Convolutions that have learnt the digits 0 to 4."""
    x, y = images()
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16) if norm else nn.Identity(), nn.ReLU()]
    features = nn.Sequential(*layers, nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten())
    pretrain(nn.Sequential(features, nn.Linear(512, 5)), x[y < 5], y[y < 5])
    return features


class HeadOnly(Supervised):
    """A frozen backbone that stays in eval mode, and a head that learns."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(nn.Linear(512, 10), F.cross_entropy, partial(Adam, lr=3e-3))
        self.backbone = backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "HeadOnly":
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        out: Tensor = self.net(features)
        return out


@program
def frozen_backbone_in_eval() -> Program:
    train, val = digits()
    module = HeadOnly(trained_features(norm=True))
    return Program(module.train(), train, val, {"max_epochs": 4})


@program
def frozen_backbone_without_norm() -> Program:
    """No norm, no dropout: train mode does the frozen part no harm."""
    train, val = digits()
    net = nn.Sequential(trained_features(norm=False).requires_grad_(False), nn.Linear(512, 10))
    return Program(Supervised(net, F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 4})


class GradualUnfreezing(Supervised):
    """The head first; the backbone joins at the second epoch. The optimiser holds both from the start."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__(nn.Sequential(backbone, nn.Linear(512, 10)), F.cross_entropy, partial(Adam, lr=1e-3))
        self.backbone = backbone.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self.backbone.requires_grad_(self.current_epoch >= 1)

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.parameters())


@program
def gradual_unfreezing() -> Program:
    train, val = digits()
    return Program(GradualUnfreezing(trained_features(norm=False)), train, val, {"max_epochs": 4})


def normed_cnn(outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, outputs),
    )


class MeanTeacher(LightningModule):
    """A student that learns labels and agrees with a moving average of itself; the average sees noise of its own."""

    def __init__(self, freeze: bool) -> None:
        super().__init__()
        self.student = normed_cnn(10)
        self.teacher = copy.deepcopy(self.student)
        self.teacher.requires_grad_(not freeze)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.student(x + 0.1 * torch.randn_like(x))
        with torch.no_grad():
            target = self.teacher(x + 0.1 * torch.randn_like(x)).softmax(-1)
        labelled = F.cross_entropy(logits[:16], y[:16])
        loss = labelled + F.mse_loss(logits.softmax(-1), target)
        self.log_dict({"loss": loss, "labelled": labelled})
        return loss

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        with torch.no_grad():
            for average, value in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                average.lerp_(value, 0.05)

    def configure_optimizers(self) -> Optimizer:
        return SGD(self.student.parameters(), lr=0.05, momentum=0.9)


@program
def mean_teacher_batch_norm_in_train() -> Program:
    """The teacher's parameters are frozen, its batch norm statistics follow the data: as in MoCo."""
    return Program(MeanTeacher(freeze=True), digits(drop_last=True)[0], trainer={"max_epochs": 5})


@program
def mean_teacher_under_no_grad() -> Program:
    """The teacher still requires gradients but runs without: nobody gives it to an optimiser."""
    return Program(MeanTeacher(freeze=False), digits(drop_last=True)[0], trainer={"max_epochs": 5})


class Distillation(LightningModule):
    """A small student imitates a frozen, trained teacher."""

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.eval().requires_grad_(False)
        self.student = mlp(64, 32, 10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.student(x.flatten(1))
        soft = F.log_softmax(self.teacher(x) / 2, -1)
        imitation = F.kl_div(F.log_softmax(logits / 2, -1), soft, reduction="batchmean", log_target=True)
        loss = 4 * imitation + F.cross_entropy(logits, y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Optimizer:
        return AdamW(self.student.parameters(), lr=3e-3)


@program
def distillation() -> Program:
    teacher = small_cnn()
    pretrain(teacher, *images())
    return Program(Distillation(teacher), digits()[0], trainer={"max_epochs": 5})


@program
def segmentation_with_ignored_pixels() -> Program:
    """Ink or paper for every pixel of a noisy digit; the doubtful grey ones carry the label 255."""
    x, _ = pixels()
    mask = (x[:, 0] > 0.5).long()
    mask[(x[:, 0] > 0.3) & (x[:, 0] < 0.6)] = 255
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 2, 1),
    )  # fmt: skip
    noisy = (x + 0.2 * torch.randn_like(x) - x.mean()) / x.std()
    module = Supervised(net, nn.CrossEntropyLoss(ignore_index=255), partial(Adam, lr=1e-2))
    return Program(module, loader(noisy[:1440], mask[:1440]), trainer={"max_epochs": 4})


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss with gamma 2."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-loss)) ** 2 * loss).mean()


@program
def focal_loss_imbalanced() -> Program:
    """Is it an eight? One in ten is; the head starts at that prior, as in RetinaNet."""
    x, y = images()
    net = nn.Sequential(*small_cnn(1), nn.Flatten(0))
    nn.init.constant_(net.get_parameter("7.bias"), -2.2)
    module = Supervised(net, focal, partial(Adam, lr=3e-3))
    return Program(module, loader(x, (y == 8).float()), trainer={"max_epochs": 4})


@program
def small_batches() -> Program:
    """Batches of eight, a noisy loss."""
    x, y = images()
    train = loader(x[:800], y[:800], batch_size=8)
    return Program(Supervised(small_cnn(), F.cross_entropy, partial(SGD, lr=0.05)), train, trainer={"max_epochs": 2})


class StochasticDepth(nn.Module):
    """Residual blocks, each skipped for a whole batch with some probability while training."""

    def __init__(self, width: int = 16, depth: int = 5, drop: float = 0.3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(4, width), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(depth)
        )
        self.head = nn.Linear(16 * width, 10)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            if self.training and torch.rand(()) < self.drop:
                continue
            x = x + block(x)
        out: Tensor = self.head(x.flatten(1))
        return out


@program
def stochastic_depth() -> Program:
    train, val = digits()
    return Program(
        Supervised(StochasticDepth(), F.cross_entropy, partial(Adam, lr=2e-3)), train, val, {"max_epochs": 4}
    )


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Dropout(0.1)) for _ in range(3)
        )
        self.head = nn.Linear(1024, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        out: Tensor = self.head(x.flatten(1))
        return out


@program
def activation_checkpointing() -> Program:
    train, val = digits()
    return Program(Supervised(Checkpointed(), F.cross_entropy, partial(Adam, lr=1e-3)), train, val, {"max_epochs": 3})


@program
def fine_tuning_at_1e_5() -> Program:
    """A trained network goes on at a small constant rate: the loss hardly moves, and should not."""
    x, y = images()
    net = small_cnn()
    pretrain(net, x[:900], y[:900], steps=150)
    module = Supervised(net, F.cross_entropy, partial(AdamW, lr=1e-5))
    return Program(module, loader(x[900:1700], y[900:1700], batch_size=32), trainer={"max_epochs": 4})


@program
def dropout_everywhere() -> Program:
    train, val = digits(flat=True)
    net = nn.Sequential(
        nn.Dropout(0.2), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(64, 10),
    )  # fmt: skip
    return Program(Supervised(net, F.cross_entropy, partial(Adam, lr=3e-3)), train, val, {"max_epochs": 6})


class Mixup(Supervised):
    """Mixes pairs of images and of labels."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        share = torch.distributions.Beta(0.4, 0.4).sample()
        order = torch.randperm(len(x))
        logits = self(share * x + (1 - share) * x[order])
        loss = share * self.loss(logits, y) + (1 - share) * self.loss(logits, y[order])
        self.log("loss", loss)
        return loss


@program
def mixup_label_smoothing() -> Program:
    train, val = digits()
    module = Mixup(small_cnn(), nn.CrossEntropyLoss(label_smoothing=0.1), partial(AdamW, lr=3e-3))
    return Program(module, train, val, {"max_epochs": 5})


class Adversarial(Supervised):
    """Trains on images moved one step up the gradient of their own loss (FGSM)."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        x, y = batch
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(self(x), y), x)
        loss = self.loss(self((x + 0.2 * slope.sign()).detach()), y)
        self.log("loss", loss)
        return loss


@program
def adversarial_training() -> Program:
    return Program(
        Adversarial(small_cnn(), F.cross_entropy, partial(Adam, lr=2e-3)), digits()[0], trainer={"max_epochs": 4}
    )
