"""The command line: read a run, run its failing step again, see a demonstration."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_debugkit.cli import code
from lightning_debugkit.core.finding import Finding, Severity


def report(run_folder: str, others: list[str] | None = None, to: str = "runs.html") -> int:
    """Render the report of a run, also of one that was killed, and print its verdict; of several, side by side."""
    from lightning_debugkit.report import render
    from lightning_debugkit.report.read_report import read_report
    from lightning_debugkit.report.read_report import run_folder as found

    if others:
        from lightning_debugkit.report.comparison import compare

        return _say(compare([*map(read_report, (run_folder, *others))], Path(to)), f"Report: {Path(to).resolve()}")
    folder = found(Path(run_folder))
    return _say(render(folder).verdict, f"Report: {(folder / 'report.html').resolve()}")


def replay(bundle: str, trust_code: bool = False) -> int:
    """Run the failing step of a bundle again and tell whether it breaks in the same way."""
    if not Path(bundle).is_dir():  # said before torch is loaded, which takes seconds
        raise FileNotFoundError(f"replay needs the folder of a bundle, got {bundle!r}; RUN_FOLDER/bundles has them.")
    from lightning_debugkit.replay.bundle_replay import replay_bundle, same

    kept, again = replay_bundle(Path(bundle), trust_code)
    _say(*_lines(kept if again is None else again))
    if same(kept, again):
        return _say("", "The step broke again, in the same place.")
    return _say("", f"The step did not break in the same way. Before: {kept.message}", status=1)


def checkpoints(folder: str, plan: str | None = None, quick: bool = False) -> int:
    """Print what checkpoints a folder holds, why each is kept, and whether it is sound."""
    from lightning_debugkit.checkpointing.listing import listing
    from lightning_debugkit.checkpointing.rule_text import read_rules

    told = listing(Path(folder), None if plan is None else read_rules(plan), quick=quick)
    return _say(told.text, status=1 if told.damaged else 0)


def demo(folder: str) -> int:
    """Train on real images until one broken box stops the run, and show how the report explains it."""
    from lightning_debugkit.core.journal import read_journal
    from lightning_debugkit.demo import run_demo

    _say("Training on scikit-learn's digits; one of 1797 boxes has no height ...")
    run = run_demo(Path(folder))
    errors = [finding for finding in read_journal(run).findings if finding.severity is Severity.ERROR]
    for finding in errors:
        _say("", *_lines(finding))
    _say("", f"Script: {(Path(folder) / 'train.py').resolve()}", f"Report: {(run / 'report.html').resolve()}")
    return 0 if errors else _say("The demo did not meet its fault; please tell us.", status=1)


def parser() -> ArgumentParser:
    """Return the command line's parser."""
    top = ArgumentParser(
        prog="lightning-debugkit",
        description="Read what a PyTorch Lightning run left behind, and run what broke in it again.",
    )
    commands = top.add_subcommands(metavar="COMMAND", title="commands")

    reading = ArgumentParser(
        description="Render the report of a run, also of one that was killed; of several runs, one page with all."
    )
    reading.add_argument(
        "run_folder", type=str, help="run folder, usually LOG_DIR/debugkit, its report.html, or any folder above runs"
    )
    reading.add_argument("others", type=str, nargs="*", help="more runs, to be shown side by side")
    reading.add_argument("--to", type=str, default="runs.html", help="page on several runs")
    commands.add_subcommand("report", reading, help="render the report of a run and print its verdict")

    running = ArgumentParser(description="Run a failing step again, which runs the code in its bundle.")
    running.add_argument("bundle", type=str, help="folder RUN_FOLDER/bundles/step-N-rank-R")
    running.add_argument("--trust-code", action="store_true", help="let the code in the bundle run with your rights")
    commands.add_subcommand("replay", running, help="run the failing step of a run again, from its bundle")

    listing = ArgumentParser(
        description="Show the checkpoints of NestedCheckpoint: why each is kept, and whether its bytes are sound."
    )
    listing.add_argument("folder", type=str, help="folder of checkpoints, or the folder above it; it is left as it is")
    listing.add_argument(
        "--plan", type=str | None, help="rules to try, as in Python: \"Every(steps=5000), Best('val_loss', k=3)\""
    )
    listing.add_argument("--quick", action="store_true", help="compare sizes instead of reading each file")
    commands.add_subcommand("checkpoints", listing, help="list checkpoints: why each is kept, whether it is sound")

    showing = ArgumentParser(description="Train on real images until one broken box stops the run.")
    showing.add_argument(
        "folder", type=str, nargs="?", default="lightning-debugkit-demo", help="where script and report are put"
    )
    commands.add_subcommand("demo", showing, help="see it at work: half a minute, no download")
    code.add_to(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors of use are one sentence and status 2."""
    run: dict[str, Callable[..., int]] = {
        "report": report,
        "replay": replay,
        "checkpoints": checkpoints,
        "demo": demo,
    }
    told: dict[str, Callable[..., code.Told]] = {
        "show": code.show,
        "diff": code.diff,
        "restore": code.restore,
        "log": code.log,
        "refs": code.refs,
    }
    given = parser().parse_args(arguments).as_dict()
    chosen = given["subcommand"]
    try:
        if chosen in told:
            text, status = told[chosen](**given[chosen])
            return _say(text, status=status)
        return run[chosen](**given[chosen])
    except BrokenPipeError:  # who reads has seen enough
        sys.stderr.close()
        return 0
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"lightning-debugkit: {error}", file=sys.stderr)
        return 2


def _lines(finding: Finding) -> list[str]:
    source = finding.evidence.get("source")
    entries = finding.evidence.get("dataset_indices")
    return [
        f"{finding.severity}: {finding.rule}: {finding.message}",
        *([f"  at      {source}"] if source else []),
        *([f"  dataset entries {', '.join(map(str, entries))}"] if entries else []),
        f"  advice  {finding.advice}",
    ]


def _say(*lines: str, status: int = 0) -> int:
    print("\n".join(lines), flush=True)
    return status
