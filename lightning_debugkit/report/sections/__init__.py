"""The sections of the report: what a file here declares as ``SECTION``, or several as ``SECTIONS``, is in it."""

from __future__ import annotations

import importlib
import pkgutil

from lightning_debugkit.report.parts import Section


def all_sections() -> list[Section]:
    """Return the sections of every file in this folder, in their order."""
    files = (vars(importlib.import_module(f"{__name__}.{found.name}")) for found in pkgutil.iter_modules(__path__))
    sections = [each for held in files for each in held.get("SECTIONS") or (held["SECTION"],)]
    return sorted(sections, key=lambda section: section.order)
