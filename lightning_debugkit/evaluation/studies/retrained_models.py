"""Bias, variance and noise in the statistical sense: how models differ that were trained on other samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_debugkit.core.compat import Trainer
from lightning_debugkit.evaluation.bias_variance.measurement import MeasuredAt, ReadingTake
from lightning_debugkit.evaluation.bias_variance.train_error import draw_training_sample, measure_training_error
from lightning_debugkit.evaluation.predictions.reader import PredictionReader
from lightning_debugkit.evaluation.predictions.wrong_samples import NoClasses, cut_of, scored
from lightning_debugkit.evaluation.studies.study import Fit, Study, length_of_data, report_of
from lightning_debugkit.stats.retrained_decomposition import Parts, cross_entropy, squared_loss, zero_one_loss

Loss = Literal["squared", "zero-one", "cross-entropy"]
_LOSSES = ("squared", "zero-one", "cross-entropy")
_BATCH = 256


def bias_variance_decomposition(
    fit: Fit,
    n: int = 10,
    *,
    train: Dataset[Any],
    val: Dataset[Any],
    loss: Loss | None = None,
    truth: Any = None,
    folder: str | os.PathLike[str] = "debugkit",
    seed: int = 0,
) -> Parts:
    """Train ``n`` models on bootstrap samples, and split their mean loss on ``val`` into bias, variance and noise.

    Squared loss: bias² and variance, unbiased. 0-1 loss: after Domingos (2000). Cross entropy: after Yang et al.
    (2020). A bootstrap sample holds 63 % of the training data: the models are a little worse than one of all data.
    Each model's predictions are kept in ``folder``: after an interruption the same call goes on.

    Args:
        fit: Builds a model and a Trainer with a `BiasVarianceReport`, trains the one on the first data set with the
            second as validation data, and returns the Trainer.
        n: Models.
        train: Training data.
        val: Samples on which the models are compared.
        loss: ``squared``, ``zero-one`` or ``cross-entropy``; by the targets if not given: values are squared, classes
            are zero-one.
        truth: What the best possible prediction is for each sample of ``val`` (expected value, best class, or class
            probabilities), where it is known: it parts noise from bias.
        folder: Run folder whose report shows the parts.
        seed: Of the samples.

    Raises:
        ValueError: ``n`` or ``loss`` is out of range, or the predictions do not fit the loss.
        TypeError: ``fit`` returns something else.
    """
    asker = "bias_variance_decomposition"
    if n < 2:
        raise ValueError(f"{asker} needs n >= 2 models, got {n!r}; 10 is a good start.")
    if loss not in (None, *_LOSSES):
        raise ValueError(f"{asker} needs loss among {', '.join(_LOSSES)}, got {loss!r}; leave it out to let it choose.")
    size, held = length_of_data(train, asker, "train"), length_of_data(val, asker, "val")
    study = Study(folder, "bias-variance-decomposition", {"train": size, "val": held, "seed": seed})

    def run(name: str) -> dict[str, Any]:
        which = int(name.rpartition(" ")[2])
        rows = np.random.default_rng([seed, which]).integers(0, size, size)
        trainer = fit(Subset(train, rows.tolist()), val)
        predictions, target = predictions_on(trainer, val, asker)
        file = study.path.parent / f"{study.stem}-{which}.npz"
        np.savez_compressed(file, predictions=predictions.numpy(), target=target.numpy())
        return {"file": file.name}

    rows = study.results([f"model {which}" for which in range(n)], run)
    files = [np.load(study.path.parent / row["file"]) for row in rows]
    predictions = torch.as_tensor(np.stack([file["predictions"] for file in files]))
    target = torch.as_tensor(files[0]["target"])
    chosen, parts = _split(predictions, target, loss, truth)
    study.tell(_shown(parts, chosen, n))
    return parts


class _Kept(ReadingTake):
    """A look that keeps predictions and targets."""

    def __init__(self, reader: PredictionReader) -> None:
        super().__init__(reader)
        self.predictions: list[Tensor] = []
        self.targets: list[Tensor] = []

    def end(self, moment: MeasuredAt) -> None:
        found = self.read(moment)
        self.predictions.append(found.predictions.detach().float().cpu())
        self.targets.append(found.target.detach().cpu())

    def payload(self) -> Any:
        return torch.cat(self.predictions), torch.cat(self.targets)


def predictions_on(trainer: Trainer, dataset: Dataset[Any], asker: str) -> tuple[Tensor, Tensor]:
    """Return what the model that ``trainer`` has fitted says of a data set, and the targets."""
    report = report_of(trainer, asker)
    module = trainer.lightning_module
    loaders = trainer.val_dataloaders or trainer.train_dataloader
    collate = getattr(loaders, "collate_fn", None)
    sample = draw_training_sample(
        DataLoader(dataset, batch_size=_BATCH, collate_fn=collate), length_of_data(dataset, asker, "val")
    )
    # Lightning brings the module back to the host after a fit.
    module.to(trainer.strategy.root_device)
    take = measure_training_error(trainer, module, sample, lambda: _Kept(report.looks.gauge.reader))
    found: tuple[Tensor, Tensor] = take.payload()
    return found


def _split(predictions: Tensor, target: Tensor, loss: Loss | None, truth: Any) -> tuple[Loss, Parts]:
    if loss is None:
        loss = "squared" if target.is_floating_point() and not _are_classes(predictions[0], target) else "zero-one"
    if loss == "squared":
        shaped = predictions.reshape(len(predictions), *target.shape)
        return loss, squared_loss(shaped, target, truth)
    if loss == "zero-one":
        labels, classes = _labels(predictions, target)
        return loss, zero_one_loss(labels, classes, truth)
    return loss, cross_entropy(_log_probabilities(predictions), target, truth)


def _are_classes(predictions: Tensor, target: Tensor) -> bool:
    try:
        return scored(predictions, target).target is not None
    except NoClasses:
        return False


def _labels(predictions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    found = [scored(each, target, cut_of(each, target, "")) for each in predictions]
    labels = [each.predicted for each in found if each.predicted is not None]
    classes = found[0].target
    if classes is None or len(labels) != len(found):
        raise ValueError(
            "bias_variance_decomposition needs one class a sample for the zero-one loss, got "
            f"targets {list(target.shape)}; choose another loss."
        )
    return torch.stack(labels), classes


def _log_probabilities(predictions: Tensor) -> Tensor:
    """Return (models, samples, classes) logarithms, of logits or probabilities alike."""
    if predictions.ndim != 3:
        raise ValueError(
            "bias_variance_decomposition needs scores of each class for the cross entropy, got predictions of shape "
            f"{list(predictions.shape[1:])}; choose another loss."
        )
    sums = predictions.sum(-1)
    if bool((predictions >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return predictions.double().clamp_min(torch.finfo(torch.float64).tiny).log()
    return predictions.double().log_softmax(-1)


def _shown(parts: Parts, loss: str, n: int) -> dict[str, Any]:
    named: Sequence[tuple[str, float | None]] = (
        ("bias²" if loss == "squared" else "bias", parts.bias),
        ("variance", parts.variance),
        ("noise", parts.noise),
        ("loss", parts.loss),
    )
    rows = [[name, f"{value:.4g}"] for name, value in named if value is not None]
    rest = "" if parts.noise is not None else " (noise is part of it: nobody knows the best possible prediction)"
    return {
        "metric": f"{loss} loss",
        "verdict": f"of a mean {loss} loss of {parts.loss:.4g}, {parts.bias:.4g} is bias{rest} and "
        f"{parts.variance:.4g} variance between {n} models that were trained on bootstrap samples",
        "caption": f"Parts of the {loss} loss",
        "header": ["part", "size"],
        "rows": rows,
    }
