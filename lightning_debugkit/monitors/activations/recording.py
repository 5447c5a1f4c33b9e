"""What one look gathers on its way: sizes of layers, activations, outputs, and what could not be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_debugkit.core import tensor_numbers
from lightning_debugkit.data.batches import leaves
from lightning_debugkit.monitors.activations.dataflow import Dataflow
from lightning_debugkit.monitors.activations.operation_call import OperationCall
from lightning_debugkit.monitors.activations.operations import SOFTMAX, flat
from lightning_debugkit.monitors.activations.sites import Output, Scale, Site
from lightning_debugkit.replay.source_lines import SourceLine, place_of
from lightning_debugkit.stats import activation_stats as numbers

_INPUTS = 8
_NODES = 100_000


class ActivationRecording:
    """All that one look has seen; tensors stay on their device until they are asked for."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self.layers: dict[str, Scale] = {}
        self.norms: dict[str, Scale] = {}
        self.sites: dict[tuple[Any, ...], Site] = {}
        self.outputs: list[Output] = []
        self.differing: list[Tensor] = []
        self.unseen: dict[str, str] = {}
        self._has_batch = False

    def place(self, call: OperationCall) -> SourceLine:
        """Return the user's line and module that is running."""
        return place_of(call.frame, self.names)

    def note_unseen(self, node: Any, owners: Sequence[str]) -> None:
        """Remember what ran out of sight, by the autograd node it left."""
        name = node.name().removesuffix("Backward")
        if name.startswith("CompiledFunction"):
            self.unseen[", ".join(sorted(set(owners))) or "a compiled part"] = "compiled by torch.compile"
        elif name.startswith("CheckpointFunction"):
            self.unseen["a checkpointed part"] = "reentrant activation checkpointing (use_reentrant=True)"
        elif hasattr(node, "_forward_cls"):
            self.unseen[name] = "a custom autograd function"

    def saw_batch(self, batch: Any) -> None:
        """Remember whether the samples of the batch differ at all, and not by one number each, as a label is."""
        found = [tensor_numbers.numbers(leaf) for _, leaf in leaves(batch) if isinstance(leaf, Tensor)]
        plain = [each for each in found if each is not None and each.ndim]
        for each in [each for each in plain if each.numel() > len(each)] or plain:
            self._differs(each)
        self._has_batch = bool(self.differing)

    def saw_first(self, tensor: Tensor) -> None:
        """Where the batch holds no tensors, remember whether samples differ that enter the first layers."""
        if not self._has_batch:
            self._differs(tensor)

    def _differs(self, tensor: Tensor) -> None:
        if len(self.differing) < _INPUTS and _is_plain(tensor) and tensor.ndim and tensor.shape[0] > 1:
            some = numbers.thinned(tensor)
            self.differing.append((some != some[:1]).any())

    def saw_layer(self, layer: str, made: Tensor) -> None:
        if _is_readable(made):
            self.layers.setdefault(layer, Scale()).sizes.append(numbers.rms(made))

    def saw_norm(self, layer: str, given: Tensor) -> None:
        if _is_readable(given):
            self.norms.setdefault(layer, Scale()).sizes.append(numbers.rms(given))

    def saw_target(self, flow: Dataflow, tensor: Tensor, call: OperationCall) -> None:
        """Remember how far the targets differ that an output is compared with."""
        targets = [each for each, known in zip(call.tensors, call.known, strict=True) if known is None]
        for target in targets[:1]:
            if target.numel() == tensor.numel() and _is_readable(target):
                for output in flow.outputs:
                    if output.tensor is tensor and output.wanted is None:
                        output.wanted = (target.amax() - target.amin()).float()

    def before(self, call: OperationCall) -> tuple[Tensor, Tensor] | None:
        """Read the input of an activation function that is judged by it: it may be overwritten."""
        where = flat(call.name, call.args, call.kwargs)
        if where is None or not where.of_input:
            return None
        given, flow = call.source
        if flow.unit is None or flow.unit >= given.ndim or not given.requires_grad or not _is_readable(given):
            return None
        return numbers.peaks(given, flow.unit), numbers.share_above(given, where.low)

    def activation(self, call: OperationCall, given: Tensor, flow: Dataflow, made: Tensor) -> Site | None:
        """Read an activation function or an attention; return its site, ``None`` if it is neither."""
        if not given.requires_grad or not _is_readable(made):
            return None
        if call.name in SOFTMAX and flow.is_score and call.args[1] in (-1, given.ndim - 1):
            return self._attention(call, given, flow, given.shape[0])
        if call.name.startswith("_scaled_dot_product"):
            return self._attention(call, some_scores(call.named), flow, given.shape[0])
        where = flat(call.name, call.args, call.kwargs)
        if where is None or flow.unit is None or made.ndim < 2 or flow.unit >= made.ndim:
            return None
        units = made.shape[flow.unit]
        site = self._site(call, where.kind, flow, units)
        site.is_exact, site.floor = where.is_exact, where.low
        rows = made.numel() // units
        samples = made.shape[0] if flow.unit else rows
        if where.kind == "ends":
            site.add(numbers.at_ends(made, flow.unit, where.low, where.high) * rows, samples, rows)
        elif call.before is not None:
            site.add(call.before[0], samples, rows, call.before[1])
        else:
            steep = made if where.high == math.inf else made.where(made < where.high, where.low)
            site.add(numbers.peaks(steep, flow.unit), samples, rows, numbers.share_above(steep, where.low))
        return site

    def _attention(self, call: OperationCall, scores: Tensor, flow: Dataflow, samples: int) -> Site:
        site = self._site(call, "rows", flow, 0)
        site.is_scaled = scales_itself(call)
        site.add(numbers.hard_rows(scores), samples, 0)
        return site

    def _site(self, call: OperationCall, kind: str, flow: Dataflow, units: int) -> Site:
        place = self.place(call)
        key = (place.module, flow.layer, call.op, flow.is_direct, units)
        return self.sites.setdefault(key, Site(call.op, kind, place, flow.layer, flow.trains, flow.is_direct))

    def reaches(self, loss: Tensor) -> None:
        """Read the outputs that ``loss`` is made of, and let them go."""
        waiting = {output.tensor.grad_fn: output for output in self.outputs if output.tensor is not None}
        waiting.pop(None, None)
        nodes, seen = [loss.grad_fn], {loss.grad_fn}
        while nodes and waiting and len(seen) < _NODES:
            node = nodes.pop()
            if node in waiting:
                self._read(waiting.pop(node))
            for following, _ in node.next_functions if node is not None else ():
                if following is not None and following not in seen:
                    seen.add(following)
                    nodes.append(following)

    def _read(self, output: Output) -> None:
        last = output.held[-1]
        if all(_is_readable(held) and held.ndim for held in output.held) and last.shape[0] > 1:
            output.numbers = torch.stack([numbers.variation(held) for held in output.held])
            output.rows = last.shape[0]
        output.release()

    def close(self) -> None:
        """Let go of all tensors of the step but the numbers read from them."""
        for output in self.outputs:
            output.release()


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided or not tensor.numel():
        return False
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return False  # what is asked now would become a part of the recorded graph
    return tensor.device.type != "meta" and not tensor.is_quantized


def _is_readable(tensor: Tensor) -> bool:
    return _is_plain(tensor) and tensor.is_floating_point() and tensor.dtype.itemsize > 1


_QUERIES = 8  # of each head
_SAMPLES = 4


def scales_itself(call: OperationCall) -> bool:
    """Tell whether torch divides the scores by itself, in ``nn.MultiheadAttention`` or the function it is made of."""
    if call.name.startswith("_scaled_dot_product"):
        scale, width = call.named.get("scale"), call.named["query"].shape[-1]
        return scale is None or math.isclose(scale, 1 / math.sqrt(width), rel_tol=1e-3)
    if call.name == "_safe_softmax":  # nothing else is written with it
        return True
    frame = call.frame
    while frame is not None and frame.f_code is not functional.multi_head_attention_forward.__code__:
        frame = frame.f_back
    return frame is not None


def some_scores(given: Mapping[str, Any]) -> Tensor:
    """Return the scores of a few queries, masked as the kernel masks them.

    Args:
        given: Arguments of the kernel by name; query (batch, heads, queries, width), key (batch, heads, keys, width).
    """
    query, key = given["query"].detach(), given["key"].detach()
    samples = slice(None, None, max(1, query.shape[0] // _SAMPLES))
    rows = torch.arange(0, query.shape[-2], max(1, query.shape[-2] // _QUERIES), device=query.device)
    scale = given.get("scale")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    chosen, keys = query[samples][..., rows, :].float(), key[samples].float()
    if keys.shape[1] != chosen.shape[1]:  # one key serves several heads
        keys = keys.repeat_interleave(chosen.shape[1] // keys.shape[1], dim=1)
    scores = chosen @ keys.transpose(-2, -1) * scale
    if given.get("is_causal"):
        later = torch.arange(keys.shape[-2], device=rows.device) > rows[:, None]
        scores = scores.masked_fill(later, -math.inf)
    mask = given.get("attn_mask", given.get("attn_bias"))
    return scores if mask is None else _masked(scores, mask.detach(), samples, rows)


def _masked(scores: Tensor, mask: Tensor, samples: slice, rows: Tensor) -> Tensor:
    if mask.ndim > 3 and mask.shape[0] > 1:
        mask = mask[samples]
    if mask.shape[-2] > 1:
        mask = mask[..., rows, :]
    return scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
