"""Lets torchvision of PyPI be imported beside a CPU build of torch, as a module of ``preload`` before it.

Its wheel is built for CUDA, so its extension does not load here, and its import ends at two operators that nobody has
declared. Declared without a kernel they raise when called; all that is plain torch works.
"""

import importlib.util
from pathlib import Path

import torch

_SUPPRESSION = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _extension_loads() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    try:
        for library in Path(spec.origin).parent.glob("_C*"):
            torch.ops.load_library(str(library))
    except OSError:
        return False
    return True


if not _extension_loads():
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", _SUPPRESSION)
