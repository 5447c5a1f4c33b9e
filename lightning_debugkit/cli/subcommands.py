"""The commands, each a file of this folder that brings its ``HELP``, ``make_parser()`` and ``run()``."""

from __future__ import annotations

import importlib
import sys
from argparse import ArgumentError
from typing import Any

from jsonargparse import ArgumentParser

COMMANDS = (
    "report",
    "replay",
    "check",
    "checkpoints",
    "config",
    "demo",
    "rules",
    "show",
    "diff",
    "restore",
    "log",
    "refs",
)


def command(name: str) -> Any:
    """Return the module of a command."""
    return importlib.import_module(f"{__package__}.{name}")


def parser() -> ArgumentParser:
    """Return the command line's parser."""
    top = ArgumentParser(
        prog="lightning-debugkit",
        description="Read what a PyTorch Lightning run left behind, and run what broke in it again.",
        exit_on_error=False,
    )
    commands = top.add_subcommands(metavar="COMMAND", title="commands")
    for name in COMMANDS:
        own = command(name).make_parser()
        own.exit_on_error = False
        commands.add_subcommand(name, own, help=command(name).HELP)
    return top


def of_the_program(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Return our own arguments, and those of the program that ``check`` runs: all after its name.

    >>> of_the_program(["check", "--folder", "out", "train.py", "--folder", "mine"])
    (['check', '--folder', 'out', 'train.py'], ['--folder', 'mine'])
    """
    if arguments[:1] != ["check"]:
        return arguments, []
    script = 1
    while arguments[script : script + 1] and arguments[script].startswith("-"):
        script += 1 if "=" in arguments[script] else 2
    return arguments[: script + 1], arguments[script + 1 :]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; errors of use are one sentence and status 2."""
    arguments, foreign = of_the_program(sys.argv[1:] if arguments is None else arguments)
    try:
        given = parser().parse_args(arguments).as_dict()
    except ArgumentError as error:
        called = " ".join(["lightning-debugkit", *(name for name in arguments[:1] if name in COMMANDS)])
        said = " ".join(str(error).split()).rstrip(".")
        print(f"lightning-debugkit: {said}; {called} --help lists what it takes.", file=sys.stderr)
        return 2
    chosen = given["subcommand"]
    if foreign:
        given[chosen]["arguments"] = foreign
    try:
        text, status = command(chosen).run(**given[chosen])
        print(text, flush=True)
        return int(status)
    except BrokenPipeError:  # who reads has seen enough
        sys.stderr.close()
        return 0
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        print(f"lightning-debugkit: {error}", file=sys.stderr)
        return 2
