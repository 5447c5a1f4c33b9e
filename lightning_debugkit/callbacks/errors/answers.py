"""From predictions and targets of a batch to its answers, by task."""

from __future__ import annotations

from lightning_debugkit.callbacks.errors.boxes import of_boxes
from lightning_debugkit.callbacks.errors.classes import of_classes
from lightning_debugkit.callbacks.errors.forms import Form
from lightning_debugkit.callbacks.errors.labels import of_labels
from lightning_debugkit.callbacks.errors.look import Look
from lightning_debugkit.callbacks.errors.pixels import of_pixels
from lightning_debugkit.callbacks.predictions.sources import Reading


def look_at(form: Form, found: Reading) -> Look:
    """Return the answers of a batch."""
    if form.task == "detection":
        return of_boxes(found.predictions, found.target)
    target = found.target.to(found.predictions.device)
    look = {"multilabel": of_labels, "segmentation": of_pixels}.get(form.task, of_classes)
    return look(form, found.predictions, target, found.ignore_index)
