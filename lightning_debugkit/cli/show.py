"""``lightning-debugkit show``: which code made a checkpoint."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

HELP = "tell which code made a checkpoint"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Tell which code made a checkpoint. Safe with any file: nothing in it runs.")
    parser.add_argument("checkpoint", type=str, help="checkpoint file, folder of a sharded one, or URL of either")
    parser.add_argument("--json", action="store_true", help="print the whole manifest as JSON")
    return parser


def run(checkpoint: str, json: bool = False) -> Told:
    """Tell which code made a checkpoint."""
    from lightning_debugkit.cli.code_messages import shown_code
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot

    manifest, source = read_snapshot(checkpoint)
    return (manifest.to_json() if json else shown_code(manifest, source)), 0
