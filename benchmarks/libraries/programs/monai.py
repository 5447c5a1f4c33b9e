"""MONAI: segmentation and classification of made images, in a plain LightningModule as in its tutorials."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("monai", ("monai==1.6.1", "lightning"), ("monai.networks.nets", "monai.data", "lightning.pytorch"))


def _images(count: int = 96, size: int = 32) -> tuple[Any, Any]:
    """Squares and discs on noise, with their masks."""
    import torch

    make = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    masks = []
    for index in range(count):
        y, x = (torch.rand(2, generator=make) * (size - 16) + 8).tolist()
        near = torch.stack([(rows - y).abs(), (columns - x).abs()])
        masks.append((near.amax(0) < 6) if index % 2 else (near.square().sum(0) < 36))
    mask = torch.stack(masks)[:, None].float()
    return mask + 0.3 * torch.randn(mask.shape, generator=make), mask


def _fit(
    net: Any, loss: Any, x: Any, y: Any, rate: float = 1e-3, epochs: int = 8, first_of_validation: int = 80
) -> Any:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from monai.data import DataLoader, Dataset

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = net, loss

        def training_step(self, batch: Any, _: int) -> Any:
            return self.loss(self.net(batch["image"]), batch["label"])

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.loss(self.net(batch["image"]), batch["label"]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), rate)

    entries = [{"image": image, "label": label} for image, label in zip(x, y, strict=True)]
    model = Net()
    Trainer(max_epochs=epochs, **QUIET).fit(
        model,
        DataLoader(Dataset(entries[:80]), batch_size=8, shuffle=True),
        DataLoader(Dataset(entries[first_of_validation:]), batch_size=8),
    )
    return model


def _unet(out: int = 1) -> Any:
    from monai.networks.nets import UNet

    return UNet(spatial_dims=2, in_channels=1, out_channels=out, channels=(8, 16, 32), strides=(2, 2), num_res_units=1)


@LIBRARY.training()
def unet_with_dice() -> Any:
    from monai.losses import DiceLoss

    return _fit(_unet(), DiceLoss(sigmoid=True), *_images())


@LIBRARY.training()
def unet_with_dice_and_cross_entropy() -> Any:
    from monai.losses import DiceCELoss

    return _fit(_unet(2), DiceCELoss(to_onehot_y=True, softmax=True), *_images())


@LIBRARY.training()
def dense_net_classifier() -> Any:
    import torch
    from monai.networks.nets import DenseNet

    net = DenseNet(2, 1, 2, init_features=8, growth_rate=8, block_config=(2, 2))
    images, _ = _images()
    return _fit(net, torch.nn.CrossEntropyLoss(), images, torch.arange(len(images)) % 2)


@LIBRARY.training()
def autoencoder() -> Any:
    import torch
    from monai.networks.nets import AutoEncoder

    images, masks = _images()
    return _fit(AutoEncoder(2, 1, 1, (8, 16), (2, 2)), torch.nn.MSELoss(), images, masks)


@LIBRARY.fault("output-range", "negative-loss")
def dice_on_logits() -> Any:
    from monai.losses import DiceLoss

    return _fit(_unet(), DiceLoss(), *_images())


@LIBRARY.fault("nonfinite-input")
def one_pixel_is_nan() -> Any:
    from monai.losses import DiceLoss

    images, masks = _images()
    images[33, 0, 4, 4] = float("nan")
    return _fit(_unet(), DiceLoss(sigmoid=True), images, masks)


@LIBRARY.fault("input-not-normalized")
def images_of_thousands() -> Any:
    import torch
    from monai.networks.nets import DenseNet

    net = DenseNet(2, 1, 2, init_features=8, growth_rate=8, block_config=(2, 2), norm=("instance", {"affine": True}))
    images, _ = _images()
    return _fit(net, torch.nn.CrossEntropyLoss(), images * 1000 + 20_000, torch.arange(len(images)) % 2)


@LIBRARY.fault("negative-loss", "label-out-of-range", "output-range")
def masks_of_0_and_255() -> Any:
    from monai.losses import DiceLoss

    images, masks = _images()
    return _fit(_unet(), DiceLoss(sigmoid=True), images, masks * 255)


@LIBRARY.fault("double-sigmoid")
def sigmoid_twice() -> Any:
    import torch
    from monai.losses import DiceLoss

    return _fit(torch.nn.Sequential(_unet(), torch.nn.Sigmoid()), DiceLoss(sigmoid=True), *_images())


@LIBRARY.fault("double-softmax")
def softmax_twice() -> Any:
    import torch
    from monai.losses import DiceCELoss

    net = torch.nn.Sequential(_unet(2), torch.nn.Softmax(dim=1))
    return _fit(net, DiceCELoss(to_onehot_y=True, softmax=True), *_images())


@LIBRARY.fault("train-val-overlap")
def validation_from_training() -> Any:
    from monai.losses import DiceLoss

    return _fit(_unet(), DiceLoss(sigmoid=True), *_images(), first_of_validation=40)


@LIBRARY.fault("label-out-of-range")
def classes_counted_from_one() -> Any:
    import torch
    from monai.networks.nets import DenseNet

    net = DenseNet(2, 1, 2, init_features=8, growth_rate=8, block_config=(2, 2))
    images, _ = _images()
    return _fit(net, torch.nn.CrossEntropyLoss(), images, torch.arange(len(images)) % 2 + 1)
