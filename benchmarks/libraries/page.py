"""The results as a table for the console and as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
_HEAD = """# Inside other libraries

Nothing is needed in your program, or in the library's, but the variable:

```bash
LIGHTNING_DEBUGKIT=standard python train.py
```

With `logger=False`, as in many a `pl_trainer_kwargs`, the run folder is in the working folder. finetuning-scheduler
allows one checkpoint callback: `NestedCheckpoint` cannot stand beside its own.

Each library below was tried with trainings as it documents them: without the kit, under `standard` and under `thorough`
(a few under `thorough` alone), each time in a process of its own. "The same" means: it ended in the same way, with the
same final weights and the same states of the random generators of Python, NumPy and torch, to the bit. An accusation is
a warning or an error about such a training; "true" counts findings that are right about it. Faults were planted through
the library's own interface.

"""
_NOTES = """

## How it was tried

This page is made by `python -m benchmarks.libraries --json benchmarks/libraries/results.json --page docs/libraries.md`,
which makes an environment of its own for each library from pinned versions, and keeps the rows that it does not run
anew. A process is a fork of one that has imported the library. `benchmarks/libraries/programs/` says what of the
library's code was read.

Rules were changed because of the faults, as kinds, with programs of the project's own: labels shuffled in tables, also
in those whose columns come as a list (deeptab); targets of millions (pina), and in squared errors that a library takes
itself (mlcolvar); rates that break the second step (darts, scvi-tools); rates of nearly nothing, also on streams
(gluonts) and under the loss of a policy (rl4co); Dice on logits. Others because of the trainings: a model that is
validated before its fit; `fast_dev_run`; a history of losses whose mean was once a metric of another stage (deeptab);
settings that stand beside modules and kept the extra passes away (transformers); series that have another length in
validation (pytabkit). disent clears the callbacks of its Trainer when a step raises, and lost its diagnosis by it; it
does not any more.

A row is of the commit in its last column: those of mlcolvar are older than these changes. Seconds of rows since 6ecc2d7
were taken beside other work on the same two cores: they are too high.

torchvision of PyPI is built for CUDA; beside a CPU build of torch its own operators are missing, and
`torchvision_operators.py` lets it be imported without them. Not run here:

- careamics wants torch 2.11 or older; swyft 0.4.5 and lightning-bolts 0.7.0 want pytorch-lightning 1.9 (the kit is for
  2.5 and later);
- schnetpack 2.0.3 imports a name that torch 2.13 lacks, scArches 0.6.1 and cellarium-ml 0.0.5 names that anndata has
  moved, torch-spatiotemporal 0.9.5 torch_sparse, which has no build for torch 2.13;
- mambular 1.0.2 does not load its own checkpoint under torch 2.6 and later;
- pyannote-audio 4.0.7 and braindecode 1.8.1 need torchaudio, which PyPI has for CUDA only.
"""


def table(results: Results) -> str:
    """Return one line a library, of its healthy trainings and planted faults."""
    lines = [
        "| library | with | trainings | the same | accusations | true | troubles | faults named | added CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(name, result) for name, result in results.items()]
    healthy = [row for result in results.values() for row in _healthy(result)]
    faults = [row for result in results.values() for row in result["rows"] if row["named"] is not None]
    same = sum(row["same"] for row in healthy)
    lines.append(
        f"| **all** | | {len({(row['library'], row['program']) for row in healthy})} | {same} of {len(healthy)} | "
        f"{_sum(healthy, 'accusations')} | {_sum(healthy, 'true')} | {_sum([*healthy, *faults], 'troubles')} | "
        f"{_named(faults)} | {_seconds(healthy)} |"
    )
    return "\n".join(lines)


def page(results: Results, names: Iterable[str] = ()) -> str:
    """Return the page: the table, what was said and missed, what of ``names`` was not run or could not be installed."""
    parts = [_HEAD, table(results), _NOTES, "\n## Trainings\n\n", *_trainings(results)]
    parts += ["\n## Faults of a user, planted through the library's own interface\n\n", *_faults(results)]
    gone = [
        f"- {name}: {result['not_installed'].splitlines()[-1]}\n" for name, result in results.items() if _gone(result)
    ]
    parts += ["\n## What could not be installed\n\n", *(gone or ["Nothing.\n"])]
    if left := [name for name in names if name not in results]:
        parts += [f"\n## What was not run\n\n`benchmarks/libraries/programs/` also has {', '.join(left)}.\n"]
    return "".join(parts)


def _line(name: str, result: Mapping[str, Any]) -> str:
    versions = result["versions"]
    if _gone(result):
        return f"| {name} | | not installed | | | | | | |"
    healthy = _healthy(result)
    faults = [row for row in result["rows"] if row["named"] is not None]
    through = " ".join(f"{kind} {versions[kind]}" for kind in ("lightning", "pytorch-lightning") if versions.get(kind))
    package = result["package"]
    part = "" if name.replace("_", "-") in package else f", {name}"
    return (
        f"| {package} {versions[package]}{part} | {through} | "
        f"{len({row['program'] for row in healthy})} | {sum(row['same'] for row in healthy)} of {len(healthy)} | "
        f"{_sum(healthy, 'accusations')} | {_sum(healthy, 'true')} | {_sum(result['rows'], 'troubles')} | "
        f"{_named(faults)} | {_seconds(healthy)} |"
    )


def _trainings(results: Results) -> list[str]:
    lines = [
        "| training | preset | the same | said, and true | accusations | CPU s | added | commit |\n"
        + "|---" * 8
        + "|\n",
    ]
    for result in results.values():
        for row in _healthy(result):
            same = "yes" if row["same"] else ("no" if row["repeatable"] else "not repeatable without the kit")
            said, accused = (
                ", ".join(sorted({text.split(":")[0] for text in row[key]})) for key in ("true", "accusations")
            )
            lines.append(
                f"| {row['library']} {row['program']} | {row['preset']} | {same} | {said} | {accused} | "
                f"{row['bare_seconds']:.1f} | {row['seconds']:+.1f} | {row.get('commit', '')} |\n"
            )
    return lines


def _faults(results: Results) -> list[str]:
    lines = ["| fault | its cause is named by | found, in order | named | commit |\n" + "|---" * 5 + "|\n"]
    for result in results.values():
        for row in result["rows"]:
            if row["named"] is not None:
                found = ", ".join(dict.fromkeys(row["first"])) or "nothing"
                named = "yes" if row["named"] else "**no**"
                told = f"{', '.join(row['causes'])} | {found} | {named} | {row.get('commit', '')}"
                lines.append(f"| {row['library']} {row['program']} | {told} |\n")
    return lines


def _gone(result: Mapping[str, Any]) -> bool:
    return bool(result.get("not_installed"))


def _healthy(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [row for row in result["rows"] if row["named"] is None]


def _sum(rows: list[Mapping[str, Any]], key: str) -> int:
    return sum(len(row[key]) for row in rows)


def _named(faults: list[Mapping[str, Any]]) -> str:
    return f"{sum(row['named'] for row in faults)} of {len(faults)}" if faults else ""


def _seconds(healthy: list[Mapping[str, Any]]) -> str:
    """Median and greatest."""
    added = sorted(row["seconds"] for row in healthy)
    return f"{added[len(added) // 2]:.1f}, at most {added[-1]:.1f}" if added else ""
