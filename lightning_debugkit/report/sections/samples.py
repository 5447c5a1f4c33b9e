"""The samples that broke the step, as pictures where they are pictures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from lightning_debugkit.core.journal import Event
from lightning_debugkit.report.number_formats import as_int, as_list, number, plural, sentence
from lightning_debugkit.report.parts import FIGURES, Gallery, Paragraph, Part, SamplePart, Section
from lightning_debugkit.report.pictures import as_png, enlarged
from lightning_debugkit.report.sample_tables import Array, as_images, batch_table, read_leaves, rescaled
from lightning_debugkit.report.summary import Summary

_MOST_BATCHES = 6
_MOST_SAMPLES = 8
_MOST_LEAVES = 8
_LONG = 8.0
_SMALL, _LARGEST = 224, 448  # pixels: smaller pictures are enlarged, larger ones reduced
_RED = (0.93, 0.11, 0.11)  # a pixel that is not finite


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
