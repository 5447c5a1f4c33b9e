"""Run the corpus and print one table: ``python -m benchmarks.faults [--case NAME] [--seeds 3] [--quick]``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from git import Repo

from benchmarks.faults import peers
from benchmarks.faults.corpus import Case, cases
from benchmarks.faults.page import page
from benchmarks.faults.running import Run, run
from benchmarks.faults.scoring import share
from lightning_debugkit.core.name_lists import percent

QUICK = 10  # every tenth program
COLUMNS = ("detected", "diagnosed", "placed")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--case", action="append", help="only this program (may be repeated)")
    parser.add_argument("--again", action="store_true", help="only the programs that were written again")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each form of each program")
    parser.add_argument("--quick", action="store_true", help="one seed and a tenth of the programs")
    parser.add_argument("--limit", type=float, default=120, help="seconds that one run may take")
    parser.add_argument("--jobs", type=int, default=1, help="programs that run beside each other")
    parser.add_argument("--json", type=Path, help="write all that was said to this file")
    parser.add_argument("--page", type=Path, help="write the results as a page of Markdown to this file")
    parser.add_argument("--from", dest="results", nargs="+", type=Path, help="read results of --json, run nothing")
    parser.add_argument("--peers", action="store_true", help="run the peers, too")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the programs that were asked for."""
    every = [case for case in cases() if case.again or not options.again]
    if options.case:
        unknown = set(options.case) - {case.name for case in every}
        if unknown:
            sys.exit(f"no such program: {', '.join(sorted(unknown))}")
        return [case for case in every if case.name in options.case]
    return every[::QUICK] if options.quick else every


def runs_of(programs: list[Case], seeds: int, limit: float, jobs: int) -> Iterator[dict[str, Any]]:
    """Run each program in both forms (a healthy one in one), and say what came of each."""
    todo = [
        (case, mended, seed)
        for case in programs
        for seed in range(seeds)
        for mended in ((True,) if case.healthy else (False, True))
    ]

    def one(what: tuple[Case, bool, int]) -> dict[str, Any]:
        return record_of(*what, run(*what, limit))

    with ThreadPoolExecutor(jobs) as pool:
        for record in pool.map(one, todo):
            print(line(record), flush=True)
            yield record


def record_of(case: Case, mended: bool, seed: int, done: Run) -> dict[str, Any]:
    """Return one run as plain data."""
    return {
        "case": case.name,
        "again": case.again,
        "form": "healthy" if case.healthy else "mended" if mended else "fault",
        "seed": seed,
        "expected": list(case.diagnoses),
        "place": case.place,
        **asdict(done.score),
        "ended": done.ended,
        "output": done.output if bad_end({"form": "mended" if mended else "fault", "ended": done.ended}) else "",
    }


def bad_end(record: dict[str, Any]) -> bool:
    """Whether a run ended as it must not: a fault may raise, a healthy program may not."""
    return record["ended"] in ("out of time", "ended by the kit") or (
        record["form"] != "fault" and record["ended"] not in ("well", "skipped")
    )


def line(record: dict[str, Any]) -> str:
    """Return one row of the table."""
    if record["form"] == "fault":
        marks = " ".join(f"{name}:{'-+'[record[name]] if record[name] is not None else ' '}" for name in COLUMNS)
    else:
        marks = "ACCUSED" if record["detected"] else "silent"
    end = f"  [{record['ended']}]" if bad_end(record) or record["ended"] == "skipped" else ""
    said = ", ".join(dict.fromkeys(rule for rule, _ in record["said"]))
    return f"{record['case']:<34} {record['form']:<8} {record['seed']}  {marks:<36} {said}{end}"


def totals(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return shares with intervals over all runs."""
    faults = [r for r in records if r["form"] == "fault"]
    result = {}
    for name in COLUMNS:
        judged = [r for r in faults if r[name] is not None]
        result[name] = share(sum(r[name] for r in judged), len(judged))
    for form in ("mended", "healthy"):
        of = [r for r in records if r["form"] == form and r["ended"] != "skipped"]
        result[f"{form} accused"] = share(sum(r["detected"] for r in of), len(of))
    return result


def scores(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the totals of the corpus, and those of the programs that were written again because of a changed rule."""
    return {
        "corpus": totals([r for r in records if not r.get("again")]),
        "again": totals([r for r in records if r.get("again")]),
    }


def misses(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield each run that is not as it should be, with what was said instead."""
    for record in records:
        wrong = record["detected"] if record["form"] != "fault" else False in (record[name] for name in COLUMNS)
        if wrong or bad_end(record):
            yield line(record)
            if record["form"] == "fault":
                yield f"    expected {' or '.join(record['expected'])}" + (
                    f' at "{record["place"]}"' if record["place"] else ""
                )
            yield from (f"    {rule}: {message}" for rule, message in record["said"][:4])
            yield from (f"    | {text}" for text in record.get("output", "").splitlines()[-4:])


def everything(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results that ``--from`` names, one after the other; or run, and return what came of it."""
    if not options.results:
        programs, seeds = chosen(options), 1 if options.quick else options.seeds
        records = list(runs_of(programs, seeds, options.limit, options.jobs))
        corpus = [case for case in programs if not case.again]
        rivals = peers.compare(corpus, seeds, options.limit) if options.peers else {}
        return {"machine": machine(), "runs": records, "peers": rivals}
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in options.results]
    # A program that ran again counts once, as in its last results.
    runs = {(run["case"], run["form"], run["seed"]): run for part in parts for run in part["runs"]}
    rivals = {name: forms for part in parts for name, forms in part["peers"].items()}
    return {"machine": parts[0]["machine"], "runs": [runs[key] for key in sorted(runs)], "peers": rivals}


def machine() -> dict[str, str]:
    """Return what the programs ran on."""
    packages = {name: version(name) for name in ("lightning-debugkit", "lightning", "torch")}
    own = {"commit": Repo(Path(__file__).parents[2]).head.commit.hexsha[:7], "python": platform.python_version()}
    return {**own, "machine": f"{platform.machine()}, {os.cpu_count()} cores", **packages}


def written(results: dict[str, Any]) -> str:
    """Return results as JSON, a run a line, with the beginning of what was said first."""
    short = [
        {key: value for key, value in run.items() if key != "output"}
        | {"said": [[rule, message[:160]] for rule, message in run["said"][:3]]}
        for run in results["runs"]
    ]
    runs = ",\n".join(json.dumps(run) for run in short)
    rest = {key: value for key, value in results.items() if key != "runs"} | {"totals": scores(results["runs"])}
    return f'{json.dumps(rest)[:-1]}, "runs": [\n{runs}\n]}}\n'


def main(argv: list[str] | None = None) -> int:
    """Run, print, write; return 1 where a healthy program was accused or a run ended as it must not."""
    options = arguments(argv)
    results = everything(options)
    records = results["runs"]
    print("\nNot as it should be:", *misses(records), sep="\n")
    print(f"\n{len({record['case'] for record in records})} programs")
    for kind, parts in scores(records).items():
        for name, part in parts.items():
            if part["of"]:
                interval = f"{percent(part['share'])} ({percent(part['low'])} - {percent(part['high'])})"
                print(f"{kind:<8} {name:<16} {part['hits']:>4} of {part['of']:<4}  {interval}")
    for name, forms in results["peers"].items():
        print(name, *(f"{form} {part['hits']} of {part['of']}" for form, part in forms.items()))
    if options.page:
        options.page.write_text("\n".join(page(results, scores(records))) + "\n", encoding="utf-8")
    if options.json:
        options.json.write_text(written(results), encoding="utf-8")
    return int(any((r["form"] != "fault" and r["detected"]) or bad_end(r) for r in records))


if __name__ == "__main__":
    sys.exit(main())
