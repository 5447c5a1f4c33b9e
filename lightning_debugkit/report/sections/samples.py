"""The samples that broke the step: as pictures where they are pictures, the other arrays as tables."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_debugkit.core.journal import Event
from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.report.number_formats import as_int, as_list, number, phrase, sentence, shortened
from lightning_debugkit.report.parts import (
    FIGURES,
    Cell,
    Gallery,
    Paragraph,
    Part,
    SamplePart,
    Section,
    Table,
    table_of,
)
from lightning_debugkit.report.pictures import as_png, enlarged
from lightning_debugkit.report.summary import Summary

MOST_BYTES = 256 * 2**20
_LEAST_SIDE = 4
_COLUMNS = 12
_ROWS = 24
_MOST_BATCHES = 6
_MOST_SAMPLES = 8
_MOST_LEAVES = 8
_LONG = 8.0
_SMALL, _LARGEST = 224, 448  # pixels: smaller pictures are enlarged, larger ones reduced
_RED = (0.93, 0.11, 0.11)  # a pixel that is not finite

Array = NDArray[Any]


def read_leaves(folder: Path, path: str) -> Iterator[tuple[str, Array | None, str]]:
    """Yield the name, array and complaint of each leaf of the batch stored at ``path``; one of the two is empty.

    Raises:
        ValueError: ``path`` leads out of the run folder.
        OSError: The file is missing or no readable archive.
    """
    file = (folder / path).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError("it lies outside the run folder")
    try:
        with zipfile.ZipFile(file) as archive:
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        stored = np.load(file, allow_pickle=False)
    except zipfile.BadZipFile as error:
        raise OSError(f"no whole archive ({error})") from error
    with stored:
        for name in stored.files:
            if sizes.get(name, 0) > MOST_BYTES:
                yield name, None, f"too large to show ({sizes[name] // 2**20} MiB)"
                continue
            try:
                yield name, np.asarray(stored[name]), ""
            except Exception as error:  # a torn or foreign array: the others may be whole
                yield name, None, f"{type(error).__name__}: {error}"


def as_images(leaf: Array) -> Array | None:
    """Return the samples as (samples, height, width, 1 or 3), or ``None`` if they are no images.

    >>> as_images(np.zeros((2, 3, 8, 9))).shape, as_images(np.zeros((2, 8, 8))).shape, as_images(np.zeros((2, 4)))
    ((2, 8, 9, 3), (2, 8, 8, 1), None)
    """
    if leaf.dtype.kind not in "fiub":
        return None
    if leaf.ndim == 3:
        leaf = leaf[..., None]
    elif leaf.ndim == 4 and leaf.shape[1] in (1, 3) and min(leaf.shape[2:]) >= _LEAST_SIDE:
        leaf = np.moveaxis(leaf, 1, -1)
    elif leaf.ndim != 4 or leaf.shape[-1] not in (1, 3):
        return None
    return leaf if leaf.shape[0] and min(leaf.shape[1:3]) >= _LEAST_SIDE else None


def rescaled(image: Array, bad: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return an image as (height, width, 3) in 0..1, its finite values stretched, other pixels in ``bad``.

    >>> rescaled(np.array([[[0.0], [np.inf], [2.0]]]), bad=(1, 0, 0)).tolist()
    [[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]
    """
    values = image.astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    with np.errstate(all="ignore"):
        stretched = (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)
    colored = np.broadcast_to(stretched, (*values.shape[:2], 3)).copy()
    colored[~finite.all(axis=-1)] = bad
    clipped: NDArray[np.float64] = np.clip(colored, 0.0, 1.0)
    return clipped


def batch_table(name: str, leaf: Array, labels: Sequence[str]) -> Table:
    """Return a leaf as a table, a row for each sample, or for each of its rows; non-finite numbers are marked."""
    samples = list(zip(labels, leaf, strict=False))
    by_rows = leaf.ndim == 3
    rows = [
        (f"{label}, row {index}", line) if by_rows else (label, np.ravel(sample))
        for label, sample in samples
        for index, line in enumerate(sample if by_rows else [sample])
    ]
    width = max((line.size for _, line in rows), default=0)
    columns = _columns(rows, width)
    is_broken = any(_is_bad(line).any() for _, line in rows)
    caption = f"{name}: {len(samples)} of shape {tuple(leaf.shape[1:])}, {leaf.dtype}" if leaf.ndim > 1 else name
    cut = (
        (min(len(rows), _ROWS), len(rows), "rows"),
        (len(columns), width, "columns, those that are not finite first" if is_broken else "columns"),
    )
    shown = ", ".join(f"{few} of {many} {noun}" for few, many, noun in cut if few < many)
    caption += f" ({shown})" if shown else ""
    return table_of(
        caption,
        ("sample", *(("value",) if width == 1 else (f"[{column}]" for column in columns))),
        tuple((label, *(_cell(line[column]) for column in columns)) for label, line in _few(rows)),
    )


def _few(rows: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """Return the first rows and, before them, those that are not finite."""
    first = sorted(range(len(rows)), key=lambda row: (not _is_bad(rows[row][1]).any(), row))[:_ROWS]
    return [rows[row] for row in sorted(first)]


def _columns(rows: list[tuple[str, Array]], width: int) -> list[int]:
    if width <= _COLUMNS:
        return list(range(width))
    bad = np.flatnonzero(np.any([_is_bad(line) for _, line in rows], axis=0))[: _COLUMNS // 2].tolist()
    first = [column for column in range(width) if column not in bad]
    return [*bad, *first[: _COLUMNS - len(bad)]]


def _is_bad(values: Array) -> NDArray[np.bool_]:
    return ~np.isfinite(values) if values.dtype.kind in "fc" else np.zeros(values.shape, dtype=np.bool_)


def _cell(value: Any) -> Cell | str:
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, complex):
        return Cell(f"{plain:.4g}", is_marked=not np.isfinite(plain))
    if isinstance(plain, float):
        return Cell(number(plain), is_marked=not np.isfinite(plain))
    return shortened(phrase(plain), 60)


def _parts(summary: Summary, folder: Path) -> Iterator[Part]:
    stored = [event for event in summary.artifacts if event.get("name") == "samples"]
    for count, event in enumerate(stored[:_MOST_BATCHES], start=1):
        yield from _batch(event, f"samples-{count}", folder, summary.world_size)
    if len(stored) > _MOST_BATCHES:
        yield Paragraph(f"{len(stored) - _MOST_BATCHES} more are in the run folder, under Files.")


def _batch(event: Event, stem: str, folder: Path, world_size: int) -> Iterator[Part]:
    path = str(event.get("path", ""))
    rank = f", rank {as_int(event.get('rank'))}" if world_size > 1 else ""
    yield Paragraph(f"Of the batch at step {as_int(event.get('step'))}{rank}, stored in {path}.")
    try:
        leaves = list(islice(read_leaves(folder, path), _MOST_LEAVES + 1))
    except (OSError, ValueError, RuntimeError, NotImplementedError) as error:
        yield Paragraph(f"{path} cannot be shown: {sentence(str(error), 200)}.", is_problem=True)
        return
    for number_of_leaf, (name, leaf, complaint) in enumerate(leaves[:_MOST_LEAVES]):
        title = f"Batch entry “{name}”"
        if leaf is None:
            yield Paragraph(f"{title} cannot be shown: {sentence(complaint, 200)}.", is_problem=True)
        else:
            yield _leaf(title, f"{stem}-{number_of_leaf}", np.atleast_1d(leaf), event)
    if len(leaves) > _MOST_LEAVES:
        yield Paragraph(f"The batch has more than {_MOST_LEAVES} entries; the others are in {path}.")


def _leaf(title: str, stem: str, leaf: Array, event: Event) -> Part:
    labels = sample_labels(event, leaf.shape[0])
    images = as_images(leaf)
    if images is None:
        return batch_table(title, leaf[:_MOST_SAMPLES], labels)
    shown = images[:_MOST_SAMPLES]
    ranges = "; ".join(_range(label, image) for label, image in zip(labels, shown, strict=False))
    if len(images) > len(shown):
        ranges += f"; {len(shown)} of {plural(len(images), 'sample')} are shown"
    samples = (
        SamplePart(tuple(label.split(", ")), _picture(image), f"{FIGURES}/{stem}-{row}.png")
        for row, (label, image) in enumerate(zip(labels, shown, strict=False))
    )
    return Gallery(title, tuple(samples), f"{ranges}.")


def sample_labels(event: Event, count: int) -> list[str]:
    """Return what to call each sample: its position in the batch and, if known, its index in the data set."""
    positions, indices = as_list(event.get("samples")), as_list(event.get("dataset_indices"))
    labels = []
    for row in range(count):
        label = f"sample {positions[row]}" if row < len(positions) else f"row {row}"
        labels.append(label + (f", dataset index {indices[row]}" if row < len(indices) else ""))
    return labels


def _range(label: str, image: Array) -> str:
    finite = image[np.isfinite(image)]
    broken = int((~np.isfinite(image)).any(axis=-1).sum())
    said = f"{number(finite.min().item())} to {number(finite.max().item())}" if finite.size else "nothing finite"
    return f"{label}: {said}" + (f", {plural(broken, 'pixel')} not finite (red)" if broken else "")


def _picture(image: Array) -> bytes:
    """Return a picture as PNG, its pixels as squares if there are few."""
    pixels = Image.fromarray((255 * rescaled(image, _RED)).round().astype(np.uint8))
    if max(pixels.size) > _LARGEST:
        pixels.thumbnail((_LARGEST, _LARGEST))
    else:
        pixels = enlarged(pixels, _SMALL)
    if min(pixels.size) < max(pixels.size) / _LONG:
        pixels = pixels.resize((_SMALL, _SMALL), Image.Resampling.NEAREST)
    return as_png(pixels)


SECTION = Section("The samples", order=40, parts=_parts, is_open=True)
