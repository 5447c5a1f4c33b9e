"""Rules as text, spelt as in Python: ``Every(steps=5000), Best("val_loss", k=3), Latest()``."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from lightning_debugkit.checkpointing.retention_rules import Best, Every, KeepRule, Latest

_KNOWN: dict[str, type[KeepRule]] = {"Every": Every, "Best": Best, "Latest": Latest}
_EXAMPLE = "write them as in Python: Every(steps=5000), Best('val_loss', k=3), Latest()"


def read_rules(text: str) -> tuple[KeepRule, ...]:
    """Return the rules that ``text`` spells; nothing in it is run.

    Raises:
        ValueError: It spells none, or one with an argument that cannot be.

    >>> read_rules("Best('val_loss', k=3, within=Every(steps=5000)), Latest()")
    (Best(metric='val_loss', k=3, within=Every(steps=5000)), Latest())
    """
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(f"read_rules needs rules, got {text!r}; {_EXAMPLE}.") from None
    nodes = body.elts if isinstance(body, ast.Tuple | ast.List) else [body]
    return tuple(_rule(node, text) for node in nodes)


def as_rules(rules: Iterable[KeepRule | str]) -> tuple[KeepRule, ...]:
    """Return rules that may be spelt as text, as in a YAML list."""
    return tuple(each for rule in rules for each in (read_rules(rule) if isinstance(rule, str) else (rule,)))


def _rule(node: ast.expr, text: str) -> KeepRule:
    kind = _KNOWN.get(node.func.id) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None
    if kind is None or not isinstance(node, ast.Call):
        raise ValueError(f"read_rules needs calls of Every, Best and Latest, got {text!r}; {_EXAMPLE}.")
    given = [_value(part, text) for part in node.args]
    named = {str(part.arg): _value(part.value, text) for part in node.keywords}
    try:
        return kind(*given, **named)
    except TypeError as error:
        told = str(error).rstrip(".")
        raise ValueError(f"read_rules needs arguments that {kind.__name__} has, got {text!r} ({told}).") from None


def _value(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Call):
        return _rule(node, text)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"read_rules needs plain values as arguments, got {text!r}; {_EXAMPLE}.") from None
