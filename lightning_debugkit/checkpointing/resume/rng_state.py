"""All random states of one time, and their plain form, which a checkpoint takes with ``weights_only=True``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lightning_debugkit.checkpointing.resume.owned_generators import Owned
from lightning_debugkit.core.rng import RandomState


@dataclass(frozen=True)
class RngState:
    """What the generators of the process, of its devices, and those that objects own will draw next."""

    process: RandomState
    others: Mapping[str, Any] = field(default_factory=dict)
    owned: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def now(cls, owned: Owned) -> RngState:
        """Return the moment of now."""
        others = {name: _module(name).get_rng_state() for name in ("mps", "xpu") if _usable(name)}
        return cls(RandomState.capture(), others, owned.states())

    def restore(self, owned: Owned) -> list[str]:
        """Go back to this moment; return the names of owned generators that are no longer there."""
        self.process.restore()
        for name, state in self.others.items():
            if _usable(name):
                _module(name).set_rng_state(state)
        return owned.restore(self.owned)

    def parts(self) -> dict[str, Any]:
        """Return what it is made of, for `plain`."""
        process = self.process
        return {
            "python": process.python,
            "numpy": process.numpy,
            "torch": process.cpu,
            "cuda": list(process.devices),
            "others": dict(self.others),
            "owned": dict(self.owned),
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> RngState:
        """Return the moment whose parts these are, in plain form."""
        numpy = unplain(state["numpy"]) if "numpy" in sys.modules else None
        process = RandomState(state["python"], numpy, state["torch"].cpu(), tuple(s.cpu() for s in state["cuda"]))
        return cls(process, state["others"], unplain(state["owned"]))


def plain(value: Any) -> Any:
    """Return ``value`` with moments as dicts, and arrays and numbers of numpy as lists and numbers of Python.

    Raises:
        TypeError: There is anything else in it than what ``torch.load`` takes with ``weights_only=True``.

    >>> import numpy as np
    >>> plain({"key": np.arange(3, dtype=np.uint32), "pos": np.int64(2)})
    {'key': {'array': [0, 1, 2], 'dtype': 'uint32'}, 'pos': 2}
    """
    if isinstance(value, RngState):
        return plain(value.parts())
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    if type(value) in (int, float, bool, str, type(None), torch.Tensor):
        return value
    if type(value).__module__ == "numpy" and hasattr(value, "dtype"):
        return {"array": value.tolist(), "dtype": str(value.dtype)} if value.ndim else value.item()
    raise TypeError(f"{type(value).__name__} cannot be kept in a checkpoint of plain types.")


def unplain(value: Any) -> Any:
    """Undo `plain`: lists that were arrays are arrays again."""
    if isinstance(value, Mapping) and value.keys() == {"array", "dtype"}:
        import numpy as np  # late: only who uses numpy has such a state

        return np.array(value["array"], dtype=value["dtype"])
    if isinstance(value, Mapping):
        return {key: unplain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(unplain(item) for item in value)
    return value


def _module(name: str) -> Any:
    return getattr(torch, name)


def _usable(name: str) -> bool:
    return hasattr(torch, name) and _module(name).is_available()
