"""Names of weights that something has put a prefix before: `torch.compile`, a wrapper, a moving average."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, MutableMapping
from typing import Any

from torch import nn

from lightning_debugkit.core.name_lists import begun
from lightning_debugkit.core.patching import Hook

_COMPILED = "_orig_mod."  # torch.compile(module) holds the module under this name
_WRAPPED = ("_orig_mod", "module")  # so do DataParallel and AveragedModel, which counts its updates beside it
_COUNTER = "n_averaged"
_AVERAGES = ("ema", "average", "averaged", "swa", "shadow")
_FEW = 3


def renamed(saved: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Return, by the name of a saved weight, the name that the model has for it, where that is certain and another.

    Certain is that ``torch.compile`` adds ``_orig_mod.`` and other wrappers ``module.`` where one name alone becomes
    the model's without it, and that one prefix before every name, without which all names are those of the model, is
    none of theirs.

    >>> renamed(["net._orig_mod.weight", "head.bias"], ["net.weight", "head.bias"])
    {'net._orig_mod.weight': 'net.weight'}
    >>> renamed(["model.net.weight", "model.head.bias"], ["net.weight", "head.bias"])
    {'model.net.weight': 'net.weight', 'model.head.bias': 'head.bias'}
    """
    found = _of_wrapped(saved, wanted)
    rest = {found.get(name, name): name for name in saved}
    if not rest.keys() & set(wanted):
        for prefix in _prefixes(rest):
            if {name.removeprefix(prefix) for name in rest} == set(wanted):
                return {name: plain.removeprefix(prefix) for plain, name in rest.items()}
    return found


def explained_names(saved: Collection[str], wanted: Collection[str]) -> str:
    """Return in a sentence what stands before the names that do not fit, empty if it is nothing that is known.

    >>> explained_names(["net.weight", "ema_model.module.net.weight"], ["net.weight"])
    "1 weight of the checkpoint begins with 'ema_model.', a moving average that the model does not have: build it \
with the average, or load with strict=False, which leaves the average out"
    """
    extra, missing = sorted(set(saved) - set(wanted)), sorted(set(wanted) - set(saved))
    if any(_COMPILED in name for name in [*extra, *missing]) and (compiled := _of_wrapped(saved, wanted)):
        left = [name for name in extra if name not in compiled]
        shown = ", ".join(left[:_FEW]) or ", ".join(missing[:_FEW])
        only = "1 weight differs" if len(compiled) == 1 else f"{len(compiled)} weights differ"
        return f"{only} only by torch.compile's {_COMPILED!r}; what does not fit is {shown}"
    for first, count in Counter(name.partition(".")[0] for name in extra).items():
        if any(word in first.lower().split("_") or first.lower().startswith(word) for word in _AVERAGES):
            verb = "weight of the checkpoint begins" if count == 1 else "weights of the checkpoint begin"
            return (
                f"{count} {verb} with '{first}.', a moving average that the model does not have: build it with the "
                "average, or load with strict=False, which leaves the average out"
            )
    return ""


def fit_names(module: nn.Module, strict: bool = True, report: Callable[[str], None] | None = None) -> Any:
    """Let a state that is loaded into ``module`` have the module's own names; return the handle.

    Args:
        module: The model, whole in this process.
        strict: Whether names that do not fit are an error: then known prefixes are named in what torch raises.
        report: Takes what was renamed, in words.
    """

    def fit(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
        wanted = set(module.state_dict())
        if prefix or state.keys() == wanted:
            return
        names = renamed(state.keys(), wanted)
        for name in [name for name in state if name in names]:
            state[names[name]] = state.pop(name)
        for name in [name for name in state if name not in wanted and name.endswith(_COUNTER)]:
            if any(each.startswith(f"{name.removesuffix(_COUNTER)}module.") for each in names):
                del state[name]
        if names and report is not None:
            report(f"{len(names)} weights were loaded by other names, such as {next(iter(names.items()))}")
        if strict and state.keys() != wanted and (why := explained_names(state.keys(), wanted)):
            rest[-1].append(f"{begun(why)}.")

    return module.register_load_state_dict_pre_hook(Hook(fit))


def _of_wrapped(saved: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    ours = {_plain(name): name for name in wanted}
    if len(ours) < len(wanted):
        return {}  # two of the model's names would be one
    pairs = {name: ours.get(_plain(name), name) for name in saved}
    taken = Counter(pairs.values())
    return {name: own for name, own in pairs.items() if name != own and taken[own] == 1}


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPED)


def _prefixes(names: Collection[str]) -> Iterator[str]:
    """Yield what all names begin with, up to each dot, the shortest first."""
    prefix = ""
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            return
        prefix += f"{parts[0]}."
        yield prefix
