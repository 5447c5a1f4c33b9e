"""``lightning-debugkit log``: the experiment log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

if TYPE_CHECKING:
    from lightning_debugkit.report.experiments import Experiment

HELP = "print the experiment log"
Form = Literal["table", "markdown", "json"]


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="The experiment log: what ran, why, from which commit, how it ended.")
    parser.add_argument("path", type=str, nargs="?", default=".", help="folder that the runs lie under")
    parser.add_argument("--format", choices=get_args(Form), default="table", help="how to print it")
    return parser


def run(path: str = ".", format: Form = "table") -> Told:
    """Print the experiment log: the runs whose journals lie under a folder, and those that only references tell of."""
    from lightning_debugkit.report import experiments

    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"log needs a folder, got {path!r}; name the one that your runs lie under.")
    runs = experiments.merged_experiments(experiments.experiments(folder), _of_references(folder))
    form = {
        "table": experiments.experiment_table,
        "markdown": experiments.experiments_as_markdown,
        "json": experiments.experiments_as_json,
    }[format]
    if not runs and format != "json":
        return f"No run left a journal under {folder.resolve()}.", 0
    return form(runs), 0


def _of_references(folder: Path) -> list[Experiment]:
    from lightning_debugkit.provenance.repository.git import Unavailable, open_repository
    from lightning_debugkit.provenance.repository.side_refs import listed_runs
    from lightning_debugkit.report.experiments import of_reference

    try:
        with open_repository(folder) as repository:
            return [of_reference(run.id, run.base or "", run.when, run.trailers) for run in listed_runs(repository)]
    except Unavailable:
        return []
