"""Where findings, measures and the report go besides the journal: one protocol, and no place that can harm the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_debugkit.core.arguments import function_at
from lightning_debugkit.core.finding import Finding
from lightning_debugkit.core.rng import RandomState

ToLoggers = Literal["findings", "all", "none"]
OnFinding = Callable[[Finding], Any] | str


class Sink(Protocol):
    """A place that what a run tells is given to; any of its methods may fail."""

    def finding(self, finding: Finding) -> None:
        """Take a finding, of any severity, once it is journaled."""

    def measure(self, name: str, value: Any, step: int) -> None:
        """Take a point of a series."""

    def artifact(self, path: Path, figures: Mapping[str, Any]) -> None:
        """Take the report and its `matplotlib` figures; none where nobody asks for them."""

    def end(self, step: int) -> None:
        """Take what waits: the fit ends, after ``step`` steps."""


class Sinks:
    """Several places at once. One that fails is told of, and asked for nothing more in this run.

    What a place draws from random generators is put back: the training is the one without it.
    """

    def __init__(self, sinks: Iterable[Sink], failed: Callable[[Sink, Exception], None]) -> None:
        self._open = list(sinks)
        self._failed = failed

    def __bool__(self) -> bool:
        return bool(self._open)

    def finding(self, finding: Finding) -> None:
        self._each(lambda sink: sink.finding(finding))

    def measure(self, name: str, value: Any, step: int) -> None:
        self._each(lambda sink: sink.measure(name, value, step))

    def artifact(self, path: Path, figures: Mapping[str, Any]) -> None:
        self._each(lambda sink: sink.artifact(path, figures))

    def end(self, step: int) -> None:
        self._each(lambda sink: sink.end(step))

    def _each(self, give: Callable[[Sink], None]) -> None:
        if not self._open:
            return
        random = RandomState.capture()
        try:
            for sink in list(self._open):
                try:
                    give(sink)
                except Exception as error:
                    self._open.remove(sink)
                    self._failed(sink, error)
        finally:
            random.restore()


class Call:
    """A function of the user's, called with each finding. ``function``: the function, or its dotted path."""

    def __init__(self, function: OnFinding) -> None:
        self._function = function

    def __str__(self) -> str:
        name = self._function if isinstance(self._function, str) else getattr(self._function, "__qualname__", "")
        return f"on_finding={name or self._function!r}"

    def finding(self, finding: Finding) -> None:
        function = function_at(self._function) if isinstance(self._function, str) else self._function
        function(finding)

    def measure(self, name: str, value: Any, step: int) -> None:
        """Not asked for."""

    def artifact(self, path: Path, figures: Mapping[str, Any]) -> None:
        """Not asked for."""

    def end(self, step: int) -> None:
        """Nothing waits."""
