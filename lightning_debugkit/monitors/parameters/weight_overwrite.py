"""Weights that were loaded and then overwritten before the first step."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.hooks import RemovableHandle

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.patching import Hook
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.sharding import unwrapped_name
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.stats.tensor_norms import bits, is_readable, values

Seen = tuple[tuple[tuple[int, ...], torch.dtype], int]  # form and bits

OVERWRITTEN = Rule(
    "weights-overwritten",
    Severity.ERROR,
    "{names}: the weights that training starts from are not the ones that were {how}",
    "Look for initialisation in setup, configure_model, on_fit_start or on_train_start: it runs after the weights are "
    "loaded; do it in __init__.",
    section="parameters",
)


class WeightOverwrite:
    """Remember the bits of weights when they are loaded, and compare when training starts."""

    def __init__(self) -> None:
        self.bits: dict[str, Seen] = {}
        self.trained: dict[str, Seen] = {}
        self.parts: dict[str, Seen] = {}  # loaded into parts of the model, not into all of it
        self.handles: list[RemovableHandle] = []
        self._is_whole = False  # all of the model is being loaded, and looked at when that is done

    def begin(self, module: nn.Module) -> None:
        """Listen for loads; weights that an earlier fit left and nobody touched count as loaded."""
        self.bits = self.trained if self.trained and _bits(module) == self.trained else {}
        self.parts = {}
        self.handles = [
            module.register_load_state_dict_pre_hook(Hook(self._loading)),
            module.register_load_state_dict_post_hook(Hook(self._loaded)),
        ]
        for name, part in module.named_modules():
            if name and not isinstance(part, torch.jit.ScriptModule):
                hook = Hook(functools.partial(self._part_loaded, name))
                self.handles.append(part.register_load_state_dict_post_hook(hook))

    def _loading(self, *_: Any) -> None:
        self._is_whole = True

    def _loaded(self, module: nn.Module, _: Any) -> None:
        self._is_whole, self.bits, self.parts = False, _bits(module), {}

    def _part_loaded(self, path: str, part: nn.Module, incompatible: Any) -> None:
        if self._is_whole:
            return
        with contextlib.suppress(Exception):  # a load of the user's goes on
            missing = [f".{key}" for key in incompatible.missing_keys]
            for name, seen in _bits(part, recurse=False).items():
                whole = f"{path}.{name}"
                if not any(f".{whole}".endswith(key) for key in missing):
                    self.parts[whole] = seen

    def judge(self, where: Where, module: nn.Module) -> Iterator[Finding]:
        """Yield, before the first step, the parameters that are no longer as loaded."""
        self.stop()
        here = _bits(module) if self.bits or self.parts else {}
        # Another form says that weights were dealt out to ranks in between: shards have no bits to compare with.
        both = {name: (seen, here[name]) for name, seen in self.bits.items() if name in here}
        changed = [name for name, (then, now) in both.items() if then[0] == now[0] and then[1] != now[1]]
        if changed:
            how = "left by the fit before" if self.bits == self.trained else "loaded"
            at = where.at(common(changed))
            yield OVERWRITTEN.found(at, names=listed(changed), how=how, parameters=changed)
        elif renewed := list(self._renewed(here)):
            at = where.at(common(renewed))
            how = f"loaded into {common(renewed)}"
            yield OVERWRITTEN.found(at, severity=Severity.WARNING, names=listed(renewed), how=how, parameters=renewed)

    def _renewed(self, here: dict[str, Seen]) -> Iterator[str]:
        """Yield what was loaded into a part of the model of which nothing is left.

        Who renews the last layer of what was loaded means it: the others are as they were.
        """
        groups: dict[str, list[str]] = {}
        for name in self.parts:
            groups.setdefault(name.partition(".")[0], []).append(name)
        for names in groups.values():
            both = [(self.parts[name], here[name]) for name in names if name in here]
            if len(both) == len(names) and all(then[0] == now[0] and then[1] != now[1] for then, now in both):
                yield from names

    def end(self, module: nn.Module) -> None:
        """Remember the weights that this fit leaves."""
        self.trained = _bits(module)

    def stop(self) -> None:
        """Listen no longer."""
        for handle in self.handles:
            handle.remove()
        self.handles = []


def _bits(module: nn.Module, recurse: bool = True) -> dict[str, Seen]:
    named = module.named_parameters(recurse=recurse)
    held = {unwrapped_name(n): values(p) for n, p in named if not is_lazy(p) and is_readable(p)}
    return {name: ((tuple(tensor.shape), tensor.dtype), bits(tensor)) for name, tensor in held.items()}
