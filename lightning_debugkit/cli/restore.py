"""``lightning-debugkit restore``: write the code of a checkpoint into a new folder."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told
from lightning_debugkit.core.name_lists import plural

HELP = "write the code of a checkpoint into a new folder"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Write the code of a checkpoint into a new folder; prints the command that runs it again."
    )
    parser.add_argument("checkpoint", type=str, help="checkpoint file, or URL of one")
    parser.add_argument(
        "--to",
        type=str | None,
        help="a folder that does not exist yet, or is empty; NAME-code for NAME.ckpt by default",
    )
    return parser


def run(checkpoint: str, to: str | None = None) -> Told:
    """Write the code of a checkpoint into a new folder, never in place, every file checked by its hash."""
    from lightning_debugkit.cli.code_messages import rerun_command
    from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
    from lightning_debugkit.provenance.carried.restore_run import restore_run

    folder = Path(f"{Path(checkpoint).stem}-code" if to is None else to)
    manifest, source = read_snapshot(checkpoint)
    done = restore_run(manifest, source, folder)
    lines = [f"{plural(done.count, 'file')} in {folder.resolve()}, {done.origin}", *done.remarks]
    return "\n".join([*lines, "Run it again:", f"  {rerun_command(manifest, folder, checkpoint)}"]), 0
