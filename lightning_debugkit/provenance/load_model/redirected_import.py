"""What captured code gets when it imports: its own packages from the snapshot, everything else as usual."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debugkit.provenance.load_model.private_import import Captured

# Functions that take the name of a module as text, and which of their arguments it is.
_BY_NAME: dict[str, dict[str, tuple[int, ...]]] = {
    "importlib": {"import_module": (0, 1)},
    "importlib.util": {"find_spec": (0, 1), "resolve_name": (1,)},
    "importlib.resources": dict.fromkeys(
        (
            *("files", "contents", "is_resource", "path", "open_binary", "open_text", "read_binary", "read_text"),
            "as_file",
        ),
        (0,),
    ),
    "pkgutil": {"get_data": (0,), "resolve_name": (0,)},
    "pydoc": {"locate": (0,)},
}
_TELL_BY_NONE = ("find_spec", "locate")  # that there is no such module
_FINDS_ITS_CALLER = sys.version_info >= (3, 12)  # importlib.resources.files() without an argument
_NAMES = frozenset({"name", "package", "anchor", "path"})


def redirected_builtins(owner: Captured) -> dict[str, Any]:
    """Return built-in names whose ``__import__`` finds the packages of ``owner`` under their private names.

    Python looks up ``__import__`` among the built-ins of the module that imports, whenever it does: so this holds for
    imports within functions too.
    """
    stand_ins: dict[str, ModuleType] = {}

    def import_(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level or not isinstance(name, str):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        if name == "__main__" and owner.main is not None:
            return owner.main
        if owner.owns(name):
            return _imported(owner, name, fromlist)
        for each in (name, *(f"{name}.{inner}" for inner in fromlist or ())):
            _refuse_newcomer(owner, each)
        module = builtins.__import__(name, globals, locals, fromlist or (), 0)
        meant = name if fromlist else name.partition(".")[0]
        return stand_ins.get(meant, module)

    for name, functions in _BY_NAME.items():
        stand_ins[name] = _StandIn(name, functions, owner)
    for name, stand_in in stand_ins.items():
        package, _, last = name.rpartition(".")
        if package:
            stand_ins[package].__dict__[last] = stand_in
    stand_ins["importlib"].__dict__["__import__"] = import_
    return {**vars(builtins), "__import__": import_}


def _refuse_newcomer(owner: Captured, name: str) -> None:
    """What was not there is not there: code that tries another module next takes it, as it did."""
    place = owner.newcomer(name)
    if place is not None:
        raise ModuleNotFoundError(
            f"The snapshot does not hold {name}, which was not there when it was taken; {place} is code of now.",
            name=name,
        )


def _imported(owner: Captured, name: str, fromlist: Sequence[str] | None) -> Any:
    private = owner.private(name)
    if fromlist:
        return builtins.__import__(private, None, None, fromlist, 0)
    importlib.import_module(private)
    return sys.modules[owner.private(name.partition(".")[0])]


class _StandIn(ModuleType):
    """A module of the standard library, some of whose functions know the private names."""

    def __init__(self, name: str, functions: Mapping[str, tuple[int, ...]], owner: Captured) -> None:
        super().__init__(name)
        for attribute in ("__doc__", "__loader__", "__spec__", "__package__"):
            self.__dict__.pop(attribute, None)  # the real module's show through
        self.__dict__["_functions"] = functions
        self.__dict__["_owner"] = owner

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), attribute)
        positions = self.__dict__["_functions"].get(attribute)
        return value if positions is None else _by_private_name(value, positions, self.__dict__["_owner"])


def _by_private_name(function: Callable[..., Any], positions: tuple[int, ...], owner: Captured) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs and function.__name__ == "files" and _FINDS_ITS_CALLER:
            args = (sys._getframe(1).f_globals["__name__"],)
        named = [value for position, value in enumerate(args) if position in positions]
        named += [value for key, value in kwargs.items() if key in _NAMES]
        new = [value for value in named if isinstance(value, str) and not owner.owns(value) and _is_new(value, owner)]
        if new and function.__name__ in _TELL_BY_NONE:
            return None
        for value in new:
            _refuse_newcomer(owner, value.partition(":")[0])

        def private(value: Any) -> Any:
            # A private name already, or a relative one, is left as it is.
            return owner.private(value) if isinstance(value, str) and owner.owns(value) else value

        placed = [private(value) if position in positions else value for position, value in enumerate(args)]
        return function(*placed, **{key: private(value) if key in _NAMES else value for key, value in kwargs.items()})

    return call


def _is_new(name: str, owner: Captured) -> bool:
    return not name.startswith(".") and owner.newcomer(name.partition(":")[0]) is not None
