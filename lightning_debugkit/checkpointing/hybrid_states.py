"""States of optimizers under hybrid sharding of FSDP, read from a folder of shards.

Lightning reads them by ``load_sharded_optimizer_state_dict`` of ``torch.distributed.checkpoint.optimizer``, which deals
each state out over all ranks. Under hybrid sharding fewer of them hold the whole model: they get moments of other
weights, or zeros, and the copies of the model drift apart (torch 2.13.0, Lightning 2.6.6;
``findings/torch-hybrid-sharding-loads-wrong-moments.sh``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning_debugkit.core.compat import FSDPStrategy, Trainer, TrainerFn


def is_hybrid(trainer: Trainer) -> bool:
    """Tell whether several groups of ranks hold a copy of the model each, in shards."""
    strategy = trainer.strategy
    if not isinstance(strategy, FSDPStrategy):
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel  # late: it takes a while

    parts = FullyShardedDataParallel.fsdp_modules(strategy.model) if strategy.model is not None else []
    return any("HYBRID" in part.sharding_strategy.name for part in parts)  # one of the two is private


def is_in_shards(path: Any) -> bool:
    """Tell whether a checkpoint is a folder of shards: of one file, however it is to be saved, the states are right."""
    return path is not None and (Path(path) / ".metadata").is_file()


def read_states_again(trainer: Trainer, path: Any) -> None:
    """Give the optimizers their states as they were saved, where Lightning has not; every rank must call this.

    Lightning has loaded the checkpoint before: each state has the right shape, and its place in an optimizer.

    Args:
        trainer: The Trainer.
        path: The checkpoint, of which the first rank's is read.
    """
    if trainer.state.fn != TrainerFn.FITTING or not is_hybrid(trainer):
        return
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import load
    from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType
    from torch.distributed.fsdp.api import ShardedOptimStateDictConfig, ShardedStateDictConfig

    folder = Path(trainer.strategy.broadcast(path))
    if not is_in_shards(folder):
        return
    model: Any = trainer.strategy.model
    in_host_memory = ShardedStateDictConfig(offload_to_cpu=True), ShardedOptimStateDictConfig(offload_to_cpu=True)
    with FullyShardedDataParallel.state_dict_type(model, StateDictType.SHARDED_STATE_DICT, *in_host_memory):
        for index, optimizer in enumerate(trainer.strategy.optimizers):
            saved = {f"optimizer_{index}": FullyShardedDataParallel.optim_state_dict(model, optimizer)}
            # Flattened, a state of which this rank holds no row is missing, and torch asks for keys of before 2.4.
            load(saved, checkpoint_id=folder, planner=DefaultLoadPlanner(flatten_sharded_tensors=False))
            (states,) = saved.values()
            flat = FullyShardedDataParallel.optim_state_dict_to_load(model, optimizer, states)
            optimizer.load_state_dict(flat)
