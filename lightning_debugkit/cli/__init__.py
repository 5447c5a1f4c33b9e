"""The command line: one file a command, listed in `subcommands`."""

from lightning_debugkit.cli.subcommands import COMMANDS, command, main, parser

__all__ = ["COMMANDS", "command", "main", "parser"]
