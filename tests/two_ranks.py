"""Two processes of one job, as torchrun starts them, forked from this one: so they begin in no time."""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, fsdp
from lightning.pytorch.strategies.strategy import Strategy
from torch import nn


class OnCpu(FSDPStrategy):
    """FSDP as it is, but for torch's refusal of CPUs when it is given no device, and Lightning's of this very class.

    Hybrid, it has two copies of the model, where torch would look for the GPUs of each machine.
    """

    def _setup_model(self, model: nn.Module) -> nn.Module:
        from torch.distributed import new_subgroups_by_enumeration
        from torch.distributed.fsdp import FullyShardedDataParallel, ShardingStrategy

        groups: dict[str, Any] = {}
        if self.sharding_strategy == ShardingStrategy.HYBRID_SHARD:
            shards, copies = ([[0, 1], [2, 3]], [[0, 2], [1, 3]])
            groups["process_group"] = tuple(new_subgroups_by_enumeration(each)[0] for each in (shards, copies))
        return FullyShardedDataParallel(
            model, sharding_strategy=self.sharding_strategy, device_id=torch.device("cpu"), **self.kwargs, **groups
        )


def _whole_weights(module: nn.Module, world_size: int, rank0_only: bool = True) -> Any:
    """As Lightning asks for them, but with torch's defaults, by which they can be had where there is no GPU."""
    from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType
    from torch.distributed.fsdp.api import FullOptimStateDictConfig

    weights, states = FullStateDictConfig(rank0_only=rank0_only), FullOptimStateDictConfig(rank0_only=rank0_only)
    return FullyShardedDataParallel.state_dict_type(module, StateDictType.FULL_STATE_DICT, weights, states)


def _copied_states() -> None:
    """Let each state of an optimizer have memory of its own, as where torch copies it from a GPU.

    torch gathers all states of a parameter into one buffer, and on CPUs leaves them there: only the last is saved.
    """
    from torch.distributed.fsdp import _optim_utils

    torchs: Any = _optim_utils
    unflatten = torchs._unflatten_orig_param_states
    if hasattr(unflatten, "__wrapped__"):
        return

    @functools.wraps(unflatten)
    def copied(info: Any, states: dict[str, dict[str, Any]], name: str, *args: Any) -> None:
        unflatten(info, states, name, *args)
        for each in states.values():
            if name in each:
                each[name] = each[name].clone()

    torchs._unflatten_orig_param_states = copied


# Data and tensor parallel; "hybrid" and "fsdp-hybrid" have two copies of the model, each cut in two.
SIZES = {
    "fsdp2": (2, 1), "tensor": (1, 2), "one": (1, 1), "four": (4, 1), "both": (2, 2), "hybrid": (4, 1),
    "fsdp-hybrid": (4, 1),
}  # fmt: skip


def strategy(kind: str) -> Strategy:
    """Return a strategy that saves a sharded checkpoint, or with "full" one file; call it in a process of the job."""
    wait = timedelta(seconds=30)
    is_full = kind.endswith(" full")
    if kind.startswith("fsdp "):
        fsdp._get_full_state_dict_context = _whole_weights
        _copied_states()
    if kind in ("fsdp", "fsdp full", "fsdp-hybrid"):
        policy: Any = {nn.Linear}
        form: Any = "full" if is_full else "sharded"
        return OnCpu(
            timeout=wait, process_group_backend="gloo", state_dict_type=form, auto_wrap_policy=policy,
            sharding_strategy="HYBRID_SHARD" if kind == "fsdp-hybrid" else "FULL_SHARD",
        )  # fmt: skip
    return ModelParallelStrategy(*SIZES[kind.split()[0]], save_distributed_checkpoint=not is_full, timeout=wait)


def count_of(kind: str) -> int:
    """Return how many processes such a job has."""
    data, tensor = SIZES.get(kind.split()[0], (2, 1))
    return data * tensor


def on_two_ranks(work: Callable[..., Any], *arguments: Any, seconds: float = 100.0, count: int = 2) -> list[Any]:
    """Return what ``work(rank, *arguments)`` returns on each of two ranks, or of so many; no process is left behind."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=_rank, args=(rank, count, port, work, arguments, answers)) for rank in range(count)]
    found: dict[int, Any] = {}
    try:
        for process in ranks:
            process.start()
        end = monotonic() + seconds
        while len(found) < count and monotonic() < end and (not found or any(process.is_alive() for process in ranks)):
            try:
                rank, answer = answers.get(timeout=0.5)
                found[rank] = answer
            except queue.Empty:
                if not any(process.is_alive() for process in ranks):
                    break
    finally:
        for process in ranks:
            process.kill()
            process.join()
    if sorted(found) != list(range(count)) or any(isinstance(answer, str) for answer in found.values()):
        raise AssertionError(f"a rank did not come to its end: {found}")
    return [found[rank] for rank in range(count)]


def _rank(rank: int, count: int, port: int, work: Callable[..., Any], arguments: tuple[Any, ...], answers: Any) -> None:
    as_rank(rank, count, port)
    try:
        answers.put((rank, work(rank, *arguments)))
    except BaseException:
        answers.put((rank, traceback.format_exc()))
    answers.close()
    answers.join_thread()
    os._exit(0)


def as_rank(rank: int, count: int, port: int) -> None:
    """Let this process be one of a job, as torchrun tells it."""
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in {**told, **where}.items()})
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"
