"""The sections of the report, a file each: what a file here declares as ``SECTION`` is in the report."""

from __future__ import annotations

import importlib
import pkgutil

from lightning_debugkit.report.parts import Section


def all_sections() -> list[Section]:
    """Return the ``SECTION`` of every file in this folder, in their order."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    sections = [module.SECTION for module in modules if hasattr(module, "SECTION")]
    return sorted(sections, key=lambda section: section.order)
