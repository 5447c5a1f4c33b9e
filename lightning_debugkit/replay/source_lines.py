"""Which line of the user's code, in which module, is running now."""

from __future__ import annotations

import linecache
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType

from torch.autograd.function import FunctionCtx

from lightning_debugkit.core.notebooks import cell_name, is_cell
from lightning_debugkit.core.secrets import without_tokens

_OWN = "lightning_debugkit"
_FRAMEWORK = {"torch", "lightning", "pytorch_lightning", "lightning_fabric", "torchmetrics", "lightning_utilities"}
_STEPS = ("_optimizer_step", "_update_learning_rates", "_run_stage")  # functions of Lightning's loops
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # frames of their own, before Python 3.12
_OF_A_MODE = ("__torch_function__", "__torch_dispatch__")
_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


@dataclass(frozen=True)
class SourceLine:
    """A line of code and the module that was running it."""

    file: str = ""  # path of the source file, empty if none of the user's is on the stack
    line: int = 0  # line number, counted from 1
    function: str = ""
    module: str | None = None  # dotted path of the innermost module of the model, `None` if none was running
    # where the custom autograd function was applied that this line is of, `None` elsewhere
    applied: SourceLine | None = None

    @property
    def source(self) -> str:
        """The line as ``train.py:28: t = torch.log(wh)``, empty if there is none."""
        if not self.file:
            return ""
        text = without_tokens(linecache.getline(self.file, self.line).strip())
        return f"{self.short}: {text}"

    @property
    def short(self) -> str:
        """The line as ``train.py:28``, empty if there is none."""
        return f"{shown_place(self.file)}:{self.line}" if self.file else ""


def shown_place(file: str) -> str:
    """Return ``file`` as its import path has it: ``pkg/model.py``, wherever the package lies; a cell by its number."""
    if is_cell(file):
        return cell_name(file)
    return _shown(file, tuple(sys.path), Path.cwd())


@lru_cache
def _shown(file: str, path: Sequence[str], here: Path) -> str:
    """Return ``file`` as it is found from ``here`` by an import ``path``."""
    file = os.path.normpath(file)  # of python ../train.py
    roots = [f"{os.path.normpath(here / (root or '.'))}{os.sep}" for root in path]
    inside = [root for root in roots if file.startswith(root)]
    return file[len(max(inside, key=len)) :] if inside else Path(file).name


def place_of(frame: FrameType | None, names: Mapping[int, str]) -> SourceLine:
    """Return the user's place on the stack that ends in ``frame``.

    The line is the innermost one outside of torch, Lightning, the standard library and site-packages; where all of
    the model's code is installed, the innermost one outside of torch and Lightning. The stack is read up to the first
    frame of the kit itself, what called the replay is not to blame; only a mode of the kit's is looked through.

    Args:
        names: Dotted path of each module of the model, by ``id``.
    """
    mine: FrameType | None = None
    is_custom = False  # it is the forward of a custom autograd function, which
    outer: FrameType | None = None  # the user's line of this frame has applied
    installed: FrameType | None = None
    module: str | None = None
    while frame is not None:
        package = frame.f_globals.get("__name__", "").partition(".")[0]
        if package == _OWN:
            frame = _behind_mode(frame)
            continue
        if module is None:
            module = module_of(frame, names)
        if mine is None and package not in _FRAMEWORK and not _is_standard(frame.f_code.co_filename):
            if "site-packages" in frame.f_code.co_filename:
                installed = installed or frame
            else:
                mine, is_custom = frame, _is_custom(frame)
        elif is_custom and outer is None and package not in _FRAMEWORK:
            outer = frame
        if mine is not None and module is not None and (outer is not None or not is_custom):
            break
        frame = frame.f_back
    found = mine or installed
    if found is None:
        return SourceLine(module=module)
    for frame in filter(None, (found, outer)):  # what the loader of a zip file has, no path leads to
        linecache.lazycache(frame.f_code.co_filename, frame.f_globals)
    applied = (
        None if outer is None else SourceLine(outer.f_code.co_filename, outer.f_lineno, outer.f_code.co_name, module)
    )
    return SourceLine(found.f_code.co_filename, found.f_lineno, _function(found), module, applied)


def _function(frame: FrameType) -> str:
    """Return the name of the function whose code ``frame`` runs, a comprehension in it or itself."""
    while frame.f_code.co_name in _COMPREHENSIONS and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_name


def module_of(frame: FrameType, names: Mapping[int, str]) -> str | None:
    """Return the dotted path of the module whose method runs in a frame, ``None`` if it is no part of the model."""
    return names.get(id(frame.f_locals.get("self"))) if "self" in frame.f_code.co_varnames else None


def _behind_mode(frame: FrameType) -> FrameType | None:
    """Return the frame that called into one of the kit's modes, ``None`` where ``frame`` is called by no mode."""
    outermost = frame
    while outermost.f_back is not None and is_own(outermost.f_back):
        outermost = outermost.f_back
    return outermost.f_back if outermost.f_code.co_name in _OF_A_MODE else None


def is_own(frame: FrameType) -> bool:
    """Tell whether a frame is the kit's."""
    return _package(frame) == _OWN


def caller() -> FrameType | None:
    """Return the innermost frame that is not the kit's: what called into it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and is_own(frame):
        frame = frame.f_back
    return frame


def is_users(frame: FrameType) -> bool:
    """Tell whether a frame is the user's: not the kit's, a framework's, an installed package's or the language's."""
    return _is_of_user(_package(frame), frame.f_code.co_filename)


def users_line() -> SourceLine:
    """Return the user's line that what now runs was called from; none if Lightning's loops called it."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:  # after each step of an optimizer: nothing is called for a frame that says nothing
        code = frame.f_code
        if code.co_name in _STEPS and is_step_of_lightning(frame):
            break
        if _is_of_user(str(frame.f_globals.get("__name__", "")).partition(".")[0], code.co_filename):
            return SourceLine(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return SourceLine()


def is_step_of_lightning(frame: FrameType) -> bool:
    """Tell whether Lightning's loops call an optimizer's or scheduler's step, or all else of a run, in ``frame``.

    What the program's own hooks call has a frame of the program before it.
    """
    name = str(frame.f_globals.get("__name__", ""))
    return frame.f_code.co_name in _STEPS and name.startswith(("lightning.pytorch.", "pytorch_lightning."))


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


@cache
def _is_of_user(package: str, file: str) -> bool:
    return package not in (_OWN, *_FRAMEWORK) and "site-packages" not in file and not _is_standard(file)


def _is_custom(frame: FrameType) -> bool:
    """Tell whether ``frame`` is the forward of a custom autograd function, whose first argument is its context."""
    first = frame.f_code.co_varnames[:1]
    return bool(first) and isinstance(frame.f_locals.get(first[0]), FunctionCtx)


@cache
def _is_standard(file: str) -> bool:
    """Tell whether ``file`` is of the standard library, or no file at all."""
    if "site-packages" in file or "dist-packages" in file:
        return False
    return file.startswith(_STANDARD) or (file.startswith("<") and not linecache.getline(file, 1))
