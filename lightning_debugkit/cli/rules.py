"""``lightning-debugkit rules``: what the kit can find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from jsonargparse import ArgumentParser

from lightning_debugkit.cli.outcome import Told
from lightning_debugkit.core.rule import Rule, every_rule

HELP = "list the rules: severity, cost, what each can follow"
Form = Literal["table", "markdown"]


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description="List what the kit can find, by the section of the report that shows it.")
    parser.add_argument("--format", choices=get_args(Form), default="table", help="how to print it")
    return parser


def run(format: Form = "table") -> Told:
    """List all rules by section."""
    rules = every_rule()
    return (as_index(rules) if format == "markdown" else rules_as_table(rules)), 0


def rules_as_table(rules: Mapping[str, Rule]) -> str:
    """Return one line a rule, under the names of sections."""
    width = max(map(len, rules))
    lines = []
    for section, names in _by_section(rules):
        lines += ["", section]
        for name in names:
            rule = rules[name]
            after = f"  can follow {', '.join(rule.can_follow)}" if rule.can_follow else ""
            lines.append(f"  {name:{width}}  {rule.severity!s:7}  {rule.cost:7}{after}".rstrip())
    return "\n".join(lines[1:])


def as_index(rules: Mapping[str, Rule]) -> str:
    """Return the index of docs/findings.md."""
    return "\n".join(
        f"- **{section}:** {', '.join(f'[{name}](#{name})' for name in names)}" for section, names in _by_section(rules)
    )


def _by_section(rules: Mapping[str, Rule]) -> list[tuple[str, list[str]]]:
    sections = sorted({rule.section for rule in rules.values()})
    return [(section, sorted(n for n, rule in rules.items() if rule.section == section)) for section in sections]
