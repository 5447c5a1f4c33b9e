"""``lightning-debugkit checkpoints``: what a folder of checkpoints holds, why, and whether it is sound."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told

HELP = "list checkpoints: why each is kept, whether it is sound"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Show the checkpoints of NestedCheckpoint: why each is kept, and whether its bytes are sound."
    )
    parser.add_argument("folder", type=str, help="folder of checkpoints, or URL of an object store; left as it is")
    parser.add_argument(
        "--plan", type=str | None, help="rules to try, as in Python: \"Every(steps=5000), Best('val_loss', k=3)\""
    )
    parser.add_argument("--quick", action="store_true", help="compare sizes instead of reading each file")
    return parser


def run(folder: str, plan: str | None = None, quick: bool = False) -> Told:
    """Print what checkpoints a folder holds, why each is kept, and whether it is sound."""
    from lightning_debugkit.checkpointing.listing import listing
    from lightning_debugkit.checkpointing.rule_text import read_rules

    told = listing(folder, None if plan is None else read_rules(plan), quick=quick)
    return told.text, 1 if told.damaged else 0
