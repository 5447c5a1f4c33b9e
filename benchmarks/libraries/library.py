"""What a file of ``programs`` declares: a library in its version, trainings that are well, and faults of a user."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Run = Callable[[], Any]
# Arguments of a Trainer that writes nothing and has one device.
QUIET: Mapping[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Program:
    """One training. ``run`` returns the module, or the modules, whose final weights are compared.

    Args:
        name: Name within the library.
        run: Trains; what it needs of the library is imported within.
        causes: Rules each of which names the cause of a planted fault; empty for a healthy training.
        true: Rules that are right about a training as documented, with what was read in the library's code.
    """

    name: str
    run: Run
    causes: frozenset[str] = frozenset()
    true: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_fault(self) -> bool:
        return bool(self.causes)


@dataclass
class Library:
    """A library, and how it is installed.

    Args:
        package: Its distribution on PyPI, whose installed version is reported.
        requires: Pinned requirements, without torch and the kit.
        preload: Modules that are imported once for all runs.
    """

    package: str
    requires: tuple[str, ...]
    preload: tuple[str, ...] = ()
    programs: dict[str, Program] = field(default_factory=dict)

    def training(self, **true: str) -> Callable[[Run], Run]:
        """Declare a healthy training; a keyword such as ``no_gradient="…"`` is a finding that is true of it."""

        def declare(run: Run) -> Run:
            told = {rule.replace("_", "-"): reason for rule, reason in true.items()}
            self.programs[run.__name__] = Program(run.__name__, run, true=told)
            return run

        return declare

    def fault(self, *causes: str) -> Callable[[Run], Run]:
        """Declare a fault planted through the library's public interface; any of ``causes`` names it."""

        def declare(run: Run) -> Run:
            self.programs[run.__name__] = Program(run.__name__, run, frozenset(causes))
            return run

        return declare
