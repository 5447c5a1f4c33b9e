"""disent: disentangled representations by variational autoencoders, on its squares and on drawn objects."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "disent",
    ("disent==0.8.0", "torchvision==0.28.0", "scikit-learn"),
    ("benchmarks.libraries.torchvision_operators", "disent.frameworks.vae", "disent.dataset.data"),
)


def _fit(kind: str = "BetaVae", sampler: Any = None, transform: Any = None, steps: int = 30, **config: Any) -> Any:
    """The program of the library's first page, with fewer steps and a smaller network."""
    import disent.frameworks.ae
    import disent.frameworks.vae
    import torch
    from disent.dataset import DisentDataset
    from disent.dataset.data import XYObjectData
    from disent.dataset.sampling import SingleSampler
    from disent.dataset.transform import ToImgTensorF32
    from disent.model import AutoEncoder
    from disent.model.ae import DecoderLinear, EncoderLinear
    from lightning.pytorch import Trainer
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    data = XYObjectData(grid_size=32, min_square_size=7, max_square_size=9)
    held = DisentDataset(
        dataset=data, sampler=sampler or SingleSampler(), transform=transform or ToImgTensorF32(size=64)
    )
    framework = getattr(disent.frameworks.vae, kind, None) or getattr(disent.frameworks.ae, kind)
    has_spread = hasattr(disent.frameworks.vae, kind)
    shape = (3, 64, 64)
    module = framework(
        model=AutoEncoder(
            encoder=EncoderLinear(x_shape=shape, z_size=6, z_multiplier=2 if has_spread else 1),
            decoder=DecoderLinear(x_shape=shape, z_size=6),
        ),
        cfg=framework.cfg(
            **{"optimizer": "adam", "optimizer_kwargs": {"lr": 1e-3}, "loss_reduction": "mean_sum", **config}
        ),
    )
    Trainer(max_steps=steps, **QUIET).fit(module, DataLoader(held, batch_size=32, shuffle=True))
    return module


@LIBRARY.training()
def beta_vae() -> Any:
    return _fit(beta=4)


@LIBRARY.training()
def autoencoder() -> Any:
    return _fit("Ae")


@LIBRARY.training()
def pairs_that_share_factors() -> Any:
    from disent.dataset.sampling import GroundTruthPairSampler

    return _fit("AdaVae", sampler=GroundTruthPairSampler())


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    # Missed: the loss that is not finite is told, to which the rate has led.
    return _fit(beta=4, optimizer_kwargs={"lr": 5.0})


@LIBRARY.fault("nonfinite-input")
def one_picture_is_nan() -> Any:
    from disent.dataset.transform import ToImgTensorF32

    class Broken(ToImgTensorF32):
        count = 0

        def __call__(self, picture: Any) -> Any:
            self.count += 1
            found = super().__call__(picture)
            return found * float("nan") if self.count == 300 else found

    return _fit(beta=4, transform=Broken(size=64))
