"""Small pictures of samples, as PNG."""

from __future__ import annotations

import io

from PIL import Image


def enlarged(image: Image.Image, side: int) -> Image.Image:
    """Return a picture with each pixel as a square, so large that the longer side is ``side`` at the most."""
    factor = max(side // max(image.size), 1)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def as_png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()
