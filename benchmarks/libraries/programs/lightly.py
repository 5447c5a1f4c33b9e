"""lightly: self-supervised learning from two views of a picture, as in its examples for Lightning."""

from __future__ import annotations

import copy
from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "lightly",
    ("lightly==1.6.0", "torchvision==0.28.0", "scikit-learn"),
    ("benchmarks.libraries.torchvision_operators", "lightly.loss", "lightly.models.modules", "lightning.pytorch"),
)


def _loader(spoil: Any = None, batch: int = 64) -> Any:
    """Pairs of noisy views of each digit."""
    import torch
    from sklearn.datasets import load_digits
    from torch.utils.data import DataLoader, Dataset

    pictures = torch.tensor(load_digits().images[:960] / 16, dtype=torch.float32)[:, None]
    pictures = torch.nn.functional.interpolate(pictures, 16) if spoil is None else spoil(pictures)

    class Views(Dataset[Any]):
        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, at: int) -> Any:
            def view() -> Any:
                shift = [int(n) for n in torch.randint(-2, 3, (2,))]
                return torch.roll(pictures[at], shift, (-2, -1)) * (0.6 + 0.8 * torch.rand(1)) - 0.3

            return [view(), view()], 0, f"{at}.png"

    return DataLoader(Views(), batch_size=batch, shuffle=True, drop_last=True)


def _backbone() -> Any:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def _train(model: Any, loader: Any = None, **options: Any) -> Any:
    import torch
    from lightning.pytorch import Trainer

    torch.set_num_threads(1)
    Trainer(**{**QUIET, "max_epochs": 3, **options}).fit(model, _loader() if loader is None else loader)
    return model


def _sim_clr(rate: float = 0.06, temperature: float = 0.5) -> Any:
    import torch
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightning.pytorch import LightningModule

    class SimCLR(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.projection_head = _backbone(), SimCLRProjectionHead(32, 32, 16)
            self.criterion = NTXentLoss(temperature=temperature)

        def training_step(self, batch: Any, _: int) -> Any:
            (x0, x1), *_rest = batch
            return self.criterion(*(self.projection_head(self.backbone(x)) for x in (x0, x1)))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=rate)

    return SimCLR()


def _byol(kind: str) -> Any:
    import torch
    from lightly.loss import NegativeCosineSimilarity, NTXentLoss
    from lightly.models.modules import (
        BYOLPredictionHead,
        BYOLProjectionHead,
        MoCoProjectionHead,
    )
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightning.pytorch import LightningModule

    class Momentum(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = _backbone()
            self.projection_head = (BYOLProjectionHead if kind == "byol" else MoCoProjectionHead)(32, 32, 16)
            self.prediction_head = BYOLPredictionHead(16, 32, 16) if kind == "byol" else torch.nn.Identity()
            self.backbone_momentum = copy.deepcopy(self.backbone)
            self.projection_head_momentum = copy.deepcopy(self.projection_head)
            deactivate_requires_grad(self.backbone_momentum)
            deactivate_requires_grad(self.projection_head_momentum)
            self.criterion = NegativeCosineSimilarity() if kind == "byol" else NTXentLoss(memory_bank_size=(128, 16))

        def _momentum(self, x: Any) -> Any:
            return self.projection_head_momentum(self.backbone_momentum(x).flatten(start_dim=1)).detach()

        def training_step(self, batch: Any, _: int) -> Any:
            update_momentum(self.backbone, self.backbone_momentum, m=0.99)
            update_momentum(self.projection_head, self.projection_head_momentum, m=0.99)
            (x0, x1), *_rest = batch
            p0, p1 = (self.prediction_head(self.projection_head(self.backbone(x))) for x in (x0, x1))
            z0, z1 = self._momentum(x0), self._momentum(x1)
            if kind == "byol":
                return 0.5 * (self.criterion(p0, z1) + self.criterion(p1, z0))
            return self.criterion(p0, z1)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD((p for p in self.parameters() if p.requires_grad), lr=0.06)

    return Momentum()


def _sim_siam() -> Any:
    import torch
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
    from lightning.pytorch import LightningModule

    class SimSiam(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = _backbone()
            self.projection_head, self.prediction_head = (
                SimSiamProjectionHead(32, 32, 16),
                SimSiamPredictionHead(16, 8, 16),
            )
            self.criterion = NegativeCosineSimilarity()

        def training_step(self, batch: Any, _: int) -> Any:
            (x0, x1), *_rest = batch
            z0, z1 = (self.projection_head(self.backbone(x)) for x in (x0, x1))
            p0, p1 = self.prediction_head(z0), self.prediction_head(z1)
            return 0.5 * (self.criterion(p0, z1.detach()) + self.criterion(p1, z0.detach()))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.06)

    return SimSiam()


def _two_losses(kind: str) -> Any:
    import lightly.loss
    import torch
    from lightly.models.modules import BarlowTwinsProjectionHead
    from lightning.pytorch import LightningModule

    class Twins(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.projection_head = _backbone(), BarlowTwinsProjectionHead(32, 32, 32)
            self.criterion = getattr(lightly.loss, kind)()

        def training_step(self, batch: Any, _: int) -> Any:
            (x0, x1), *_rest = batch
            return self.criterion(*(self.projection_head(self.backbone(x)) for x in (x0, x1)))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    return Twins()


@LIBRARY.training()
def sim_clr() -> Any:
    return _train(_sim_clr())


@LIBRARY.training()
def byol() -> Any:
    return _train(_byol("byol"))


@LIBRARY.training()
def moco_with_a_memory_bank() -> Any:
    return _train(_byol("moco"))


@LIBRARY.training()
def sim_siam() -> Any:
    return _train(_sim_siam())


@LIBRARY.training()
def barlow_twins() -> Any:
    return _train(_two_losses("BarlowTwinsLoss"))


@LIBRARY.training()
def vicreg() -> Any:
    return _train(_two_losses("VICRegLoss"))


@LIBRARY.fault("nonfinite-input")
def one_pixel_is_nan() -> Any:
    def spoil(pictures: Any) -> Any:
        pictures[77, 0, 3, 3] = float("nan")
        return pictures

    return _train(_sim_clr(), _loader(spoil))


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_a_thousand() -> Any:
    return _train(_sim_clr(rate=1e3))


@LIBRARY.fault("input-not-normalized")
def raw_pixels() -> Any:
    return _train(_sim_clr(), _loader(lambda pictures: pictures * 255))


@LIBRARY.fault("no-gradient")
def features_are_detached() -> Any:
    model = _sim_siam()
    model.backbone.register_forward_hook(lambda *call: call[2].detach())
    return _train(model)
