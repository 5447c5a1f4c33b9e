"""``lightning-debugkit report``: render the report of a run, or of several side by side."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

HELP = "render the report of a run and print its verdict"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Render the report of a run, also of one that was killed; of several runs, one page with all."
    )
    parser.add_argument(
        "run_folder", type=str, help="run folder, usually LOG_DIR/debugkit, its report.html, or any folder above runs"
    )
    parser.add_argument("others", type=str, nargs="*", default=[], help="more runs, to be shown side by side")
    parser.add_argument("--to", type=str, default="", help="page on several runs, runs.html if not given")
    return parser


def run(run_folder: str, others: list[str] | None = None, to: str = "") -> Told:
    """Render the report of a run, also of one that was killed, and print its verdict; of several, side by side."""
    from lightning_debugkit.report import render
    from lightning_debugkit.report.read_report import Report

    if others:
        from lightning_debugkit.report.compared_runs import compare_runs

        page, given = Path(to or "runs.html"), [run_folder, *others]
        folders, more = zip(*map(_newest, given), strict=True)
        told = compare_runs([*map(Report, folders)], page, [_above_page(Path(name)) for name in given])
        return f"{told}\nReport: {page.resolve()}{''.join(more)}", 0
    if to:
        raise ValueError(f"report needs two runs or more for --to, got {to!r} for one; its page is in the run folder.")
    folder, older = _newest(run_folder)
    return f"{render(folder).verdict}\nReport: {(folder / 'report.html').resolve()}{older}", 0


def _newest(given: str) -> tuple[Path, str]:
    """Return the newest run folder at or below a path, and a line on the others, empty if there are none."""
    from lightning_debugkit.report.experiments import newest

    folder, older = newest(_above_page(Path(given)))
    return folder, f"\nThe newest of {older + 1} runs; lightning-debugkit log {given} lists them." if older else ""


def _above_page(given: Path) -> Path:
    if not given.is_file() and given.name != "report.html":  # one that is not drawn yet is asked for, too
        return given
    if not any(given.parent.glob("journal-*.jsonl")):
        raise ValueError(f"report needs a run folder or a file in one, got '{given}'; it is usually LOG_DIR/debugkit.")
    return given.parent
