"""``docs/benchmarks.md``, made of results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.faults.corpus import Case, cases
from benchmarks.faults.peers import NOT_RUN
from benchmarks.faults.scoring import share
from lightning_debugkit.core.name_lists import percent

INTRODUCTION = """\
Small programs modelled on bugs that people reported, each with a mended twin, and healthy programs that
belong to no fault: `benchmarks/faults/programs/`. They were written by people who had not read the rules; each says
where it comes from, when it was added, and whether a rule was changed because of it.

*Detected:* any finding of warning or above. *Diagnosed:* the first finding, or the one that the report begins with, is
one of those that the program calls acceptable. *Placed:* it names the place, where the program states one. *Accused:*
any warning about a mended or a healthy program. Each program has a process of its own, and the kit comes to it by its
environment variable alone.

*Again:* for each program because of which a rule was changed, another of the same fault, written afterwards by
somebody who had seen neither the change nor the rules. They are counted apart: a rule that was changed for one
program finds that program, and whether it finds the fault is seen on the other."""
COMMANDS = """\
```console
python -m benchmarks.faults --seeds 1 --json benchmarks/faults/results.json   # the whole corpus
python -m benchmarks.faults --from benchmarks/faults/results.json --page docs/benchmarks.md   # this page
python -m benchmarks.faults --case log_of_empty_bin   # one program, three seeds
python -m benchmarks.faults --again --seeds 1   # those that were written again
python -m benchmarks.faults --quick --jobs 2   # every tenth program; exit code 1 on a false alarm
pip install -r benchmarks/faults/peers.txt && python -m benchmarks.faults --peers   # beside what people use instead
```"""
PEERS = """\
Each with the use that its documentation has, and its best chance: any word of severity warning or above counts as
detected, whether or not it is the fault. Those that watch a run watch the same run, without the kit; what they say of
speed and memory does not count. One seed each; a program that needs what is not installed is left out.
How often one accuses a healthy or mended program says how much its detections mean."""


def page(results: Mapping[str, Any], totals: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of the page.

    Args:
        results: Runs and peers, as ``--json`` writes them.
        totals: Shares with intervals, by name, of the corpus and of the programs that were written again.
    """
    runs, every = results["runs"], cases()
    yield from ("# Faults and healthy programs", "", INTRODUCTION, "")
    used = ", ".join(f"{name} {number}" for name, number in results["machine"].items())
    seeds = len({run["seed"] for run in runs})
    ran = {run["case"] for run in runs}
    first, second = ([case.name in ran for case in every if bool(case.again) == again] for again in (False, True))
    counts = f"{sum(first)} of {len(first)} programs, {sum(second)} of {len(second)} written again"
    yield f"{counts}, {seeds} seed{'s' * (seeds > 1)}; {used}."
    yield from ("", "| | runs | share | 95 % interval (Wilson) | again | share | 95 % interval |")
    yield "|---|---:|---:|---:|---:|---:|---:|"
    corpus, again = totals["corpus"], totals["again"]
    yield from (f"| {name} | {cells(corpus[name])} | {cells(again[name])} |" for name in corpus)
    yield from ("", COMMANDS, "", "## What is missed", "", "| program | expected | told instead | why |")
    yield "|---|---|---|---|"
    stated = {case.name: case for case in every}
    for run in runs:
        if run["form"] == "fault" and not (run["diagnosed"] and run["placed"] is not False):
            told = ", ".join(f"`{rule}`" for rule in dict.fromkeys(rule for rule, _ in run["said"])) or "nothing"
            what = ", ".join(f"`{rule}`" for rule in run["expected"])
            unplaced = " (named, not placed)" if run["diagnosed"] else ""
            case = stated.get(run["case"])
            second = f" (`{run['again']}` again)" if run.get("again") else ""
            yield f"| `{run['case']}`{second} | {what} | {told}{unplaced} | {case.missed if case else ''} |"
    yield from ("", "## What is accused", "")
    accused = [run for run in runs if run["form"] != "fault" and run["detected"]]
    yield from (f"- `{run['case']}` ({run['form']}): {run['said'][0][1]}" for run in accused)
    yield from ([] if accused else ["Nothing."])
    if skipped := sorted({run["case"] for run in runs if run["ended"] == "skipped"}):
        yield from ("", f"Skipped, as what they need is not installed: {', '.join(f'`{name}`' for name in skipped)}.")
    yield from compared(results["peers"], totals["corpus"])
    yield from ("", "## Rules that were changed because of a program", "", "| program | rule | again | it was |")
    yield "|---|---|---|---|"
    for case in every:
        if case.changed:
            seconds = [second for second in every if second.again == case.name]
            names = ", ".join(f"`{second.name}`{_own(second)}" for second in seconds)
            yield f"| `{case.name}` | {case.changed} | {names} | {'; '.join(verdict(c, runs) for c in seconds)} |"


def _own(case: Case) -> str:
    """Return a remark on a program whose author had seen the change, as its story says."""
    author = "by whoever changed the rule"
    return f" ({author})" if author in case.story else ""


def verdict(case: Case, runs: Iterable[Mapping[str, Any]]) -> str:
    """Return what came of a program in all its runs, in words."""
    own = [run for run in runs if run["case"] == case.name and run["ended"] != "skipped"]
    faults = [run for run in own if run["form"] == "fault"]
    sound = [run for run in own if run["form"] != "fault"]
    if not own:
        return "not run"
    names = ("detected", "diagnosed", "placed")
    words = [name for name in names if faults and all(run[name] for run in faults)]
    words += ["missed"] * bool(faults and not words)
    accused = any(run["detected"] for run in sound)
    words += ["accused" if case.healthy else "its mended twin accused"] if accused else ["silent"] * case.healthy
    return ", ".join(words)


def cells(part: Mapping[str, Any]) -> str:
    """Return the cells of hits, share and interval."""
    if not part["of"]:
        return "- | - | -"
    rate, low, high = (percent(part[key]) for key in ("share", "low", "high"))
    return f"{part['hits']} of {part['of']} | {rate} | {low} to {high}"


def compared(peers: Mapping[str, Mapping[str, Any]], own: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the section on what people would use instead, with the kit's own results above."""
    if not peers:
        return
    yield from ("", "## What people would use instead", "", PEERS, "")
    yield from ("| | detected | accused |", "|---|---:|---:|")
    accused = [own["mended accused"], own["healthy accused"]]
    both = share(sum(part["hits"] for part in accused), sum(part["of"] for part in accused))
    for name, forms in {"lightning-debugkit": {"detected": own["detected"], "accused": both}, **peers}.items():
        hits = (f"{part['hits']} of {part['of']} ({percent(part['share'], 0)})" for part in forms.values())
        yield f"| {name} | {' | '.join(hits)} |"
    yield from ("", "Not run:", "")
    yield from (f"- {name}: {why}." for name, why in NOT_RUN.items())
