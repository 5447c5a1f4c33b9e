"""PINA: physics-informed and supervised solvers."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("pina-mathlab", ("pina-mathlab==0.3.2",), ("pina", "pina.solver"))


def _train(solver: Any, epochs: int = 150, **options: Any) -> Any:
    from pina import Trainer

    Trainer(solver=solver, max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **options).train()
    return solver


def _poisson() -> Any:
    from pina.problem.zoo import Poisson2DSquareProblem

    problem = Poisson2DSquareProblem()
    problem.discretise_domain(100, "random", domains="D")
    problem.discretise_domain(40, "random", domains="boundary")
    return problem


def _field() -> tuple[Any, Any]:
    import torch

    x = torch.rand(200, 2)
    return x, torch.sin(3 * x[:, :1]) + x[:, 1:]


@LIBRARY.training()
def poisson_pinn() -> Any:
    from pina.model import FeedForward
    from pina.solver import PhysicsInformedSingleModelSolver

    return _train(PhysicsInformedSingleModelSolver(problem=_poisson(), model=FeedForward(2, 1)))


@LIBRARY.training()
def self_adaptive() -> Any:
    from pina.model import FeedForward
    from pina.solver import SelfAdaptivePhysicsInformedSolver

    return _train(SelfAdaptivePhysicsInformedSolver(problem=_poisson(), model=FeedForward(2, 1)))


@LIBRARY.training()
def gradient_enhanced() -> Any:
    from pina.model import FeedForward
    from pina.solver import GradientPhysicsInformedSingleModelSolver

    return _train(GradientPhysicsInformedSingleModelSolver(problem=_poisson(), model=FeedForward(2, 1)))


@LIBRARY.training()
def competitive() -> Any:
    from pina.model import FeedForward
    from pina.solver import CompetitivePhysicsInformedSolver

    return _train(CompetitivePhysicsInformedSolver(problem=_poisson(), model=FeedForward(2, 1)))


@LIBRARY.training()
def pirate_net() -> Any:
    from pina.model import PirateNet
    from pina.solver import PhysicsInformedSingleModelSolver

    model = PirateNet(input_dimension=2, inner_size=24, output_dimension=1, embedding=None, n_layers=2)
    return _train(PhysicsInformedSingleModelSolver(problem=_poisson(), model=model))


@LIBRARY.training()
def supervised() -> Any:
    from pina.model import FeedForward
    from pina.problem.zoo import SupervisedProblem
    from pina.solver import SupervisedSingleModelSolver

    solver = SupervisedSingleModelSolver(problem=SupervisedProblem(*_field()), model=FeedForward(2, 1), use_lt=False)
    return _train(solver, 40, batch_size=20, train_size=0.8, val_size=0.2)


@LIBRARY.training()
def supervised_ensemble() -> Any:
    from pina.model import FeedForward
    from pina.problem.zoo import SupervisedProblem
    from pina.solver import SupervisedEnsembleSolver

    models = [FeedForward(2, 1) for _ in range(3)]
    solver = SupervisedEnsembleSolver(problem=SupervisedProblem(*_field()), models=models, use_lt=False)
    return _train(solver, 40, batch_size=20, train_size=0.8, val_size=0.2)


@LIBRARY.fault("nonfinite-input")
def one_target_is_nan() -> Any:
    from pina.model import FeedForward
    from pina.problem.zoo import SupervisedProblem
    from pina.solver import SupervisedSingleModelSolver

    x, y = _field()
    y[17] = float("nan")
    solver = SupervisedSingleModelSolver(problem=SupervisedProblem(x, y), model=FeedForward(2, 1), use_lt=False)
    return _train(solver, 10, batch_size=20)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    import torch
    from pina.model import FeedForward
    from pina.optim import TorchOptimizer
    from pina.problem.zoo import SupervisedProblem
    from pina.solver import SupervisedSingleModelSolver

    solver = SupervisedSingleModelSolver(
        problem=SupervisedProblem(*_field()),
        model=FeedForward(2, 1),
        optimizer=TorchOptimizer(torch.optim.Adam, lr=5.0),
        use_lt=False,
    )
    return _train(solver, 40, batch_size=20)


def _supervised(x: Any, y: Any, epochs: int = 40) -> Any:
    from pina.model import FeedForward
    from pina.problem.zoo import SupervisedProblem
    from pina.solver import SupervisedSingleModelSolver

    solver = SupervisedSingleModelSolver(problem=SupervisedProblem(x, y), model=FeedForward(2, 1), use_lt=False)
    return _train(solver, epochs, batch_size=20)


@LIBRARY.fault("input-not-normalized")
def positions_of_ten_thousands() -> Any:
    x, y = _field()
    return _supervised(x * 1e5, y)


@LIBRARY.fault("input-not-normalized")
def values_of_millions() -> Any:
    x, y = _field()
    return _supervised(x, y * 1e6)
