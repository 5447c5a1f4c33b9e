"""Run the corpus and print one table: ``python -m benchmarks.faults [--case NAME] [--seeds 3] [--quick]``."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.faults import peers
from benchmarks.faults.corpus import Case, cases
from benchmarks.faults.running import Run, run
from benchmarks.faults.scoring import share

INTRODUCTION = """\
Small programs modelled on bugs that people reported, each with a mended twin, and healthy programs that
belong to no fault: `benchmarks/faults/programs/`. They were written by people who had not read the rules; each says
where it comes from, when it was added, and whether a rule was changed because of it.

*Detected:* any finding of warning or above. *Diagnosed:* the first finding, or the one that the report begins with, is
one of those that the program calls acceptable. *Placed:* it names the place, where the program states one. *Accused:*
any warning about a mended or a healthy program.

This page is made by `python -m benchmarks.faults --page docs/benchmarks.md`."""
QUICK = 10  # every tenth program
COLUMNS = ("detected", "diagnosed", "placed")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--case", action="append", help="only this program (may be repeated)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each form of each program")
    parser.add_argument("--quick", action="store_true", help="one seed and a tenth of the programs")
    parser.add_argument("--limit", type=float, default=120, help="seconds that one run may take")
    parser.add_argument("--jobs", type=int, default=1, help="programs that run beside each other")
    parser.add_argument("--json", type=Path, help="write all that was said to this file")
    parser.add_argument("--page", type=Path, help="write the results as a page of Markdown to this file")
    parser.add_argument("--peers", action="store_true", help="run the peers, too")
    return parser.parse_args(argv)


def chosen(options: argparse.Namespace) -> list[Case]:
    """Return the programs that were asked for."""
    every = cases()
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
            yield from (f"    | {text}" for text in record["output"].splitlines()[-4:])


def page(records: list[dict[str, Any]], seeds: int, machine: dict[str, str]) -> Iterator[str]:
    """Yield the lines of ``docs/benchmarks.md``."""
    programs = len({record["case"] for record in records})
    faults = [record for record in records if record["form"] == "fault"]
    yield from ("# Faults and healthy programs", "", INTRODUCTION, "")
    used = ", ".join(f"{name} {number}" for name, number in machine.items())
    yield f"{programs} programs, {seeds} seed{'s' * (seeds > 1)}; {used}."
    yield from ("", "| | runs | share | 95 % interval |", "|---|---:|---:|---:|")
    for name, part in totals(records).items():
        if part["of"]:
            interval = f"{part['share']:.1%} | {part['low']:.1%} to {part['high']:.1%}"
            yield f"| {name} | {part['hits']} of {part['of']} | {interval} |"
    yield from ("", "## What is missed", "", "| program | expected | told instead |", "|---|---|---|")
    for record in faults:
        if not record["diagnosed"]:
            told = ", ".join(f"`{rule}`" for rule in dict.fromkeys(rule for rule, _ in record["said"])) or "nothing"
            yield f"| `{record['case']}` | {', '.join(f'`{rule}`' for rule in record['expected'])} | {told} |"
    accused = [record for record in records if record["form"] != "fault" and record["detected"]]
    yield from ("", "## What is accused", "")
    yield from (f"- `{r['case']}` ({r['form']}): {r['said'][0][1]}" for r in accused)
    if not accused:
        yield "Nothing."


def main(argv: list[str] | None = None) -> int:
    """Run, print, write; return 1 where a healthy program was accused or a run ended as it must not."""
    options = arguments(argv)
    programs, seeds = chosen(options), 1 if options.quick else options.seeds
    records = list(runs_of(programs, seeds, options.limit, options.jobs))
    summary = totals(records)
    print("\nNot as it should be:", *misses(records), sep="\n")
    print(f"\n{len(programs)} programs, {seeds} seed(s)")
    for name, part in summary.items():
        interval = f"  {part['share']:.1%} ({part['low']:.1%} - {part['high']:.1%})" if part["of"] else ""
        print(f"{name:<16} {part['hits']:>4} of {part['of']:<4}{interval}")
    rivals = peers.compare(programs, seeds, options.limit) if options.peers else []
    packages = {name: version(name) for name in ("lightning-debugkit", "lightning", "torch")}
    machine = {"python": platform.python_version(), "machine": platform.machine(), **packages}
    if options.page:
        options.page.write_text("\n".join(page(records, seeds, machine)) + "\n", encoding="utf-8")
    if options.json:
        everything = {"machine": machine, "totals": summary, "runs": records, "peers": rivals}
        options.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
    return int(any((r["form"] != "fault" and r["detected"]) or bad_end(r) for r in records))


if __name__ == "__main__":
    sys.exit(main())
