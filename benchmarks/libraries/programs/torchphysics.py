"""TorchPhysics: conditions of differential equations, and data, that a Solver trains by."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("torchphysics", ("torchphysics==1.1.2", "pytorch-lightning==2.6.6"), ("torchphysics",))


def _solve(*conditions: Any, rate: float = 1e-3, steps: int = 300, scheduler: Any = None) -> Any:
    import pytorch_lightning as pl
    import torch
    import torchphysics as tp

    schedule = {} if scheduler is None else {"scheduler_class": scheduler[0], "scheduler_args": scheduler[1]}
    setting = tp.OptimizerSetting(torch.optim.Adam, lr=rate, **schedule)
    solver = tp.solver.Solver(train_conditions=conditions, optimizer_setting=setting)
    pl.Trainer(max_steps=steps, benchmark=True, **QUIET).fit(solver)
    return solver


def _square() -> tuple[Any, Any, Any]:
    import torchphysics as tp

    plane, value = tp.spaces.R2("x"), tp.spaces.R1("u")
    return plane, value, tp.domains.Parallelogram(plane, [0, 0], [1, 0], [0, 1])


def _poisson(size: float = 1.0, **options: Any) -> Any:
    import torch
    import torchphysics as tp

    plane, value, square = _square()
    model = tp.models.FCN(input_space=plane, output_space=value, hidden=(20, 20))
    inner = tp.samplers.RandomUniformSampler(square, n_points=200)
    border = tp.samplers.GridSampler(square.boundary, n_points=80)

    def equation(u: Any, x: Any) -> Any:
        wanted = torch.sin(3.14159 * x[:, :1]) * torch.sin(3.14159 * x[:, 1:])
        return tp.utils.laplacian(u, x) + 2 * 3.14159**2 * size * wanted

    within = tp.conditions.PINNCondition(model, inner, equation, weight=0.05)
    at_border = tp.conditions.PINNCondition(model, border, lambda u: u)
    return _solve(within, at_border, **options)


@LIBRARY.training()
def poisson() -> Any:
    return _poisson()


@LIBRARY.training()
def poisson_with_the_deep_ritz_method() -> Any:
    import torchphysics as tp

    plane, value, square = _square()
    model = tp.models.FCN(input_space=plane, output_space=value, hidden=(20, 20))
    inner = tp.samplers.RandomUniformSampler(square, n_points=200)
    border = tp.samplers.RandomUniformSampler(square.boundary, n_points=80)

    def energy(u: Any, x: Any) -> Any:
        return 0.5 * (tp.utils.grad(u, x) ** 2).sum(1, keepdim=True) - u

    within = tp.conditions.DeepRitzCondition(model, inner, energy)
    return _solve(within, tp.conditions.PINNCondition(model, border, lambda u: u, weight=50))


@LIBRARY.training()
def oscillation_with_an_unknown_parameter() -> Any:
    """Finds the frequency of a spring from points of its path."""
    import torch
    import torchphysics as tp

    time, value, unknown = tp.spaces.R1("t"), tp.spaces.R1("u"), tp.spaces.R1("w")
    span = tp.domains.Interval(time, 0, 3)
    model = tp.models.FCN(input_space=time, output_space=value, hidden=(20, 20))
    frequency = tp.models.Parameter(init=1.0, space=unknown)
    seen = torch.linspace(0, 3, 60)[:, None]
    data = tp.spaces.Points(seen, time), tp.spaces.Points(torch.cos(2 * seen), value)
    loader = tp.utils.PointsDataLoader(data, batch_size=60)
    fit = tp.conditions.DataCondition(model, loader, norm=2)
    law = tp.conditions.PINNCondition(
        model,
        tp.samplers.GridSampler(span, n_points=80),
        lambda u, t, w: tp.utils.laplacian(u, t) + w**2 * u,
        parameter=frequency,
        weight=0.1,
    )
    return _solve(fit, law, rate=5e-3)


def _surface(change: Any = None) -> Any:
    import torch
    import torchphysics as tp

    plane, value, _ = _square()
    model = tp.models.Sequential(
        tp.models.FCN(input_space=plane, output_space=value, hidden=(32, 32)),
    )
    x = torch.rand(400, 2)
    u = torch.sin(3 * x[:, :1]) + x[:, 1:]
    x, u = change(x, u) if change is not None else (x, u)
    data = tp.spaces.Points(x, plane), tp.spaces.Points(u, value)
    loader = tp.utils.PointsDataLoader(data, batch_size=50, shuffle=True)
    return _solve(tp.conditions.DataCondition(model, loader, norm=2))


@LIBRARY.training()
def surface_from_data() -> Any:
    return _surface()


@LIBRARY.fault("nonfinite-input")
def one_value_is_nan() -> Any:
    # Missed: the step draws its data itself, from an iterator that no replay can wind back.
    def change(x: Any, u: Any) -> tuple[Any, Any]:
        u[123] = float("nan")
        return x, u

    return _surface(change)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    return _poisson(rate=5.0)


@LIBRARY.fault("learning-rate-schedule")
def rate_gone_after_some_steps() -> Any:
    import torch

    return _poisson(scheduler=(torch.optim.lr_scheduler.ExponentialLR, {"gamma": 1e-3}), steps=300)
