"""timm and segmentation-models-pytorch: networks for pictures in plain modules, with the losses that they ship."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "timm",
    ("timm==1.0.31", "segmentation-models-pytorch==0.6.0", "torchvision==0.28.0", "lightning", "scikit-learn"),
    ("benchmarks.libraries.torchvision_operators", "timm", "segmentation_models_pytorch", "lightning.pytorch"),
)


def _fit(
    net: Any,
    loss: Callable[[Any, Any], Any],
    columns: tuple[Any, Any],
    optimizer: Callable[[Any], Any] | None = None,
    mix: Any = None,
    batch: int = 32,
    **options: Any,
) -> Any:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = mix(*batch) if mix else batch
            return loss(self.net(x), y)

        def validation_step(self, batch: Any, _: int) -> None:
            kind = torch.nn.functional.cross_entropy if mix else loss
            self.log("val_loss", kind(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), 1e-3) if optimizer is None else optimizer(self.net)

    torch.set_num_threads(1)
    data = TensorDataset(*columns)
    train, val = torch.utils.data.random_split(data, [len(data) - 64, 64])
    model = Net()
    loaders = DataLoader(train, batch_size=batch, shuffle=True, drop_last=True), DataLoader(val, batch_size=batch)
    Trainer(**{**QUIET, "max_epochs": 3, **options}).fit(model, *loaders)
    return model


def _digits(count: int = 448) -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = torch.tensor(found.images[:count] / 16, dtype=torch.float32)[:, None]
    pictures = torch.nn.functional.interpolate(pictures, 32, mode="bilinear").repeat(1, 3, 1, 1)
    return (pictures - 0.3) / 0.38, torch.tensor(found.target[:count])


def _discs(count: int = 192) -> tuple[Any, Any]:
    """Noisy pictures of bright discs, and where the discs are."""
    import torch

    middle = torch.randint(8, 24, (count, 2, 1, 1))
    at = torch.arange(32)
    far = ((at[:, None] - middle[:, 0]) ** 2 + (at[None, :] - middle[:, 1]) ** 2).float().sqrt()
    masks = (far < torch.randint(4, 9, (count, 1, 1))).float()
    pictures = masks[:, None].repeat(1, 3, 1, 1) + 0.3 * torch.randn(count, 3, 32, 32) - 0.2
    return pictures, masks[:, None]


@LIBRARY.training()
def resnet() -> Any:
    import timm
    from timm.loss import LabelSmoothingCrossEntropy

    return _fit(timm.create_model("test_resnet", num_classes=10), LabelSmoothingCrossEntropy(0.1), _digits())


@LIBRARY.training()
def vision_transformer_with_its_optimizer() -> Any:
    import timm
    import torch
    from timm.optim import create_optimizer_v2

    net = timm.create_model("test_vit", num_classes=10, img_size=32, patch_size=8)
    return _fit(
        net,
        torch.nn.CrossEntropyLoss(),
        _digits(),
        lambda net: create_optimizer_v2(net, opt="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.75),
    )


@LIBRARY.training()
def efficientnet_with_mixup() -> Any:
    import timm
    from timm.data import Mixup
    from timm.loss import SoftTargetCrossEntropy

    mix = Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, num_classes=10, label_smoothing=0.1)
    return _fit(timm.create_model("test_efficientnet", num_classes=10), SoftTargetCrossEntropy(), _digits(), mix=mix)


@LIBRARY.training()
def frozen_features_and_a_new_head() -> Any:
    import timm
    import torch
    from timm.utils import freeze

    net = timm.create_model("test_convnext", num_classes=10)
    freeze(net, [name for name, _ in net.named_children() if name != "head"])
    return _fit(
        net,
        torch.nn.CrossEntropyLoss(),
        _digits(),
        lambda net: torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), 1e-2),
    )


def _unet(kind: str = "Unet", **options: Any) -> Any:
    import segmentation_models_pytorch as smp

    depth = {"encoder_depth": 3, "decoder_channels": (32, 16, 8)} if kind == "Unet" else {}
    return getattr(smp, kind)("resnet18", encoder_weights=None, in_channels=3, classes=1, **depth, **options)


@LIBRARY.training()
def unet_with_dice() -> Any:
    import segmentation_models_pytorch as smp

    return _fit(_unet(), smp.losses.DiceLoss(mode="binary"), _discs())


@LIBRARY.training()
def fpn_with_focal() -> Any:
    import segmentation_models_pytorch as smp

    return _fit(_unet("FPN"), smp.losses.FocalLoss(mode="binary"), _discs())


@LIBRARY.fault("double-sigmoid")
def sigmoid_twice() -> Any:
    import segmentation_models_pytorch as smp

    return _fit(_unet(activation="sigmoid"), smp.losses.SoftBCEWithLogitsLoss(), _discs())


@LIBRARY.fault("label-out-of-range", "output-range", "negative-loss")
def masks_of_0_and_255() -> Any:
    import segmentation_models_pytorch as smp

    x, y = _discs()
    return _fit(_unet(), smp.losses.SoftBCEWithLogitsLoss(), (x, y * 255))


@LIBRARY.fault("frozen-module-changed")
def frozen_but_for_its_batch_norms() -> Any:
    import timm
    import torch

    net = timm.create_model("test_resnet", num_classes=10)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    return _fit(
        net,
        torch.nn.CrossEntropyLoss(),
        _digits(),
        lambda net: torch.optim.AdamW((p for p in net.parameters() if p.requires_grad), 1e-2),
    )


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    import timm
    import torch

    x, y = _digits()
    return _fit(
        timm.create_model("test_resnet", num_classes=10), torch.nn.CrossEntropyLoss(), (x, y[torch.randperm(len(y))])
    )


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    import timm
    import torch

    net = timm.create_model("test_efficientnet", num_classes=10)
    return _fit(net, torch.nn.CrossEntropyLoss(), _digits(), lambda net: torch.optim.AdamW(net.parameters(), 10.0))
