"""rl4co: routing by reinforcement learning."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("rl4co", ("rl4co==0.7.0",), ("rl4co.models", "rl4co.utils.trainer"))

_POLICY = {"embed_dim": 32, "num_encoder_layers": 2, "num_heads": 4, "feedforward_hidden": 64}
_DATA = {"batch_size": 64, "train_data_size": 1280, "val_data_size": 64, "test_data_size": 64}
_OPTIMIZER = {"optimizer_kwargs": {"lr": 1e-3}}
_UNUSED = "whole parts that this option leaves unused are built all the same"


def _env(kind: str = "TSPEnv", places: int = 10) -> Any:
    import rl4co.envs

    return getattr(rl4co.envs, kind)(generator_params={"num_loc": places})


def _fit(model: Any, epochs: int = 3, **options: Any) -> Any:
    from rl4co.utils.trainer import RL4COTrainer

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    RL4COTrainer(max_epochs=epochs, accelerator="cpu", precision="32-true", **quiet, **options).fit(model)
    return model


@LIBRARY.training(eval_mode_in_training="the rollout of the baseline leaves the actor in eval mode after epoch 0")
def attention_model_with_rollout() -> Any:
    from rl4co.models import AttentionModel

    return _fit(AttentionModel(_env(), baseline="rollout", policy_kwargs=_POLICY, **_DATA, **_OPTIMIZER))


@LIBRARY.training()
def attention_model_with_exponential_baseline() -> Any:
    from rl4co.models import AttentionModel

    return _fit(AttentionModel(_env(), baseline="exponential", policy_kwargs=_POLICY, **_DATA, **_OPTIMIZER))


@LIBRARY.training(no_gradient=_UNUSED)
def pomo() -> Any:
    from rl4co.models import POMO

    return _fit(POMO(_env(), policy_kwargs=_POLICY, **_DATA, **_OPTIMIZER))


@LIBRARY.training()
def sym_nco() -> Any:
    from rl4co.models import SymNCO

    data = _DATA | {"batch_size": 16, "train_data_size": 320}
    return _fit(SymNCO(_env(), policy_kwargs=_POLICY, num_augment=2, num_starts=0, **data, **_OPTIMIZER), epochs=2)


@LIBRARY.training()
def pointer_network() -> Any:
    from rl4co.models import PointerNetwork

    kwargs = {"embed_dim": 32, "hidden_dim": 32}
    return _fit(PointerNetwork(_env(), policy_kwargs=kwargs, baseline="exponential", **_DATA, **_OPTIMIZER), epochs=2)


@LIBRARY.training()
def capacitated_routes() -> Any:
    from rl4co.models import AttentionModel

    return _fit(
        AttentionModel(_env("CVRPEnv"), baseline="exponential", policy_kwargs=_POLICY, **_DATA, **_OPTIMIZER), epochs=2
    )


@LIBRARY.fault("update-ratio-high", "exploding-gradient", "diverging-loss")
def rate_of_three() -> Any:
    from rl4co.models import AttentionModel

    optimizer = {"optimizer_kwargs": {"lr": 3.0}}
    return _fit(AttentionModel(_env(), baseline="exponential", policy_kwargs=_POLICY, **_DATA, **optimizer), epochs=2)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    from rl4co.models import AttentionModel

    optimizer = {"optimizer_kwargs": {"lr": 1e-12}}
    return _fit(AttentionModel(_env(), baseline="exponential", policy_kwargs=_POLICY, **_DATA, **optimizer))
