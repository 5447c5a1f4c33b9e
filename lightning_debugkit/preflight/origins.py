"""What comes of the batch and what of the network, followed through one step."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag
from itertools import pairwise
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from lightning_debugkit.core.tensor_notes import TensorNotes
from lightning_debugkit.data.batches import batch_size, leaves
from lightning_debugkit.preflight.loss_calls import LAYERS

PICTURE = 4  # dimensions of a batch of pictures
CHANNELS = (2, 3, 4)
NORMS = {"norm", "vector_norm", "linalg_norm", "linalg_vector_norm"}
QUOTIENTS = {"div", "__truediv__", "true_divide", "divide"}
TURNS = {"t", "transpose", "__get__", "swapaxes", "adjoint"}  # of a matrix; ``x.T`` and ``x.mT`` are got
MATRICES = {"matmul", "__matmul__", "mm", "__rmatmul__"}
PAIRING = MATRICES | {"cdist"}
KEEPING = QUOTIENTS | TURNS | {"mul", "__mul__", "__rmul__", "neg", "__neg__"}  # pairs stay pairs


class Origin(Flag):
    """Of what a tensor was made."""

    NOTHING = 0
    BATCH = 1
    NETWORK = 2


BOTH = Origin.BATCH | Origin.NETWORK


@dataclass
class Origins:
    """The origin of each result of a step."""

    samples: int | None  # how many the batch holds, `None` if it cannot be told
    given: Mapping[int, tuple[int, ...]]  # shapes of the tensors of the batch, by the place of their memory
    strides: Mapping[int, tuple[int, ...]] = field(default_factory=dict)  # of the same
    _of: TensorNotes[Origin] = field(default_factory=TensorNotes)
    # Along which dimension the rows of a matrix have unit length, and of what matrix a norm was taken along which.
    _unit: TensorNotes[int] = field(default_factory=TensorNotes)
    _norms: TensorNotes[tuple[weakref.ref[Tensor], int]] = field(default_factory=TensorNotes)
    # What a layer of one output says of each sample ``(N, 1)``, and what was made of it entry by entry.
    _columns: TensorNotes[bool] = field(default_factory=TensorNotes)
    _pairs: TensorNotes[bool] = field(default_factory=TensorNotes)  # ``(N, N)``, each sample with all
    _cosines: TensorNotes[bool] = field(default_factory=TensorNotes)  # and what was made of them entry by entry

    @classmethod
    def of_batch(cls, batch: Any) -> Origins:
        """Return what is known before the step."""
        known = [(leaf, memory) for _, leaf in leaves(batch) if (memory := _plain_storage(leaf))]
        known = [(leaf, memory) for leaf, memory in known if not leaf.is_nested]  # which have no shape
        given = {memory: tuple(leaf.shape) for leaf, memory in known}
        return cls(batch_size(batch), given, {memory: leaf.stride() for leaf, memory in known})

    def of(self, tensor: Tensor) -> Origin:
        """Return of what a tensor was made."""
        known = self._of.get(tensor)
        if known is not None:
            return known
        if isinstance(tensor, nn.Parameter):
            return Origin.NETWORK
        return Origin.BATCH if _plain_storage(tensor) in self.given else Origin.NOTHING

    def is_given(self, tensor: Any) -> bool:
        """Tell whether these are numbers of the batch in the shape in which the batch has them."""
        if not isinstance(tensor, Tensor) or self.of(tensor) != Origin.BATCH:
            return False
        is_as_given = tensor.is_contiguous() or tensor.stride() == self.strides.get(_plain_storage(tensor))
        return is_as_given and tuple(tensor.shape) in self.given.values()

    def are_of_samples(self, one: Tensor, other: Tensor, is_sum: bool = False) -> bool:
        """Tell whether one is what the network says of each sample, and the other what the batch says of each.

        Args:
            is_sum: Of a sum the column has to be the batch's own or a layer's: squares that are summed by rows make
                the distances of all pairs.
        """
        if is_sum and not any(map(self._is_column, (one, other))):
            return False
        origins = {self.of(one), self.of(other)}
        # Of two that the network has said, the column is one that nobody has shaped to meet all samples.
        is_pair = origins == {Origin.BATCH, BOTH} or (origins == {BOTH} and any(map(self._columns.get, (one, other))))
        return is_pair and one.shape[0] == other.shape[0] == self.samples

    def kinds(self, tensor: Tensor) -> tuple[bool, bool]:
        """Tell whether a prediction compares each sample with all, and whether it is made of cosines."""
        return bool(self._pairs.get(tensor)), bool(self._cosines.get(tensor))

    def _is_column(self, tensor: Tensor) -> bool:
        return tensor.ndim > 1 and (self.is_given(tensor) or bool(self._columns.get(tensor)))

    def follow(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> bool:
        """Keep the origin of a result; tell whether it compares samples that are scaled along the wrong dimension."""
        origin = Origin.NOTHING
        for part in _tensors((*args, *kwargs.values())):
            origin |= self.of(part)
        for part in _tensors((result,)):
            self._of[part] = origin
        if not isinstance(result, Tensor) or not origin:
            return False
        self._follow_scale(name, args, kwargs, result)
        if origin != BOTH:
            return False
        self._follow_cosines(name, args, result)
        is_column = type(result) is Tensor and result.shape == (self.samples, 1)
        if is_column and (name in LAYERS or any(map(self._columns.get, args))):
            self._columns[result] = True
        if result.shape == (self.samples, self.samples):
            is_product = name in PAIRING and all(isinstance(p, Tensor) and self.of(p) == BOTH for p in args[:2])
            if is_product or (name in KEEPING and any(map(self._pairs.get, args))):
                self._pairs[result] = True
        return self._is_mixed(name, args)

    def _follow_scale(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Tensor) -> None:
        source = args[0] if args else kwargs.get("input")
        if not isinstance(source, Tensor) or source.ndim != 2:
            return
        if name == "normalize":
            dim = kwargs.get("dim", args[2] if len(args) > 2 else 1)
            if isinstance(dim, int):
                self._unit[result] = dim % 2
        elif name in NORMS and isinstance(dim := _only(kwargs.get("dim", args[2] if len(args) > 2 else None)), int):
            self._norms[result] = weakref.ref(source), dim % 2
        elif name in QUOTIENTS and len(args) > 1 and isinstance(args[1], Tensor):
            held = self._norms.get(args[1])
            if held is not None and held[0]() is source:
                self._unit[result] = held[1]
        elif name in TURNS and result.shape == source.shape[::-1] and (along := self._unit.get(source)) is not None:
            self._unit[result] = 1 - along

    def _follow_cosines(self, name: str, args: Sequence[Any], result: Tensor) -> None:
        if name in MATRICES or name == "linear":
            along = [self._unit.get(part) if isinstance(part, Tensor) else None for part in args[:2]]
            is_new = along == ([1, 1] if name == "linear" else [1, 0]) and len(args) > 1
        else:
            known = name not in LAYERS and any(
                self._cosines.get(part) for part in _tensors(args) if part.shape == result.shape
            )
            is_new = name == "cosine_similarity" or known
        if is_new:
            self._cosines[result] = True

    def _is_mixed(self, name: str, args: Sequence[Any]) -> bool:
        """Tell whether rows are multiplied with rows that have unit length along the samples instead.

        What is scaled along the samples and summed over them, as in a correlation of columns, is meant.
        """
        if name == "einsum" and len(args) > 1 and isinstance(args[0], str):
            summed, parts = _summed(args[0]), _tensors(args[1:])
        elif name in MATRICES:
            summed, parts = [1, 0], iter(args)
        else:
            return False
        pair = [part for part in parts if isinstance(part, Tensor)]
        if len(pair) != 2 or summed is None or not self.samples or any(self.of(part) != BOTH for part in pair):
            return False
        along = [self._unit.get(part) for part in pair]
        rows = [part.shape[1 - dim] for part, dim in zip(pair, summed, strict=True)]
        is_wrong = all(unit is not None and unit != dim for unit, dim in zip(along, summed, strict=True))
        return is_wrong and all(count % self.samples == 0 for count in rows)


def is_torn(given: Sequence[int], shape: Sequence[int], is_whole: bool = False) -> bool:
    """Tell whether numbers of one shape were read as those of another one in which the same dimensions stand elsewhere.

    Where a dimension is cut into parts, or neighbours are put together, each boundary between rows of one shape falls
    on one of the other. It does not where a transpose was meant. Pairs of whole numbers, as the edges of a graph, are
    cut at the middle of them all in any case.

    >>> is_torn((32, 8, 8, 3), (32, 3, 8, 8)), is_torn((20, 32, 6), (32, 6, 20)), is_torn((32, 12), (32, 3, 4))
    (True, True, False)
    """
    old, new = [[size for size in sizes if size > 1] for sizes in (given, shape)]
    if old == new or sorted(old) != sorted(new):
        return False
    if is_whole and list(given[1:]) == [2] and list(shape) == [2, given[0]]:
        return True
    is_picture = len(given) == len(shape) == PICTURE and given[0] == shape[0]
    if is_picture and given[3] in CHANNELS and list(shape[1:]) == [given[3], *given[1:3]]:
        return True
    bounds = sorted({prod(sizes[at:]) for sizes in (old, new) for at in range(len(sizes))})
    return any(large % small for small, large in pairwise(bounds))


def are_classes_cut(given: Sequence[int], shape: Sequence[int]) -> bool:
    """Tell whether scores ``(N, C, ...)`` were read as rows of ``C``, each of which then holds scores of one class.

    >>> are_classes_cut((16, 3, 8, 8), (1024, 3)), are_classes_cut((16, 8, 8, 3), (1024, 3))
    (True, False)
    """
    return len(given) > len(shape) == 2 and 1 < given[1] == shape[1] != given[-1] and prod(given[2:]) > 1


def _summed(equation: str) -> list[int] | None:
    """Return which dimension of each of two matrices a product sums over.

    >>> _summed("id,jd->ij"), _summed("nd,nd->n")
    ([1, 1], None)
    """
    terms, _, out = equation.replace(" ", "").partition("->")
    one, _, other = terms.partition(",")
    shared = set(one) & set(other) - set(out)
    if len(one) != 2 or len(other) != 2 or len(shared) != 1 or len(set(out)) != 2:
        return None
    letter = shared.pop()
    return [one.index(letter), other.index(letter)]


def _only(dim: Any) -> Any:
    return dim[0] if isinstance(dim, list | tuple) and len(dim) == 1 else dim


def _plain_storage(tensor: Any) -> int:
    """Return where the numbers of a plain tensor lie, 0 for any other."""
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    return tensor.untyped_storage().data_ptr() if is_plain else 0


def _tensors(parts: Sequence[Any]) -> Iterator[Tensor]:
    for part in parts:
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, list | tuple):
            yield from (item for item in part if isinstance(item, Tensor))
