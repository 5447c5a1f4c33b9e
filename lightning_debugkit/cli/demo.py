"""``lightning-debugkit demo``: a training that breaks on real images, and the report that explains it."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told, lines_of
from lightning_debugkit.core.finding import Severity

HELP = "see it at work: half a minute, no download"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Train on real images until one broken box stops the run.")
    parser.add_argument(
        "folder", type=str, nargs="?", default="lightning-debugkit-demo", help="where script and report are put"
    )
    return parser


def run(folder: str) -> Told:
    """Train on real images until one broken box stops the run, and show how the report explains it."""
    from lightning_debugkit.core.journal import read_journal
    from lightning_debugkit.demo import run_demo

    print("Training on scikit-learn's digits; one of 1797 boxes has no height ...", flush=True)
    left = run_demo(Path(folder))
    errors = [finding for finding in read_journal(left).findings if finding.severity is Severity.ERROR]
    said = [line for finding in errors for line in ("", *lines_of(finding))]
    said += ["", f"Script: {(Path(folder) / 'train.py').resolve()}", f"Report: {(left / 'report.html').resolve()}"]
    return "\n".join(
        said if errors else [*said, "The demo did not meet its fault; please tell us."]
    ), 0 if errors else 1
