"""What it costs to keep the code of a run: the kit beside git's own commands.

    python benchmarks/snapshot.py tree [--files 100 5000 50000] [--rounds 15]
    python benchmarks/snapshot.py huge [--megabytes 1000]
    python benchmarks/snapshot.py save [--megabytes 1 16 64] [--rounds 40]

``tree``: identity and tree of a repository of so many files, of which ten were changed and five are new, again before
every call. The variants take turns, in an order that is shuffled anew each round; printed are medians and quartiles.
``first`` is a process that has just started: it imports gitpython, too. Budgets of a later one: 0.05, 0.1 and 0.5 s.
``huge``: one untracked file of zeros lies in a repository of 5,000 files. ``save``: a checkpoint with and without what
``CodeSnapshot`` puts into it, which is a manifest and the packed sources of this very package.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles

import lightning_debugkit
from lightning_debugkit.provenance.repository.commit_facts import identity
from lightning_debugkit.provenance.repository.commit_tree import commit_tree
from lightning_debugkit.provenance.repository.git import open_repository

BUDGETS = {100: 0.05, 5_000: 0.1, 50_000: 0.5}
FIRST = """
import sys, time
began = time.perf_counter()
from benchmarks_snapshot import capture
from pathlib import Path
capture(Path(sys.argv[1]))
print(time.perf_counter() - began)
"""


def git(folder: Path, *args: str, index: Path | None = None) -> bytes:
    variables = {"GIT_INDEX_FILE": str(index)} if index else {}
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=User",
        "-c",
        "user.email=user@example.org",
        "-c",
        "gc.auto=0",
        *args,
    ]
    return subprocess.run(command, env={**os.environ, **variables}, check=True, capture_output=True).stdout


def repository(folder: Path, files: int) -> Path:
    """A repository of so many Python files, a hundred in a folder, packed."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for n in range(files):
        path = folder / f"pkg{n // 100:03}" / f"module{n % 100:02}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'"""Module {n}."""\n' + f"VALUE_{n} = {n}\n" * 20)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    git(folder, "gc", "-q")
    git(folder, "status")
    return folder


def edit(folder: Path, files: int, times: list[int]) -> None:
    """Change ten files, and write five new ones, as never before."""
    times[0] += 1
    for n in range(10):
        path = folder / f"pkg{n * files // 1000:03}" / "module00.py"
        path.write_text(f"VALUE = {n}\nTIMES = {times[0]}\n" * 10)
    for n in range(5):
        (folder / f"new{n}.py").write_text(f"VALUE = {n}\nTIMES = {times[0]}\n" * 10)


def capture(folder: Path) -> None:
    """What the start of a run takes."""
    with open_repository(folder, 60.0) as found:
        identity(found)
        commit_tree(found, f"run-{os.urandom(8).hex()}", "a run")


def stash(folder: Path) -> None:
    git(folder, "stash", "create")


def naive(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as place:
        git(folder, "add", "-A", index=Path(place) / "index")
        git(folder, "write-tree", index=Path(place) / "index")


TAKEN: dict[str, Callable[[Path], None]] = {
    "the kit: identity and tree": capture,
    "git stash create (nothing untracked)": stash,
    "git add -A with an empty index": naive,
}


def tree(options: argparse.Namespace) -> None:
    for files in options.files:
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            folder, times = repository(Path(place) / "project", files), [0]
            edit(folder, files, times)
            first = in_a_fresh_process(folder)
            clocks: dict[str, list[float]] = {name: [] for name in TAKEN}
            used: dict[str, list[float]] = {name: [] for name in TAKEN}
            for _ in range(options.rounds):
                for name in random.sample(list(TAKEN), len(TAKEN)):
                    edit(folder, files, times)
                    began, before = time.perf_counter(), processor()
                    TAKEN[name](folder)
                    clocks[name].append(time.perf_counter() - began)
                    used[name].append(processor() - before)
            print(f"\n{files:,} files, {options.rounds} rounds; first, in a fresh process: {first * 1e3:.0f} ms")
            table(clocks)
            if files in BUDGETS:
                kept = median(clocks[next(iter(TAKEN))]) <= BUDGETS[files]
                print(f"\nbudget of a later one: {BUDGETS[files] * 1e3:.0f} ms, {'kept' if kept else 'MISSED'}")
            each = ", ".join(f"{name} {1e3 * median(found):.0f}" for name, found in used.items())
            print(f"processor time, ms: {each}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def processor() -> float:
    """Seconds that this process and its children have used: what a busy machine does not change much."""
    taken = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in taken)


def in_a_fresh_process(folder: Path) -> float:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "benchmarks_snapshot.py").symlink_to(Path(__file__).resolve())
        path = os.pathsep.join([place, str(Path(lightning_debugkit.__file__).parents[1])])
        command = [sys.executable, "-c", FIRST, str(folder)]
        said = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True)
    return float(said.stdout)


def table(clocks: Mapping[str, list[float]]) -> None:
    print(f"| {'':36} | ms, median | quartiles |\n|{'---|' * 3}")
    for name, found in clocks.items():
        low, middle, high = (1e3 * value for value in quantiles(found, n=4))
        print(f"| {name:36} | {middle:.1f} | {low:.1f} - {high:.1f} |")


def huge(options: argparse.Namespace) -> None:
    size = int((options.megabytes or [1000])[0] * 1e6)
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        folder, times = repository(Path(place) / "project", 5_000), [0]
        clocks: dict[str, list[float]] = {"without the file": [], "with the file": []}
        for _ in range(options.rounds):
            for name in random.sample(list(clocks), 2):
                (folder / "dump.bin").unlink(missing_ok=True)
                if name == "with the file":
                    (folder / "dump.bin").touch()
                    os.truncate(folder / "dump.bin", size)
                edit(folder, 5_000, times)
                began = time.perf_counter()
                capture(folder)
                clocks[name].append(time.perf_counter() - began)
        print(f"\none untracked file of {size / 1e6:,.0f} MB in a repository of 5,000 files")
        table(clocks)
        (folder / "dump.bin").touch()
        os.truncate(folder / "dump.bin", size)
        began = time.perf_counter()
        naive(folder)
        print(f"\ngit add -A with an empty index, once: {time.perf_counter() - began:.1f} s")


def sources() -> tuple[str, bytes]:
    """A manifest's size in characters, and the sources of this package, packed."""
    package, packed = Path(lightning_debugkit.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*.py")):
            archive.write(path, path.relative_to(package.parent))
    files = ", ".join(f'{{"path": "{path}", "sha256": "{"0" * 64}"}}' for path in sorted(package.rglob("*.py")))
    return f"[{files}]", packed.getvalue()


def save(options: argparse.Namespace) -> None:
    import torch  # late: the trees do without

    manifest, packed = sources()
    extra = {"lightning_debugkit": {"format": 1, "manifest": manifest, "source_zip": packed}}
    print(f"manifest {len(manifest):,} bytes, sources {len(packed):,} bytes")
    for megabytes in options.megabytes or [1, 16, 64]:
        plain = {"state_dict": {"weight": torch.randn(int(megabytes * 250_000))}}
        raw = torch.frombuffer(bytearray(packed), dtype=torch.uint8)
        tensor = {"lightning_debugkit": {**extra["lightning_debugkit"], "source_zip": raw}}
        variants = {
            "without": plain,
            "with the code": {**plain, **extra},
            "with the code as a tensor": {**plain, **tensor},
        }
        clocks: dict[str, list[float]] = {name: [] for name in variants}
        sizes = {}
        with tempfile.TemporaryDirectory(dir=options.folder) as place:
            path = Path(place) / "some.ckpt"
            for _ in range(options.rounds):
                for name in random.sample(list(variants), len(variants)):
                    path.unlink(missing_ok=True)
                    began = time.perf_counter()
                    torch.save(variants[name], path)
                    clocks[name].append(time.perf_counter() - began)
                    sizes[name] = path.stat().st_size
        print(f"\ncheckpoint of {megabytes:g} MB")
        table(clocks)
        for name in list(variants)[1:]:
            added = [1e3 * (b - a) for a, b in zip(clocks["without"], clocks[name], strict=True)]
            low, middle, high = quantiles(added, n=4)
            more = f"{sizes[name] - sizes['without']:,} bytes and {middle:.2f} ms ({low:.2f} - {high:.2f})"
            print(f"\n{name}: {more} more, round by round")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tree", "huge", "save"])
    parser.add_argument("--files", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--megabytes", type=float, nargs="+")
    parser.add_argument("--folder", help="where to work; the folder for temporary files if not given")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    {"tree": tree, "huge": huge, "save": save}[options.what](options)


if __name__ == "__main__":
    main()
