"""Samples to look at, drawn again from the data set in the end, without a trace in its random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_debugkit.data.loaders import loaders_of
from lightning_debugkit.data.sample_entries import drawing
from lightning_debugkit.evaluation.error_analysis.index_evidence import sample_at
from lightning_debugkit.evaluation.error_analysis.sample_pictures import picture_of, save_picture, text_of

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

FOLDER = "errors"
_MOST_FAILED = 5  # then the data set is gone


class SampleGallery:
    """Draws samples by their index and leaves pictures in the run folder, or texts.

    Args:
        folder: Run folder.
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
        with drawing(self.datasets):
            failed: list[str] = []
            for index in list(dict.fromkeys(index for index in indices if index >= 0))[:most]:
                try:
                    self._draw(index)
                except Exception as error:  # a torn file; a data set that is gone, or minds being read from here
                    failed.append(f"{type(error).__name__}: {error}")
                if len(failed) == _MOST_FAILED:
                    break
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
    for holder in (module, getattr(trainer, "datamodule", None)):
        found = getattr(holder, "tokenizer", None)
        if callable(getattr(found, "decode", None)):
            return found
    return None
