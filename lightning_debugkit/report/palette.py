"""Colours of figures, in one place for matplotlib and for the page."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Palette:
    """Colours of figures on a light page; style.css has a variable for each, and its value on a dark page."""

    background: str = "#ffffff"
    ink: str = "#23272e"
    line: str = "#dfe2e7"
    error: str = "#b3261e"
    warning: str = "#8f4d00"
    zero: str = "#b9bec7"
    series: tuple[str, ...] = ("#2f5d9b", "#8a5a00", "#4d7c3a", "#7a4b9d", "#00796f", "#9c4668")

    @property
    def variables(self) -> dict[str, str]:
        """The page's variables by the colour that they stand for."""
        named = {getattr(self, name): f"--{name}" for name in ("background", "ink", "line", "error", "warning", "zero")}
        return named | {color: f"--series-{count}" for count, color in enumerate(self.series, 1)}


PALETTE = Palette()
# Cells of an image keep their colours: these stand out on a light page and on a dark one.
BLUE, RED, GREY = "#3b74c0", "#d63a30", "#8d939c"
