"""Stand on modules, strategies and other objects so that neither a pickle nor a deep copy of them holds us.

A model is pickled and copied in training: as a hyper-parameter in a checkpoint, for a moving average, a mean teacher.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from lightning_debugkit.core.compat import is_compiled, is_compiled_function, unseen

_WARNING = r"Using `torch\.compile\(module\)` when there are global hooks"
Hear = Callable[[nn.Module, Any, Any], None]


class Hearing:
    """Calls ``hear(module, args, output)`` after each forward of ``parts``, until it is removed.

    Nothing is left on the modules: it is torch's hook for all modules that listens. Compiled and traced code is passed
    over. All hear by one hook, with the same key each time that it comes: compiled code depends on which there are.
    """

    _all: ClassVar[dict[Hearing, Hear]] = {}
    _handle: ClassVar[Any] = None
    _filter: ClassVar[Any] = None

    def __init__(self, parts: Iterable[nn.Module], hear: Hear) -> None:
        # By id: the table must not keep alive what the model lets go.
        known = {id(part): weakref.ref(part) for part in parts}

        def heard(module: nn.Module, args: Any, output: Any) -> None:
            part = known.get(id(module))
            if part is not None and part() is module:
                hear(module, args, output)

        if not Hearing._all:
            if Hearing._handle is None:
                Hearing._handle = register_module_forward_hook(_called)
            else:
                Hearing._handle.hooks_dict_ref()[Hearing._handle.id] = _called
        # Compiled modules warn of such hooks, at each call: ours takes each call for what it is. Where warnings are
        # errors, that would end the training.
        warnings.filterwarnings("ignore", message=_WARNING)
        Hearing._filter = warnings.filters[0]
        Hearing._all[self] = heard

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        self.remove()

    def remove(self) -> None:
        """Hear no more; may be called twice."""
        if Hearing._all.pop(self, None) is None or Hearing._all:
            return
        # The last to leave takes hook and filter along.
        Hearing._handle.remove()
        if Hearing._filter in warnings.filters:
            warnings.filters.remove(Hearing._filter)  # type: ignore[attr-defined]  # typed as a sequence, but a list


@unseen
def _heard(module: nn.Module, args: Any, output: Any) -> None:
    for heard in list(Hearing._all.values()):
        heard(module, args, output)


def _called(module: nn.Module, args: Any, output: Any) -> None:
    # Asked before all else: what the compiler meets next it cannot take, and then leaves the whole model eager.
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):  # type: ignore[attr-defined, no-untyped-call]  # torch's
        _heard(module, args, output)


class Hook:
    """A hook for a module that has no place but the module itself; in a pickle and in a copy, one that does nothing.

    >>> import copy
    >>> heard = []
    >>> module = nn.Linear(1, 1)
    >>> handle = module.register_forward_hook(Hook(lambda *seen: heard.append(1)))
    >>> _, _ = module(torch.ones(1)), copy.deepcopy(module)(torch.ones(1))
    >>> heard
    [1]
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __reduce__(self) -> tuple[Any, ...]:
        # It takes any arguments, returns None, and is known where the kit is not installed.
        return getattr, (contextlib.nullcontext(), "__exit__")


class StandIn:
    """Stands on one object for one of its methods; in a pickle and in a copy, it is the object's own method.

    >>> import copy
    >>> class Bell:
    ...     def ring(self):
    ...         return "ding"
    >>> bell = Bell()
    >>> one, other = (StandIn(bell, "ring", lambda: "dong") for _ in range(2))
    >>> _ = one.stand()
    >>> bell.ring(), copy.deepcopy(bell).ring()
    ('dong', 'ding')
    >>> _ = other.stand()
    >>> one.leave()
    >>> other.leave()
    >>> bell.ring(), vars(bell)
    ('ding', {})
    """

    def __init__(self, owner: Any, name: str, call: Callable[..., Any]) -> None:
        self._owner = owner
        self._name = name
        self._call = call
        self._usual: Callable[..., Any] = getattr(owner, name)
        self.below: Any = None  # what stood there before it
        self._has_left = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return (self._usual if self._has_left else self._call)(*args, **kwargs)

    @property
    def usual(self) -> Callable[..., Any]:
        """What stood there before, to be called."""
        return self._usual

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """What it stands for, undecorated: Lightning reads the arguments of a step off it, one layer deep."""
        usual = self._usual
        while isinstance(usual, StandIn):
            usual = usual._usual
        return getattr(usual, "__wrapped__", usual)

    def stand(self) -> StandIn:
        """Take the method's place, or that of what stands for it already; return this."""
        self._usual, self.below = getattr(self._owner, self._name), vars(self._owner).get(self._name)
        vars(self._owner)[self._name] = self
        return self

    def leave(self) -> None:
        """Leave what was there before; may be called twice, and in any order where several stand on one another."""
        self._has_left = True
        own = vars(self._owner)
        # Who has left below another lets every call through, and goes with the last of them.
        while isinstance(top := own.get(self._name), StandIn) and top._has_left:
            del own[self._name]
            if top.below is not None:
                own[self._name] = top.below

    def __reduce__(self) -> tuple[Any, ...]:
        # While the owner is copied it has no attributes of its own yet: this is what its class has.
        return getattr, (self._owner, self._name)


def around_next(
    owner: Any, name: str, context: Callable[[], contextlib.AbstractContextManager[Any]]
) -> Callable[[], None]:
    """Enter ``context()`` around the next call of one method of ``owner``; return what takes it away before that.

    Not from hook to hook: torch's modes are a stack, and so each is left whatever happens, in its turn.
    """
    usual = getattr(owner, name)

    def entered(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        stand_in.leave()  # an optimizer may call its closure several times
        with context():
            return usual(*args, **kwargs)

    stand_in = StandIn(owner, name, entered).stand()
    return stand_in.leave


def has_compiled_code(module: nn.Module) -> bool:
    """Tell whether a part of ``module``, or a function beside it, is compiled.

    A function mode, or a hook for all modules, would have it compiled anew each time that it is entered.
    """
    for part in module.modules():
        if is_compiled(part) or _hold_compiled([vars(part)]):
            return True
    kinds = [kind for kind in type(module).__mro__ if kind.__module__.partition(".")[0] not in ("torch", "lightning")]
    beside = [getattr(sys.modules.get(kind.__module__), "__dict__", {}) for kind in kinds]
    return _hold_compiled([*map(vars, kinds), *beside])


def _hold_compiled(spaces: Sequence[Mapping[str, Any]]) -> bool:
    functions = [each for held in spaces for each in list(held.values()) if type(each) in (FunctionType, MethodType)]
    return any(map(is_compiled_function, functions))


def hear_method(kind: type, name: str, hear: Callable[..., None], after: bool = False) -> Callable[[], None]:
    """Call ``hear`` with all that a method of a class is called with, before or ``after``; return what takes it away.

    For objects whose own attributes are their state, so that nothing may stand on them.

    >>> class Bell:
    ...     def ring(self):
    ...         return "ding"
    >>> heard = []
    >>> leave = hear_method(Bell, "ring", lambda bell: heard.append("rung"))
    >>> Bell().ring(), leave(), Bell().ring(), heard
    ('ding', None, 'ding', ['rung'])
    """
    usual, own = getattr(kind, name), vars(kind).get(name)

    @functools.wraps(usual)
    def heard(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if not after:
            hear(self, *args, **kwargs)
        done = usual(self, *args, **kwargs)
        if after:
            hear(self, *args, **kwargs)
        return done

    def leave() -> None:
        if vars(kind).get(name) is not heard:
            return  # somebody else stands there now
        if own is None:
            delattr(kind, name)
        else:
            setattr(kind, name, own)

    setattr(kind, name, heard)
    return leave
