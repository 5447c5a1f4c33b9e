"""Samples as a reader wants to see them, a small picture, a text or a row of numbers: drawn again in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer, datamodule_of
from lightning_debugkit.data.drawing import CannotDraw, drawing
from lightning_debugkit.data.loaders import loaders_of
from lightning_debugkit.evaluation.error_analysis.index_evidence import sample_at
from lightning_debugkit.evaluation.error_analysis.slice_columns import INPUTS

FOLDER = "errors"
_MOST_FAILED = 5  # then the data set is gone
SIDE = 160  # pixels of a picture's longer side at most
_LONGEST = 400  # characters
_NUMBERS = 16
_COLORS = (1, 3, 4)
_SMALLEST = 4  # pixels: less is a table


class SampleGallery:
    """Draws samples by their index and leaves pictures in the run folder, or texts.

    Args:
        loaders: Loaders whose data are counted through, one after another.
        tokenizer: Turns numbers into text, ``None`` if there is none.
        prefix: Begins the names of the pictures.
    """

    def __init__(self, folder: Path, loaders: Any, tokenizer: Any = None, prefix: str = "") -> None:
        self.folder = folder
        self.prefix = prefix
        self.tokenizer = tokenizer
        found = [getattr(loader, "dataset", None) for loader in loaders_of(loaders)]
        self.datasets: Sequence[Any] = found
        self.pictures: dict[str, str] = {}
        self.samples: dict[str, str] = {}
        self.failed = ""

    def draw(self, indices: Iterable[int], most: int) -> None:
        """Draw the first ``most`` of the indices that can be drawn; those that are unknown are passed over."""
        failed: list[str] = []
        try:
            with drawing(self.datasets):
                for index in list(dict.fromkeys(index for index in indices if index >= 0))[:most]:
                    try:
                        self._draw(index)
                    except Exception as error:  # a torn file; a data set that is gone, or minds being read from here
                        failed.append(f"{type(error).__name__}: {error}")
                    if len(failed) == _MOST_FAILED:
                        break
        except CannotDraw as error:
            failed.append(str(error))
        if failed:
            self.failed = f"Samples could not be drawn again: {failed[0]}."

    def _draw(self, index: int) -> None:
        sample = sample_at(self.datasets, index)
        pixels = picture_of(sample)
        if pixels is not None:
            path = f"{FOLDER}/{self.prefix}{index}.png"
            (self.folder / FOLDER).mkdir(exist_ok=True)
            save_picture(self.folder / path, pixels)
            self.pictures[str(index)] = path
        elif (text := text_of(sample, self.tokenizer)) is not None:
            self.samples[str(index)] = text


def tokenizer_of(trainer: Trainer, module: LightningModule) -> Any:
    """Return what turns numbers into text, if the module or the data module has it."""
    for holder in (module, datamodule_of(trainer)):
        found = getattr(holder, "tokenizer", None)
        if callable(getattr(found, "decode", None)):
            return found
    return None


def picture_of(sample: Any) -> NDArray[np.uint8] | None:
    """Return the picture in a sample, (height, width) or (height, width, 3 or 4), ``None`` if there is none.

    Values outside of 0 to 1 are scaled from least to most, as those of a normalised picture have to be.
    """
    values = _array(input_of(sample))
    if values is None or values.ndim not in (2, 3):
        return None
    if values.ndim == 3:
        if values.shape[0] in _COLORS and values.shape[2] not in _COLORS:
            values = values.permute(1, 2, 0)
        if values.shape[2] not in _COLORS:
            return None
    if min(values.shape[:2]) < _SMALLEST:
        return None
    small = _small(_unit(values))
    pixels: NDArray[np.uint8] = (small * 255).round().to(torch.uint8).numpy()
    return pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels


def text_of(sample: Any, tokenizer: Any = None) -> str | None:
    """Return the text or the numbers of a sample, cut where they are long."""
    held = input_of(sample)
    if isinstance(held, bytes):
        held = held.decode("utf-8", "replace")
    if isinstance(held, str):
        return _cut(held)
    values = _array(held)
    if values is None or values.ndim != 1:
        return None
    if not values.is_floating_point() and tokenizer is not None:
        return _cut(str(tokenizer.decode(values.tolist(), skip_special_tokens=True)))
    shown = [f"{value:.4g}" for value in values[:_NUMBERS].tolist()]
    more = f" … ({len(values)} values)" if len(values) > _NUMBERS else ""
    return ", ".join(shown) + more


def input_of(sample: Any) -> Any:
    """Return the part of a sample that a model is given."""
    if isinstance(sample, Mapping):
        return next((sample[name] for name in INPUTS if name in sample), next(iter(sample.values()), None))
    return sample[0] if isinstance(sample, tuple | list) and sample else sample


def save_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture as PNG."""
    from matplotlib import image  # late: it takes a second to import

    image.imsave(path, np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels)


def _array(held: Any) -> Tensor | None:
    if isinstance(held, Tensor):
        return held.detach().cpu()
    if isinstance(held, str | bytes | Mapping) or held is None:
        return None
    try:
        # Pictures of PIL are arrays, too.
        return torch.as_tensor(np.array(held))
    except (TypeError, ValueError, RuntimeError):
        return None


def _unit(values: Tensor) -> Tensor:
    if values.dtype == torch.uint8:
        return values.float() / 255
    values = values.float()
    finite = values[values.isfinite()]
    least, most = (float(finite.min()), float(finite.max())) if finite.numel() else (0.0, 1.0)
    if least < 0 or most > 1:
        values = (values - least) / max(most - least, 1e-12)
    return values.nan_to_num(0.0).clamp(0, 1)


def _small(values: Tensor) -> Tensor:
    """Scale a large picture down, the mean of what falls together."""
    longer = max(values.shape[:2])
    if longer <= SIDE:
        return values
    planes = values[..., None] if values.ndim == 2 else values
    size = [max(round(side * SIDE / longer), 1) for side in planes.shape[:2]]
    scaled = torch.nn.functional.interpolate(planes.permute(2, 0, 1)[None], size=size, mode="area")[0].permute(1, 2, 0)
    return scaled[..., 0] if values.ndim == 2 else scaled


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
