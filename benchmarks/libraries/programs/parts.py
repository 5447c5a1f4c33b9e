"""Parts of other libraries in plain modules: spiking, complex and graph networks, equations, flows, kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library(
    "lightning",
    (
        "lightning",
        "scikit-learn",
        "snntorch==1.0.0",
        "torchdiffeq==0.2.5",
        "zuko==1.6.0",
        "normflows==1.7.3",
        "gpytorch==1.15.2",
        "torch-geometric==2.8.0",
    ),
    ("lightning.pytorch", "sklearn.datasets"),
)


def _fit(
    module: Any,
    step: Callable[[Any, Any], Any],
    loaders: tuple[Any, Any],
    rate: float = 1e-3,
    epochs: int = 4,
    **options: Any,
) -> Any:
    """Train ``module`` by the loss ``step(module, batch)``."""
    import torch
    from lightning.pytorch import LightningModule, Trainer

    class Net(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.part = module

        def training_step(self, batch: Any, _: int) -> Any:
            return step(self.part, batch)

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", step(self.part, batch), batch_size=1)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], rate)

    torch.set_num_threads(1)
    net = Net()
    Trainer(max_epochs=epochs, **QUIET, **options).fit(net, *loaders)
    return net


def _loaders(*columns: Any, count: int = 297, batch: int = 64, kind: Any = None) -> tuple[Any, Any]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    data = TensorDataset(*columns)
    train, val = torch.utils.data.random_split(data, [len(data) - count, count])
    make = kind or DataLoader
    return make(train, batch_size=batch, shuffle=True), make(val, batch_size=batch)


def _digits(as_pictures: bool = False) -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    pixels = torch.tensor(x / 16, dtype=torch.float32)
    return (pixels.view(-1, 1, 8, 8) if as_pictures else pixels), torch.tensor(y)


def _class_loss(module: Any, batch: Any) -> Any:
    from torch.nn import functional as F

    return F.cross_entropy(module(batch[0]), batch[1])


def _square_loss(module: Any, batch: Any) -> Any:
    from torch.nn import functional as F

    return F.mse_loss(module(batch[0]), batch[1])


def _moons(count: int = 1200) -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import make_moons

    x, y = make_moons(count, noise=0.05, random_state=0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


# Spiking


def _spiking(make: Callable[[], Any], **loss: Any) -> Any:
    import torch
    from snntorch import functional as SF
    from snntorch import utils
    from torch import nn

    net = nn.Sequential(nn.Linear(64, 48), make(), nn.Linear(48, 10), make())
    net[3].output = True
    count = getattr(SF, loss.pop("kind", "ce_rate_loss"))(**loss)

    def step(net: Any, batch: Any) -> Any:
        utils.reset(net)
        spikes = torch.stack([net(batch[0])[0] for _ in range(8)])
        return count(spikes, batch[1])

    return _fit(net, step, _loaders(*_digits()), rate=5e-3)


@LIBRARY.training()
def spiking_leaky() -> Any:
    import snntorch

    return _spiking(lambda: snntorch.Leaky(beta=0.9, init_hidden=True))


@LIBRARY.training()
def spiking_learned_decay() -> Any:
    import snntorch
    from snntorch import surrogate

    grad = surrogate.atan()
    return _spiking(lambda: snntorch.Leaky(beta=0.8, learn_beta=True, init_hidden=True, spike_grad=grad))


@LIBRARY.training()
def spiking_synaptic() -> Any:
    import snntorch

    def make() -> Any:
        return snntorch.Synaptic(alpha=0.8, beta=0.9, init_hidden=True)

    return _spiking(make, kind="mse_count_loss", correct_rate=0.8, incorrect_rate=0.1)


# Complex weights


@LIBRARY.training()
def complex_linear() -> Any:
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(64, 32, dtype=torch.cfloat)
            self.second = nn.Linear(32, 10, dtype=torch.cfloat)

        def forward(self, x: Any) -> Any:
            hidden = self.first(torch.fft.fft(x, norm="ortho"))
            return self.second(torch.complex(hidden.real.relu(), hidden.imag.relu())).abs()

    return _fit(Net(), _class_loss, _loaders(*_digits()))


@LIBRARY.training()
def fourier_operator() -> Any:
    """Complex weights on the lowest modes, as in the Fourier neural operator (Li et al., 2021)."""
    import torch
    from torch import nn

    class Layer(nn.Module):
        def __init__(self, width: int, modes: int) -> None:
            super().__init__()
            self.modes, self.skip = modes, nn.Conv1d(width, width, 1)
            self.weight = nn.Parameter(torch.randn(width, width, modes, dtype=torch.cfloat) / width)

        def forward(self, x: Any) -> Any:
            found = torch.fft.rfft(x)
            kept = torch.einsum("bix,iox->box", found[..., : self.modes], self.weight)
            full = torch.zeros_like(found)
            full[..., : self.modes] = kept
            return nn.functional.gelu(torch.fft.irfft(full, n=x.shape[-1]) + self.skip(x))

    net = nn.Sequential(nn.Conv1d(1, 16, 1), Layer(16, 6), Layer(16, 6), nn.Conv1d(16, 1, 1))
    start = torch.randn(800, 1, 32).cumsum(-1)
    start = (start - start.mean(-1, keepdim=True)) / start.std(-1, keepdim=True)
    smooth = nn.functional.avg_pool1d(start, 5, 1, 2)
    return _fit(net, _square_loss, _loaders(start, smooth, count=160))


# Quantised


@LIBRARY.training()
def straight_through_signs() -> Any:
    """Weights of -1 and 1 whose gradient passes straight through (Courbariaux et al., 2016)."""
    from torch import nn
    from torch.nn.utils import parametrize

    class Sign(nn.Module):
        def forward(self, weight: Any) -> Any:
            size = weight.abs().mean().detach()
            return weight + (weight.sign() * size - weight).detach()

    net = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Hardtanh(), nn.Linear(64, 10))
    parametrize.register_parametrization(net[0], "weight", Sign())
    return _fit(net, _class_loss, _loaders(*_digits()))


# Differential equations


def _solved(kind: str, **options: Any) -> Any:
    import torch
    import torchdiffeq
    from torch import nn

    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2))

        def forward(self, t: Any, y: Any) -> Any:
            return self.net(y)

    times = torch.linspace(0, 1, 6)
    start = torch.randn(400, 2)
    turn = torch.stack([torch.stack([t.cos(), -t.sin(), t.sin(), t.cos()]).view(2, 2) for t in 2 * times])
    paths = torch.einsum("tij,nj->nti", turn, start)

    def step(flow: Any, batch: Any) -> Any:
        found = getattr(torchdiffeq, kind)(flow, batch[0], times, **options)
        return nn.functional.l1_loss(found.transpose(0, 1), batch[1])

    return _fit(Flow(), step, _loaders(start, paths, count=80, batch=32), rate=1e-2, epochs=6)


@LIBRARY.training()
def ode() -> Any:
    return _solved("odeint", method="rk4")


@LIBRARY.training()
def ode_adjoint() -> Any:
    return _solved("odeint_adjoint", method="dopri5", rtol=1e-3, atol=1e-4)


# Flows


def _density(flow: Any) -> Any:
    return _fit(flow, lambda flow, batch: -flow().log_prob(batch[0]).mean(), _loaders(*_moons()), epochs=6)


@LIBRARY.training()
def flow_spline() -> Any:
    import zuko

    return _density(zuko.flows.NSF(2, transforms=2, hidden_features=(32, 32)))


@LIBRARY.training()
def flow_masked() -> Any:
    import zuko

    return _density(zuko.flows.MAF(2, transforms=3, hidden_features=(32, 32)))


@LIBRARY.training()
def flow_gaussianisation() -> Any:
    import zuko

    return _density(zuko.flows.GF(2, transforms=2, hidden_features=(32,)))


@LIBRARY.training()
def flow_real_nvp() -> Any:
    import normflows as nf

    def layer() -> list[Any]:
        return [
            nf.flows.AffineCouplingBlock(nf.nets.MLP([1, 32, 32, 2], init_zeros=True)),
            nf.flows.Permute(2, mode="swap"),
        ]

    flow = nf.NormalizingFlow(nf.distributions.DiagGaussian(2), [part for _ in range(4) for part in layer()])
    return _fit(flow, lambda flow, batch: flow.forward_kld(batch[0]), _loaders(*_moons()), epochs=6)


# Gaussian processes


def _curve(count: int = 600) -> tuple[Any, Any]:
    import torch

    x = torch.rand(count, 1) * 4 - 2
    return x, torch.sin(3 * x[:, 0]) + 0.1 * torch.randn(count)


@LIBRARY.training()
def gp_variational() -> Any:
    import gpytorch
    import torch
    from torch import nn

    class Process(gpytorch.models.ApproximateGP):
        def __init__(self) -> None:
            points = torch.linspace(-2, 2, 20)[:, None]
            known = gpytorch.variational.CholeskyVariationalDistribution(20)
            super().__init__(gpytorch.variational.VariationalStrategy(self, points, known))
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.process, self.likelihood = Process(), gpytorch.likelihoods.GaussianLikelihood()
            self.bound = gpytorch.mlls.VariationalELBO(self.likelihood, self.process, num_data=480)

    def step(both: Any, batch: Any) -> Any:
        return -both.bound(both.process(batch[0]), batch[1])

    return _fit(Both(), step, _loaders(*_curve(), count=120), rate=1e-2, epochs=10)


@LIBRARY.training()
def gp_exact() -> Any:
    """All data is one batch."""
    import gpytorch
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y = _curve(80)
    likelihood = gpytorch.likelihoods.GaussianLikelihood()

    class Process(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            super().__init__(x, y, likelihood)
            self.mean_module = gpytorch.means.ConstantMean()
            self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    process = Process()
    bound = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, process)

    def step(process: Any, batch: Any) -> Any:
        return -bound(process(batch[0]), batch[1])

    loader = DataLoader(TensorDataset(x, y), batch_size=80)
    torch.manual_seed(0)
    return _fit(process, step, (loader, None), rate=5e-2, epochs=60)


# Graphs


def _communities(nodes: int = 240) -> Any:
    import torch
    from torch_geometric.data import Data

    y = torch.arange(nodes) % 3
    chance = torch.where(y[:, None] == y, 0.08, 0.01)
    edges = (torch.rand(nodes, nodes) < chance).triu(1)
    pairs = torch.cat([edges.nonzero().T, edges.nonzero().T.flip(0)], 1)
    x = torch.randn(nodes, 8) + torch.nn.functional.one_hot(y, 8)
    return Data(x=x, edge_index=pairs, y=y, train_mask=torch.rand(nodes) < 0.6)


@LIBRARY.training()
def graph_nodes() -> Any:
    """One graph is the whole dataset; the loss is of its training nodes."""
    from torch import nn
    from torch_geometric.loader import DataLoader
    from torch_geometric.nn import GCN

    graph = _communities()

    def step(net: Any, data: Any) -> Any:
        kept = data.train_mask if net.training else ~data.train_mask
        return nn.functional.cross_entropy(net(data.x, data.edge_index)[kept], data.y[kept])

    net = GCN(8, 16, num_layers=2, out_channels=3, dropout=0.2)
    return _fit(net, step, (DataLoader([graph]), DataLoader([graph])), rate=1e-2, epochs=60)
