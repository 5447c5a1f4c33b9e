"""What calling a script's functions changes: arguments and globals, as `patch(Net)` and `configure()` do."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Methods that change what they are called on, as `parser.add_argument(...)` or `CONFIG.update(...)`; `trainer.fit` and
# `log.info` are none.
_CHANGES_ITS_OWNER = re.compile(
    r"(add|append|extend|insert|pop|register|remove|reverse|set|sort|update)([_A-Z].*|left)?|clear|setdefault"
)
_LOOKS = frozenset(("copy", "format", "get", "items", "join", "keys", "lower", "split", "strip", "upper", "values"))
_NOT_QUIET = frozenset(("__import__", "breakpoint", "compile", "eval", "exec", "exit", "input", "open", "quit"))


@dataclass(frozen=True)
class Effect:
    """What a call of a function does beyond its result."""

    parameters: frozenset[str] = frozenset()  # names of those whose value it changes
    names: frozenset[str] = frozenset()  # globals that it sets or changes
    # whether it does no more than that, as far as the script tells: a function that trains is none
    is_quiet: bool = True


@dataclass
class Effects:
    """The effects of the functions of a script, found when they are asked for.

    >>> script = ast.parse("def widen(config): config['width'] = 8\\nwiden(CONFIG)")
    >>> Effects.of(script.body).changed(script.body[1])
    {'CONFIG'}
    """

    functions: Mapping[str, Function]
    _known: dict[str, Effect] = field(default_factory=dict)

    @classmethod
    def of(cls, body: Iterable[ast.stmt]) -> Effects:
        """Return the effects of the functions that stand in ``body``."""
        return cls({node.name: node for node in body if isinstance(node, Function)})

    def changed(self, node: ast.AST) -> set[str]:
        """Return the names whose value ``node`` changes beside those that it assigns to."""
        return {name for part in ast.walk(node) for name in self._by(part, only_quiet=True)}

    def _by(self, node: ast.AST, only_quiet: bool) -> Iterator[str]:
        root = root_of_change(node)
        if root:
            yield root
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in self.functions:
            return
        effect = self._effect(node.func.id)
        if only_quiet and not effect.is_quiet:  # it may train, which must not happen once more
            return
        yield from effect.names
        for name, value in _arguments(self.functions[node.func.id], node):
            owner = _root(value)
            if name in effect.parameters and owner:
                yield owner

    def _effect(self, name: str) -> Effect:
        if name not in self._known:
            self._known[name] = Effect()  # what calls itself
            self._known[name] = self._found(self.functions[name])
        return self._known[name]

    def _found(self, function: Function) -> Effect:
        inner = [part for statement in function.body for part in ast.walk(statement)]
        declared = {name for part in inner if isinstance(part, ast.Global) for name in part.names}
        parameters = {argument.arg for argument in _parameters(function)}
        stored = {part.id for part in inner if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        changed = {name for part in inner for name in self._by(part, only_quiet=False)}
        own = (stored | parameters) - declared
        return Effect(
            frozenset(changed & parameters),
            frozenset((changed - own) | (stored & declared)),
            all(self._is_quiet(part) for part in inner if isinstance(part, ast.Call)),
        )

    def _is_quiet(self, call: ast.Call) -> bool:
        if isinstance(call.func, ast.Attribute):
            return bool(_CHANGES_ITS_OWNER.fullmatch(call.func.attr)) or call.func.attr in _LOOKS
        if not isinstance(call.func, ast.Name):
            return False
        name = call.func.id
        if name in self.functions:
            return self._effect(name).is_quiet
        return hasattr(builtins, name) and name not in _NOT_QUIET


def root_of_change(node: ast.AST) -> str | None:
    """The name whose value a part of a statement changes: ``CONFIG`` of ``CONFIG["a"] = 1`` and ``CONFIG.update()``."""
    if isinstance(node, ast.Call):
        func = node.func
        if isinstance(func, ast.Name) and func.id in ("setattr", "delattr") and node.args:
            return _root(node.args[0])
        owner = func.value if isinstance(func, ast.Attribute) and _CHANGES_ITS_OWNER.fullmatch(func.attr) else None
    elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        owner = node.value
    else:
        return None
    return _root(owner)


def _root(node: ast.expr | None) -> str | None:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _parameters(function: Function) -> list[ast.arg]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]


def _arguments(function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    places = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    yield from zip(places, call.args, strict=False)
    yield from ((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg)
