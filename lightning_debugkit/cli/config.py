"""``lightning-debugkit config``: ready YAML for a LightningCLI program."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

import lightning_debugkit
from lightning_debugkit.cli.outcome import Told

HELP = "print the path of ready YAML for a LightningCLI program"
_FOLDER = Path(lightning_debugkit.__file__).parent / "configs"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        description="Print the path of ready YAML: python train.py fit -c train.yaml -c $(lightning-debugkit config)"
    )
    parser.add_argument("name", type=str, nargs="?", default="standard", help=f"one of {', '.join(names())}")
    return parser


def names() -> list[str]:
    """Return the names of the files that come with the kit."""
    return sorted(file.stem for file in _FOLDER.glob("*.yaml"))


def run(name: str = "standard") -> Told:
    """Print the path of a file; its text is short, and may be copied."""
    if name not in names():
        raise ValueError(f"config needs a name among {', '.join(names())}, got {name!r}; standard is the default.")
    return str(_FOLDER / f"{name}.yaml"), 0
