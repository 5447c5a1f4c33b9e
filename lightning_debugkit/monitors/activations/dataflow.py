"""What is known of a tensor on its way through a network: the layer it comes from, the dimension of its units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.monitors.activations.sites import Output, Site

Shape = Sequence[int]

# Operations that move numbers and leave each as it is.
MOVES = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "alias", "clone", "contiguous", "_to_copy", "expand", "t",
    "transpose", "transpose_", "permute", "movedim", "squeeze", "squeeze_", "unsqueeze", "unsqueeze_", "select",
    "slice", "narrow", "split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unbind",
    "view_as", "view_as_real", "lift_fresh",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter, or what was made of parameters alone."""

    layer: str
    trains: bool


@dataclass(frozen=True, slots=True)
class Dataflow:
    """A tensor that was made of the batch and of parameters."""

    layer: str = ""  # the layer it left last, empty if that was not seen
    trains: bool = True  # the parameters of that layer get a gradient
    unit: int | None = None  # the dimension that counts the units of the layer, `None` if they are mixed
    is_spatial: bool = False  # the layer has its units in dimension 1, places behind it
    is_direct: bool = False  # nothing but views and a bias lies between the layer and this tensor
    is_score: bool = False  # a product of two activations, as attention scores are
    gate: Site | None = None  # the activation whose output this is, but for views
    sites: frozenset[Site] = frozenset()  # activations on the way here with no layer after them
    outputs: frozenset[Output] = frozenset()  # layers on the way here with no layer after them


Known = Weight | Dataflow


class Register(TensorNotes[Known]):
    """What is known of the tensors that are alive."""

    def made_by(self, nodes: set[object]) -> list[Known]:
        """Return what is known of the tensors that these autograd nodes made."""
        alive = [(ref(), known) for ref, known in self._of.values()]
        return [known for tensor, known in alive if tensor is not None and tensor.grad_fn in nodes]


def merged_dataflow(flows: Sequence[Dataflow], main: Dataflow) -> Dataflow:
    """Return ``main`` with the activations and layers that lie behind any of ``flows``.

    Those that a layer has taken are left out: of residual connections, each would else carry all before it.
    """
    if all(flow is main for flow in flows):
        return main
    sites = frozenset(site for flow in flows for site in flow.sites if not site.is_inner)
    outputs = frozenset(output for flow in flows for output in flow.outputs if output.tensor is not None)
    return replace(main, sites=sites, outputs=outputs)


def carried(flow: Dataflow, name: str, args: Sequence[object], old: Shape, new: Shape) -> int | None:
    """Return the unit dimension of what operation ``name`` made of a tensor of shape ``old``.

    >>> conv = Dataflow(unit=1, is_spatial=True)
    >>> carried(conv, "view", (), (8, 16, 4, 4), (8, 256)), carried(conv, "mean", (), (8, 16, 4, 4), (8, 16))
    (1, 1)
    >>> carried(Dataflow(unit=2), "transpose", (None, 1, 2), (8, 20, 32), (8, 32, 20))
    1
    """
    unit = flow.unit
    if unit is None or not new or unit >= len(old):  # a transform of torch.func has put dimensions together
        return None
    if name in ("t", "transpose", "transpose_", "permute", "select", "unbind", "stack", "unsqueeze", "unsqueeze_"):
        return _moved(unit, name, args, len(old))
    if len(old) == len(new) and old[unit] == new[unit]:
        return unit
    behind = len(old) - unit
    if behind <= len(new) and list(old[unit:]) == list(new[-behind:]):
        return len(new) - behind
    if list(old[: unit + 1]) == list(new[: unit + 1]):
        return unit
    if len(new) == 2:
        return 1  # flattened: each place of each unit is a feature of its own
    if len(old) == len(new) and name not in MOVES:
        return unit  # a pooling over units, say
    return 1 if flow.is_spatial and len(new) > 2 else None


def _moved(unit: int, name: str, args: Sequence[object], ndim: int) -> int | None:
    dims = [arg for arg in args[1:] if isinstance(arg, int)]
    if name == "t":
        return ndim - 1 - unit
    if name == "permute":
        order = [dim % ndim for dim in args[1] if isinstance(dim, int)] if isinstance(args[1], Sequence) else []
        return order.index(unit) if unit in order else None
    if name.startswith("transpose"):
        one, other = (dim % ndim for dim in dims)
        return {one: other, other: one}.get(unit, unit)
    dim = dims[0] if dims else 0
    if name in ("stack", "unsqueeze", "unsqueeze_"):
        return unit + (dim % (ndim + 1) <= unit)
    dim %= ndim
    return None if dim == unit else unit - (dim < unit)
