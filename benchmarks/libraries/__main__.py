"""Make the environments, run the programs, compare, and write what came out."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import platform
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from git import Repo

from benchmarks.libraries import programs
from benchmarks.libraries.comparison import Row, compare, is_equal
from benchmarks.libraries.environment import ROOT, Environment, NotInstalled
from benchmarks.libraries.library import Library, Program
from benchmarks.libraries.page import page, table
from benchmarks.libraries.runs import Runs

NAMES = sorted(module.name for module in pkgutil.iter_modules(programs.__path__))
_KIT = ("lightning", "pytorch-lightning", "torch")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; 1 if a training was changed, accused, or led into the kit."""
    options = _parser().parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(options.json.read_text()) if options.json.exists() else {}
    if not options.page_only:
        for name in options.only or NAMES:
            found = _library(name, options)
            rows = {_key(row): row for row in [*results.get(name, {}).get("rows", []), *found["rows"]]}
            results[name] = {**found, "rows": list(rows.values())}
            options.json.write_text(_a_line_each(results))
    print(table(results))
    if options.page:
        options.page.write_text(page(results, NAMES), encoding="utf-8")
    return int(any(_is_bad(row) for name in results for row in results[name]["rows"]))


def _key(row: dict[str, Any]) -> tuple[str, str]:
    """What a new row takes the place of; a planted fault counts once, under whichever preset."""
    return row["program"], "" if row["named"] is not None else row["preset"]


def _a_line_each(results: dict[str, Any]) -> str:
    """Return the results as JSON with one line for each run, so that one that is renewed changes one line."""
    parts = []
    for name, found in results.items():
        about = json.dumps({key: value for key, value in found.items() if key != "rows"})
        rows = ",\n".join(map(json.dumps, found["rows"]))
        parts.append(f'{json.dumps(name)}: {about[:-1]}, "rows": [\n{rows}\n]}}')
    return "{" + ",\n".join(parts) + "}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.libraries", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="a library; may be given again")
    parser.add_argument("--program", action="append", help="a program of it; may be given again")
    parser.add_argument("--preset", action="append", choices=("light", "standard", "thorough"))
    parser.add_argument("--torch", default="torch", help="requirement by which torch is installed")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightning-debugkit-libraries")
    parser.add_argument("--json", type=Path, default=Path("libraries.json"), help="results; those there are kept")
    parser.add_argument("--page", type=Path, help="a page of Markdown that is made of all results")
    parser.add_argument("--page-only", action="store_true", help="run nothing, make the page from the results there")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one run of a program")
    parser.add_argument("--install-timeout", type=float, default=1800)
    return parser


def _library(name: str, options: argparse.Namespace) -> dict[str, Any]:
    library: Library = importlib.import_module(f"benchmarks.libraries.programs.{name}").LIBRARY
    environment = Environment(options.work / name / "env")
    held: dict[str, Any] = {"package": library.package, "versions": {}, "python": platform.python_version(), "rows": []}
    try:
        environment.make(library.requires, options.torch, options.install_timeout)
    except NotInstalled as error:
        return held | {"not_installed": str(error)}
    held["versions"] = environment.versions(library.package, *_KIT)
    commit = Repo(ROOT).head.commit.hexsha[:7]
    held["rows"] = [{**row.as_dict(), "commit": commit} for row in run_programs(name, environment, options)]
    return held


def run_programs(name: str, environment: Environment, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each program and preset of the library ``name``, which ``environment`` holds.

    Args:
        name: A module of ``programs``.
        environment: Where the library is installed.
        options: ``program``, ``preset``, ``work`` and ``timeout``, as on the command line.
    """
    library: Library = importlib.import_module(f"benchmarks.libraries.programs.{name}").LIBRARY
    with Runs(name, environment, options.work / name / "runs", options.timeout) as runs:
        for program in library.programs.values():
            if options.program is None or program.name in options.program:
                yield from _rows(name, program, runs, options.preset or ["standard", "thorough"])


def _rows(library: str, program: Program, runs: Runs, presets: Sequence[str]) -> Iterator[Row]:
    """Run ``program`` without the kit and under each preset; a planted fault with it alone, under the first."""
    if program.is_fault:
        kit = runs.outcome(program.name, presets[0])
        yield _told(compare(library, program, presets[0], kit, None, kit))
        return
    bare = runs.outcome(program.name)
    if bare["ended"] != "finished":
        print(f"{library} {program.name} is left out: without the kit it ends with {bare['ended']}", flush=True)
        return
    for preset in presets:
        kit = runs.outcome(program.name, preset)
        # Not each library repeats itself: that is asked only where it matters.
        again = None if is_equal(bare, kit) else runs.outcome(program.name)
        yield _told(compare(library, program, preset, bare, again, kit))


def _told(row: Row) -> Row:
    print(_line(row), flush=True)
    return row


def _line(row: Row) -> str:
    if row.named is not None:
        said = f"{'named' if row.named else 'MISSED'}: {', '.join(row.first) or 'nothing said'}"
    else:
        said = "same" if row.is_same else ("DIFFERS" if row.repeatable else "not repeatable by itself")
    parts = [f"{row.library} {row.program} {row.preset}: {said}, {row.ended}, {row.seconds:+.1f} s"]
    parts += [f"  accuses: {text}" for text in row.accusations]
    parts += [f"  true: {text}" for text in row.true]
    parts += [f"  trouble: {text}" for text in row.troubles]
    parts += [] if row.fits else ["  NOTHING WAS WATCHED"]
    parts += ["  THE KIT IS IN THE TRACEBACK"] if row.kit_in_traceback else []
    return "\n".join(parts)


def _is_bad(row: dict[str, Any]) -> bool:
    is_changed = row["named"] is None and row["repeatable"] and not row["same"]
    return bool(not row["fits"] or is_changed or row["accusations"] or row["troubles"] or row["kit_in_traceback"])


if __name__ == "__main__":
    raise SystemExit(main())
