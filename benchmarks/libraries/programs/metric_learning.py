"""pytorch-metric-learning: embeddings of the digits, in a plain LightningModule."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "pytorch-metric-learning",
    ("pytorch-metric-learning==2.9.0", "lightning", "scikit-learn"),
    ("pytorch_metric_learning", "lightning.pytorch"),
)


def _fit(
    loss: Any,
    miner: Any = None,
    shuffled: bool = False,
    rate: float = 1e-3,
    scale: float = 1 / 16,
    trains_loss: bool = True,
    in_order: bool = False,
) -> Any:
    import torch
    from lightning.pytorch import LightningModule, Trainer
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    class Embedding(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
            self.loss, self.miner = loss, miner

        def step(self, batch: Any) -> Any:
            found = self.trunk(batch[0])
            return self.loss(found, batch[1], self.miner(found, batch[1])) if self.miner else self.loss(found, batch[1])

        def training_step(self, batch: Any, _: int) -> Any:
            return self.step(batch)

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.step(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters() if trains_loss else self.trunk.parameters(), rate)

    x, y = load_digits(return_X_y=True)
    labels = torch.tensor(y)[torch.randperm(len(y))] if shuffled else torch.tensor(y)
    data = TensorDataset(torch.tensor(x * scale, dtype=torch.float32), labels)
    train, val = torch.utils.data.random_split(data, [1500, 297])
    if in_order:
        train = torch.utils.data.Subset(data, sorted(train.indices, key=lambda at: int(labels[at])))
    model = Embedding()
    loaders = DataLoader(train, batch_size=64, shuffle=not in_order), DataLoader(val, batch_size=64)
    Trainer(max_epochs=4, **QUIET).fit(model, *loaders)
    return model


@LIBRARY.training()
def triplets_with_a_miner() -> Any:
    from pytorch_metric_learning import losses, miners

    return _fit(losses.TripletMarginLoss(margin=0.1), miners.MultiSimilarityMiner())


@LIBRARY.training()
def normalised_softmax() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.NormalizedSoftmaxLoss(num_classes=10, embedding_size=16))


@LIBRARY.training()
def arc_face() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.ArcFaceLoss(num_classes=10, embedding_size=16))


@LIBRARY.training()
def supervised_contrastive() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.SupConLoss(temperature=0.1))


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_labels() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.NormalizedSoftmaxLoss(num_classes=10, embedding_size=16), shuffled=True)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.NormalizedSoftmaxLoss(num_classes=10, embedding_size=16), rate=10.0)


@LIBRARY.fault("parameter-not-in-optimizer")
def class_weights_left_out_of_the_optimizer() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.ArcFaceLoss(num_classes=10, embedding_size=16), trains_loss=False)


@LIBRARY.fault("unshuffled-training-data")
def classes_one_after_the_other() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.NormalizedSoftmaxLoss(num_classes=10, embedding_size=16), in_order=True)


@LIBRARY.fault("input-not-normalized")
def raw_pixels() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.SupConLoss(temperature=0.1), scale=255 / 16)


@LIBRARY.fault("label-out-of-range")
def one_class_too_few() -> Any:
    from pytorch_metric_learning import losses

    return _fit(losses.NormalizedSoftmaxLoss(num_classes=9, embedding_size=16))
