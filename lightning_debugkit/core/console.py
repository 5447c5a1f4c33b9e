"""What a terminal shows: each finding once, above the progress bar, and a few lines at the end."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning_debugkit.core.finding import Finding, Severity
from lightning_debugkit.core.name_lists import listed, plural

_log = logging.getLogger("lightning_debugkit")
_COLORS = {Severity.ERROR: "red", Severity.WARNING: "yellow"}
_NAMED = 5  # findings in the one line that stands for the table


class Console:
    """The terminal, by way of the logger ``lightning_debugkit``: a program that sets up logging decides over it."""

    def __init__(self, shared: Path | None = None) -> None:
        # a folder in which the processes of a job agree who says what, as they share a terminal; `None` if there is one
        # process
        self._shared = shared
        self._said: set[str] = set()
        self._raised: set[str] = set()

    def finding(self, finding: Finding) -> None:
        """Say what calls for action."""
        # What a program's logging lets through later only has not been said.
        if finding.severity >= Severity.WARNING and _log.isEnabledFor(logging.WARNING):
            self._said.add(finding.message)
            if self.is_first(f"{finding.rule}|{finding.where.module}|{int(finding.severity)}"):
                say(f"{finding.severity} {finding.rule}: {finding.message}\n  {finding.advice}")

    def is_first(self, thing: str) -> bool:
        """Tell whether no process has said a thing yet; none waits for another, and in doubt each says it."""
        if self._shared is None:
            return True
        try:
            self._shared.mkdir(exist_ok=True)
            (self._shared / hashlib.sha256(thing.encode()).hexdigest()[:16]).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:
            return True
        return True

    @functools.cached_property
    def says_exception(self) -> bool:
        """Whether this process says how the run ended with an exception: the first that asks does."""
        return self.is_first("the exception")

    def leaves(self, finding: Finding) -> None:
        """Leave ``finding`` to the exception that is about to say it."""
        self._raised.add(finding.message)

    def ending(self, verdict: str, findings: Sequence[Finding], skipped: int = 0) -> str:
        """Return the last words: the verdict, of what was said already only the names, nothing of an exception.

        Args:
            skipped: Steps whose update was dropped, as the verdict tells; nobody has said how many.
        """
        pressing = [finding for finding in findings if finding.severity >= Severity.WARNING]
        if not pressing or not all(finding.message in self._said | self._raised for finding in pressing):
            return verdict
        if not any(finding.message in self._said for finding in pressing):
            return ""
        errors = sum(finding.severity >= Severity.ERROR for finding in pressing)
        counts = ((errors, "error"), (len(pressing) - errors, "warning"))
        told = " and ".join(plural(count, noun) for count, noun in counts if count)
        dropped = f", {plural(skipped, 'step')} skipped" if skipped else ""
        return f"{told}{dropped}{table(pressing)}"


def say(text: str) -> None:
    """Log ``text`` above the progress bars of tqdm; those of rich make room by themselves."""
    with _bars_aside():
        _log.warning(text)


def table(findings: Sequence[Finding]) -> str:
    """Return findings as a table where rich is installed and the terminal is ours alone, else as the end of a line."""
    try:
        if _log.hasHandlers():  # a program's own log takes lines
            raise ImportError
        from rich.console import Console as Terminal
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return f": {listed([f'{finding.rule} (step {finding.where.step})' for finding in findings], _NAMED)}"
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("  severity", "rule", "step", "where"):
        drawn.add_column(name, style="dim" if name == "where" else None, header_style="dim", no_wrap=True)
    for each in findings:
        severity = Text(f"  {each.severity}", style=_COLORS.get(each.severity, ""))
        drawn.add_row(severity, each.rule, str(each.where.step), " ".join(filter(None, [each.where.module, each.line])))
    file = io.StringIO()
    width = shutil.get_terminal_size().columns
    Terminal(file=file, force_terminal=sys.stderr.isatty(), force_jupyter=False, width=width).print(drawn)
    return ":\n" + "\n".join(line.rstrip() for line in file.getvalue().splitlines())


@contextlib.contextmanager
def _bars_aside() -> Iterator[None]:
    """Take the bars of tqdm off the terminal for as long as something is written to it, by whichever handler."""
    tqdm = sys.modules.get("tqdm.std")
    if tqdm is None:
        yield
        return
    with tqdm.tqdm.external_write_mode(file=sys.stderr):
        yield
