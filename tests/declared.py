"""Findings as their rules would make them, for tests that write them by hand."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import replace

import lightning_debugkit
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.rule import DECLARED, Rule


@functools.cache
def rules() -> Mapping[str, Rule]:
    """Every rule of the package, by name."""
    for module in pkgutil.walk_packages(lightning_debugkit.__path__, f"{lightning_debugkit.__name__}."):
        importlib.import_module(module.name)
    return DECLARED


def as_declared(finding: Finding) -> Finding:
    """Return ``finding`` with what its rule says of it: section, what it can follow, whether it is on the data."""
    rule = rules().get(finding.rule)
    if rule is None:
        return finding
    return replace(finding, section=rule.section, can_follow=rule.can_follow, on_data=rule.on_data)
