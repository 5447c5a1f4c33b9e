"""Attention whose probabilities never exist: a fused kernel is asked for some of its rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lightning_debugkit.monitors.activations.operation_call import OperationCall

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
