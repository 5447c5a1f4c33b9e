"""Samples of the validation data as pictures or text, small enough that a page holds many."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from lightning_debugkit.report.error_analysis.analysis_file import AnalysisFile
from lightning_debugkit.report.number_formats import as_mapping
from lightning_debugkit.report.parts import Gallery, SamplePart
from lightning_debugkit.report.pictures import as_png, enlarged

BUDGET = 700_000  # bytes of pictures in a section
_SMALL, _LARGE = 60, 200  # pixels: smaller ones are enlarged, larger ones reduced
_SHOWN = 120
_TEXT = 600


class Album:
    """The samples that an analysis keeps, by their index.

    A picture that is missing, broken or beyond the budget is left out; what is known of its sample is told anyway.
    """

    def __init__(self, folder: Path, analysis: AnalysisFile, budget: int = BUDGET) -> None:
        self.folder = folder.resolve()
        self.paths: Mapping[str, Any] = as_mapping(analysis.held.get("pictures"))
        self.texts: Mapping[str, Any] = as_mapping(analysis.held.get("samples"))
        self.left = budget
        self._images: dict[str, bytes] = {}

    def sample(self, index: Any, *lines: str) -> SamplePart:
        """Return a sample with what there is to say of it."""
        key = str(index)
        told = tuple(line for line in (*lines, f"index {key}" if index is not None else "") if line)
        text = str(self.texts.get(key, ""))
        text = text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
        image = self._image(key)
        if len(image) > self.left:
            return SamplePart(told, text=text)
        self.left -= len(image)
        return SamplePart(told, image, str(self.paths.get(key, "")), text)

    def _image(self, key: str) -> bytes:
        if key not in self._images:
            self._images[key] = self._read(self.paths.get(key))
        return self._images[key]

    def _read(self, path: object) -> bytes:
        if not isinstance(path, str):
            return b""
        file = (self.folder / path).resolve()
        try:
            return _png(file) if file.is_relative_to(self.folder) else b""
        except Exception:  # whatever a torn or foreign file makes the decoder raise: the text remains
            return b""


def _png(file: Path) -> bytes:
    """Return a picture in the size in which it is shown, its pixels as squares if there are few."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(file) as opened:
            image = opened.convert("L" if opened.mode in ("L", "1") else "RGB")
    longest = max(image.size)
    if longest <= _SMALL:
        image = enlarged(image, _SHOWN)
    elif longest > _LARGE:
        image.thumbnail((_LARGE, _LARGE))
    return as_png(image if image.mode == "L" else image.quantize(128))


def gallery(title: str, samples: Iterable[SamplePart]) -> Iterator[Gallery]:
    """Yield the samples that can be shown, nothing if none can."""
    shown = tuple(sample for sample in samples if sample.image or sample.text)
    if shown:
        yield Gallery(title, shown)
