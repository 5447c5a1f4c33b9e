#!/usr/bin/env bash
# torch 2.13.0 (Python 3.11): optimizer states of FullyShardedDataParallel under HYBRID_SHARD come back wrong, without a
# word, from a sharded checkpoint that is loaded as `load_sharded_optimizer_state_dict` itself shows in its docstring.
# It deals each state out over all ranks of the job (torch/distributed/checkpoint/optimizer.py, the branch `dp_pg is None`),
# but a copy of the model lies in the ranks of one shard group: `optim_state_dict_to_load` then takes the pieces of the wrong
# ranks. What was saved is right: read into `FSDP.optim_state_dict` of the new optimizer, it is the same to the bit.
# lightning 2.6.6 resumes so (`FSDPStrategy.load_checkpoint`, strategies/fsdp.py): training goes on with moments of other
# weights and zeros, which differ from copy to copy, and the copies of the model drift apart.
# Seen: on four ranks (two copies, each cut in two) states differ from those that were saved on every rank, with a
# `device_mesh` and with a pair of process groups; the weights are right; FULL_SHARD on the same four ranks is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
cat > "$folder/program.py" <<'PROGRAM'
import os
import socket
import tempfile
import warnings

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import ShardingStrategy, StateDictType

warnings.simplefilter("ignore")


def made(options):
    torch.manual_seed(0)
    model = FSDP(torch.nn.Linear(8, 8), device_id=torch.device("cpu"), use_orig_params=True, **options)
    return model, torch.optim.Adam(model.parameters(), lr=0.1)


def states(model, optimizer):
    held = [optimizer.state.get(parameter, {}) for parameter in model.parameters()]
    return [value.clone() for state in held for _, value in sorted(state.items())]


def same(one, other):
    return all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def work(rank, port, folder, form, answers):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="4")
    dist.init_process_group("gloo")
    options = {"sharding_strategy": ShardingStrategy.HYBRID_SHARD}
    if form == "full":
        options = {"sharding_strategy": ShardingStrategy.FULL_SHARD}
    elif form == "mesh":
        options["device_mesh"] = init_device_mesh("cpu", (2, 2))
    else:
        shards, _ = dist.new_subgroups_by_enumeration([[0, 1], [2, 3]])
        copies, _ = dist.new_subgroups_by_enumeration([[0, 2], [1, 3]])
        options["process_group"] = (shards, copies)
    model, optimizer = made(options)
    for step in range(3):
        torch.manual_seed(step)
        model(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with FSDP.state_dict_type(model, StateDictType.SHARDED_STATE_DICT):
        state = {"model": model.state_dict(), "optimizer": FSDP.optim_state_dict(model, optimizer)}
        dcp.save(state, checkpoint_id=folder)

    new, resumed = made(options)
    with FSDP.state_dict_type(new, StateDictType.SHARDED_STATE_DICT):
        weights = {"model": new.state_dict()}
        dcp.load(weights, checkpoint_id=folder)
        new.load_state_dict(weights["model"])
        loaded = load_sharded_optimizer_state_dict(weights["model"], "optimizer", dcp.FileSystemReader(folder))
        resumed.load_state_dict(FSDP.optim_state_dict_to_load(new, resumed, loaded["optimizer"]))
    found = [same(model.parameters(), new.parameters()), same(states(model, optimizer), states(new, resumed))]

    with FSDP.state_dict_type(new, StateDictType.SHARDED_STATE_DICT):
        again = {"optimizer": FSDP.optim_state_dict(new, resumed)}
        dcp.load(again, checkpoint_id=folder)
        resumed.load_state_dict(FSDP.optim_state_dict_to_load(new, resumed, again["optimizer"]))
    found.append(same(states(model, optimizer), states(new, resumed)))
    answers.put((rank, *found))
    dist.destroy_process_group()


def tried(form):
    context = mp.get_context("spawn")
    answers = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (port, folder, form, answers), nprocs=4)
    found = sorted(answers.get() for _ in range(4))
    print(f"{form}: weights, states, states by the other way are those that were saved, on each rank:")
    for rank, *told in found:
        print(f"    rank {rank}: {told}")
    return [told for _, *told in found]


if __name__ == "__main__":
    assert tried("full") == [[True, True, True]] * 4, "FULL_SHARD comes back otherwise"
    for form in ("mesh", "groups"):
        assert tried(form) == [[True, False, True]] * 4, "HYBRID_SHARD comes back otherwise"
PROGRAM
cd "$folder"
OMP_NUM_THREADS=1 timeout 300 "$folder/venv/bin/python" program.py 2>/dev/null
