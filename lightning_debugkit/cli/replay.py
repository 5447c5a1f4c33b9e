"""``lightning-debugkit replay``: run the failing step of a run again, from its bundle."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told, lines_of

HELP = "run the failing step of a run again, from its bundle"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Run a failing step again, which runs the code in its bundle.")
    parser.add_argument("bundle", type=str, help="folder RUN_FOLDER/bundles/step-N-rank-R")
    parser.add_argument("--trust-code", action="store_true", help="let the code in the bundle run with your rights")
    return parser


def run(bundle: str, trust_code: bool = False) -> Told:
    """Run the failing step of a bundle again and tell whether it breaks in the same way."""
    if not Path(bundle).is_dir():  # said before torch is loaded, which takes seconds
        raise FileNotFoundError(f"replay needs the folder of a bundle, got {bundle!r}; RUN_FOLDER/bundles has them.")
    if not Path(bundle, "bundle.json").is_file() and (held := sorted(Path(bundle).rglob("bundle.json"))):
        raise FileNotFoundError(f"replay needs the folder of a bundle, got {bundle!r}; one is '{held[-1].parent}'.")
    from lightning_debugkit.replay.bundle_replay import replay_bundle, same

    kept, again = replay_bundle(Path(bundle), trust_code)
    if again is None:
        return (
            "The step did not break this time: what it depends on is not in its bundle, such as a file, the device or "
            f"the versions of libraries.\nIn the run: {kept.message}"
        ), 1
    seen = "\n".join(lines_of(again))
    if same(kept, again):
        return f"{seen}\n\nThe step broke again, in the same place.", 0
    return f"{seen}\n\nThe step broke in another way. In the run: {kept.message}", 1
