"""A snapshot is the checkpoint as it was, whatever the training does next."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_debugkit.checkpointing.serialization import save_bytes, tensor_snapshot


def saved(checkpoint: Any) -> bytes:
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


def test_training_on_does_not_change_it(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    counts: dict[str, Any] = {"steps": [1, 2], "nested": {"a": (torch.zeros(2), {"b": 3})}}
    held = tensor_snapshot(
        {"state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()], "loops": counts}
    )
    before = saved(held)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    counts["steps"].append(3)
    counts["nested"]["a"][0].add_(1)
    counts["nested"]["a"][1]["b"] = 4
    assert saved(held) == before
    assert held["loops"] == {"steps": [1, 2], "nested": held["loops"]["nested"]}


def test_it_is_written_to_the_same_bytes_as_the_checkpoint_itself(tmp_path: Path) -> None:
    """Tied weights are written once, views with their strides, metadata of a state_dict too."""
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    big = torch.arange(24.0).view(4, 6)
    checkpoint = {
        "state_dict": net.state_dict(),
        "views": [big[1:, ::2], big.t(), big[0]],
        "kinds": [
            torch.ones(2, dtype=torch.bfloat16),
            torch.tensor(3),
            torch.tensor([]),
            torch.ones(2, dtype=torch.bool),
        ],
        "plain": (1, "a", None, {1: b"x"}, OrderedDict(b=1, a=2), {3, 4}),
    }
    save_bytes(checkpoint, tmp_path / "one")
    save_bytes(tensor_snapshot(checkpoint), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    loaded = torch.load(tmp_path / "two", weights_only=True)
    assert loaded["state_dict"]._metadata == net.state_dict()._metadata


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(3).to_sparse(),
        torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        nn.Parameter(torch.ones(2)),
        torch.ones(2, requires_grad=True) * 2,
        torch.view_as_complex(torch.ones(2, 2)).conj(),
        torch.empty(3, device="meta"),
    ],
    ids=["sparse", "quantized", "parameter", "with graph", "conjugate", "meta"],
)
def test_unusual_tensors_keep_their_values(tensor: torch.Tensor) -> None:
    again = tensor_snapshot([tensor])[0]
    assert (again.shape, again.dtype, again.layout) == (tensor.shape, tensor.dtype, tensor.layout)
    if tensor.device.type != "meta":
        dense = [t.dequantize() if t.is_quantized else t.to_dense() for t in (again.detach(), tensor.detach())]
        assert torch.equal(*dense)


@pytest.mark.filterwarnings("ignore")
def test_the_file_is_that_of_torch_to_the_byte(tmp_path: Path) -> None:
    """Of each kind that can be in a checkpoint: none is taken for something that holds no memory of a tensor."""
    net = nn.Sequential(nn.Embedding(5, 2, sparse=True), nn.Linear(2, 2))
    net(torch.tensor([1])).sum().backward()
    marked = torch.ones(2)
    marked.owner = "user"  # type: ignore[attr-defined]
    noted: OrderedDict[str, int] = OrderedDict()
    noted.owner = "user"  # type: ignore[attr-defined]
    hooked = torch.ones(2, requires_grad=True)
    hooked.register_hook(print)
    big = torch.arange(24.0).view(4, 6)
    checkpoint = {
        "views": [big[1:, ::2], big.t(), big[0], torch.ones(()), torch.empty(0, 3)],
        "kinds": [torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.bool, torch.complex64, torch.uint8)],
        "graph": [torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True) * 2, hooked],
        "unusual": [
            marked,
            noted,
            torch.ones(2, dtype=torch.complex64).conj(),
            torch.empty(3, device="meta"),
            torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            nn.Buffer(torch.ones(2)),
        ],
        "state_dict": net.state_dict(),
        "parameters": list(net.parameters()),
        "module": net,
        "storages": [torch.ones(3).untyped_storage(), torch.ones(3).storage()],
        "sparse": torch.eye(2).to_sparse(),
        "numpy": np.arange(3),
        "plain": (None, 1, 2.0, "a", b"b", True, {1}, len, saved, nn.Linear, OrderedDict(a=torch.ones(1))),
    }
    with (tmp_path / "torch").open("wb") as file:  # as of a path, torch would name the archive
        torch.save(checkpoint, file)
    save_bytes(checkpoint, tmp_path / "ours")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "torch").read_bytes()
