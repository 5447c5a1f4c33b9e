"""Whether code differs from what was captured, file by file, and whether the difference can matter."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightning_debugkit.provenance.capture.parsing import NO_PROGRAM
from lightning_debugkit.provenance.capture.script_slice import NotFound, ScriptSlice

Verdict = Literal["identical", "cosmetic", "changed"]
State = Literal["identical", "cosmetic", "changed", "missing", "new"]
_GRAVITY: tuple[Verdict, ...] = ("identical", "cosmetic", "changed")


@dataclass(frozen=True)
class FileVerdict:
    """What became of one file."""

    path: str
    verdict: State  # `cosmetic`: comments, docstrings and layout apart, it is the same program
    is_model: bool  # whether the model's class uses it


@dataclass(frozen=True)
class CodeComparison:
    """What became of the captured code."""

    model: Verdict  # the gravest verdict on a file that the model uses
    others: Verdict  # that on the rest
    files: tuple[FileVerdict, ...]  # each file, in order of the paths

    @property
    def model_changes(self) -> list[str]:
        """Paths of the model's files that are another program now."""
        return [file.path for file in self.files if file.is_model and file.verdict not in ("identical", "cosmetic")]


def verdicts(
    then: Iterable[Mapping[str, Any]],
    contents: Mapping[str, bytes],
    now: Callable[[str], bytes | None],
    model_files: Collection[str],
    new: Iterable[str] = (),
    needed: str = "",
) -> CodeComparison:
    """Compare captured files with those of now.

    Args:
        then: Files of a manifest.
        contents: Their bytes; without those, a file that differs counts as changed.
        now: Returns what a file holds now, ``None`` if it is gone.
        model_files: Paths of those that the model uses.
        new: Paths that are there now and were not captured.
        needed: Name of the model's class; of a script, only what this class needs counts as the model's.
    """
    found = []
    for file in then:
        path = str(file["path"])
        state = _state(file, contents.get(path), now(path), needed if path in model_files else "")
        found.append(FileVerdict(path, state, path in model_files))
    found += [FileVerdict(path, "new", False) for path in new]
    model = _gravest(file.verdict for file in found if file.is_model)
    others = _gravest(file.verdict for file in found if not file.is_model)
    return CodeComparison(model, others, tuple(sorted(found, key=lambda file: file.path)))


def _state(file: Mapping[str, Any], then: bytes | None, now: bytes | None, needed: str) -> State:
    if now is None:
        return "missing"
    if hashlib.sha256(now).hexdigest() == file["sha256"]:
        return "identical"
    if then is None or not str(file["path"]).endswith(".py"):
        return "changed"
    if same_program(then, now):
        return "cosmetic"
    is_script = file.get("kind") in ("main", "cells") and needed
    return "cosmetic" if is_script and _same_class(then, now, needed.partition(".")[0]) else "changed"


def same_program(then: bytes, now: bytes) -> bool:
    """Tell whether two texts are one program but for comments, docstrings and layout.

    >>> same_program(b"x = 1  # one", b"x = (1)"), same_program(b"x = 1", b"x = 1.0")
    (True, False)
    """
    try:
        return _form(ast.parse(then).body) == _form(ast.parse(now).body)
    except NO_PROGRAM:
        return False


def _same_class(then: bytes, now: bytes, name: str) -> bool:
    try:
        return _form(ScriptSlice.of(then).nodes([name])) == _form(ScriptSlice.of(now).nodes([name]))
    except (*NO_PROGRAM, NotFound):
        return False


def _form(body: list[ast.stmt]) -> str:
    module = ast.Module(body, [])
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(
            node
        ):
            # In place of the docstring, so that a body is never empty.
            node.body = [ast.Pass(), *node.body[1:]] if len(node.body) == 1 else node.body[1:]
    return ast.dump(module)


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _gravest(states: Iterable[State]) -> Verdict:
    worst = max((_GRAVITY.index(state) if state in _GRAVITY else len(_GRAVITY) - 1 for state in states), default=0)
    return _GRAVITY[worst]
