"""``docs/benchmarks.md``, made of results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.faults.corpus import cases
from benchmarks.faults.peers import NOT_RUN

INTRODUCTION = """\
Small programs modelled on bugs that people reported, each with a mended twin, and healthy programs that
belong to no fault: `benchmarks/faults/programs/`. They were written by people who had not read the rules; each says
where it comes from, when it was added, and whether a rule was changed because of it.

*Detected:* any finding of warning or above. *Diagnosed:* the first finding, or the one that the report begins with, is
one of those that the program calls acceptable. *Placed:* it names the place, where the program states one. *Accused:*
any warning about a mended or a healthy program. Each program has a process of its own, and the kit comes to it by its
environment variable alone."""
COMMANDS = """\
```console
python -m benchmarks.faults --seeds 1 --json benchmarks/faults/results.json   # the whole corpus
python -m benchmarks.faults --from benchmarks/faults/results.json --page docs/benchmarks.md   # this page
python -m benchmarks.faults --case log_of_empty_bin   # one program, three seeds
python -m benchmarks.faults --quick --jobs 2   # every tenth program; exit code 1 on a false alarm
pip install -r benchmarks/faults/peers.txt && python -m benchmarks.faults --peers   # beside what people use instead
```"""
PEERS = """\
Each with the use that its documentation has, and its best chance: any word of severity warning or above counts as
detected, whether or not it is the fault. Those that watch a run watch the same run, without the kit; what they say of
speed and memory does not count. So far on a small sample, every twentieth program.
How often one accuses a healthy or mended program says how much its detections mean."""


def page(results: Mapping[str, Any], totals: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of the page.

    Args:
        results: Runs and peers, as ``--json`` writes them.
        totals: Shares with intervals, by name.
    """
    runs = results["runs"]
    yield from ("# Faults and healthy programs", "", INTRODUCTION, "")
    used = ", ".join(f"{name} {number}" for name, number in results["machine"].items())
    seeds = len({run["seed"] for run in runs})
    yield f"{len({run['case'] for run in runs})} of {len(cases())} programs, {seeds} seed{'s' * (seeds > 1)}; {used}."
    yield from ("", "| | runs | share | 95 % interval (Wilson) |", "|---|---:|---:|---:|")
    yield from (row(name, part) for name, part in totals.items() if part["of"])
    yield from ("", COMMANDS, "", "## What is missed", "", "| program | expected | told instead | why |")
    yield "|---|---|---|---|"
    reasons = {case.name: case.missed for case in cases()}
    for run in runs:
        if run["form"] == "fault" and not (run["diagnosed"] and run["placed"] is not False):
            told = ", ".join(f"`{rule}`" for rule in dict.fromkeys(rule for rule, _ in run["said"])) or "nothing"
            what = ", ".join(f"`{rule}`" for rule in run["expected"])
            unplaced = " (named, not placed)" if run["diagnosed"] else ""
            yield f"| `{run['case']}` | {what} | {told}{unplaced} | {reasons.get(run['case'], '')} |"
    yield from ("", "## What is accused", "")
    accused = [run for run in runs if run["form"] != "fault" and run["detected"]]
    yield from (f"- `{run['case']}` ({run['form']}): {run['said'][0][1]}" for run in accused)
    yield from ([] if accused else ["Nothing."])
    if skipped := sorted({run["case"] for run in runs if run["ended"] == "skipped"}):
        yield from ("", f"Skipped, as what they need is not installed: {', '.join(f'`{name}`' for name in skipped)}.")
    yield from compared(results["peers"])
    yield from ("", "## Rules that were changed because of a program", "", "| program | rule |", "|---|---|")
    yield from (f"| `{case.name}` | {case.changed} |" for case in cases() if case.changed)


def row(name: str, part: Mapping[str, Any]) -> str:
    """Return a row of the table of shares."""
    interval = f"{part['share']:.1%} | {part['low']:.1%} to {part['high']:.1%}"
    return f"| {name} | {part['hits']} of {part['of']} | {interval} |"


def compared(peers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the section on what people would use instead."""
    if not peers:
        return
    yield from ("", "## What people would use instead", "", PEERS, "")
    yield from ("| | detected | accused |", "|---|---:|---:|")
    for name, forms in peers.items():
        hits = (f"{part['hits']} of {part['of']} ({part['share']:.0%})" for part in forms.values())
        yield f"| {name} | {' | '.join(hits)} |"
    yield from ("", "Not run:", "")
    yield from (f"- {name}: {why}." for name, why in NOT_RUN.items())
