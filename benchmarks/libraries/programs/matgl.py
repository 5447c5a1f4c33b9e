"""matgl: networks of graphs of crystals, on crystals of two elements that are made here."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("matgl", ("matgl==4.1.2",), ("matgl.models", "matgl.utils.training", "matgl.graph.data"))


def _crystals(count: int = 160) -> tuple[list[Any], Any]:
    """Cubes of two atoms, and a property that is read off their size and elements."""
    import numpy as np
    from pymatgen.core import Lattice, Structure

    make = np.random.default_rng(0)
    sizes, kinds = make.uniform(3.5, 4.5, size=count), make.integers(3, size=count)
    structures = [
        Structure(Lattice.cubic(size), [("Na", "K", "Li")[kind], "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
        for size, kind in zip(sizes, kinds, strict=True)
    ]
    values = 2 * (sizes - 4) + kinds - 1
    return structures, (values - values.mean()) / values.std()


def _fit(model: Any = None, values: Any = None, epochs: int = 4, **options: Any) -> Any:
    import torch
    from lightning.pytorch import Trainer
    from matgl.ext.pymatgen import Structure2Graph, get_element_list
    from matgl.graph.data import MGLDataLoader, MGLDataset, split_dataset
    from matgl.utils.training import ModelLightningModule

    torch.set_num_threads(1)
    structures, known = _crystals()
    elements = get_element_list(structures)
    data = MGLDataset(
        structures=structures,
        converter=Structure2Graph(element_types=elements, cutoff=4.0),
        labels={"energy": list(known if values is None else values)},
        save_cache=False,
    )
    train, val, _ = split_dataset(data, frac_list=[0.8, 0.2, 0.0], shuffle=True, random_state=0)
    loaders = MGLDataLoader(train_data=train, val_data=val, batch_size=16, num_workers=0)
    module = ModelLightningModule(model=(model or _megnet)(elements), **{"lr": 3e-3, "decay_steps": epochs, **options})
    Trainer(max_epochs=epochs, inference_mode=False, **QUIET).fit(module, *loaders[:2])
    return module


def _megnet(elements: Any) -> Any:
    from matgl.models import MEGNet

    sizes = {"hidden_layer_sizes_input": (32, 16), "hidden_layer_sizes_conv": (32, 32, 16)}
    return MEGNet(element_types=elements, dim_edge_embedding=20, nblocks=1, include_state=True, **sizes)


@LIBRARY.training()
def megnet() -> Any:
    return _fit()


@LIBRARY.training(learning_rate_schedule="the default of decay_steps, 1000, counts epochs: the cosine does not fall")
def megnet_with_the_schedule_of_its_tutorial() -> Any:
    return _fit(decay_steps=1000)


@LIBRARY.training()
def m3gnet() -> Any:
    from matgl.models import M3GNet

    return _fit(lambda elements: M3GNet(element_types=elements, nblocks=1, units=16, dim_node_embedding=16))


@LIBRARY.training()
def tensor_net() -> Any:
    from matgl.models import TensorNet

    return _fit(lambda elements: TensorNet(element_types=elements, units=16, nblocks=1, is_intensive=True))


@LIBRARY.fault("input-not-normalized")
def energies_of_millions() -> Any:
    return _fit(values=_crystals()[1] * 1e5 + 1e6)


@LIBRARY.fault("nonfinite-input")
def one_energy_is_nan() -> Any:
    values = _crystals()[1].copy()
    values[7] = float("nan")
    return _fit(values=values)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_ten() -> Any:
    return _fit(lr=10.0)


@LIBRARY.fault("learning-rate-schedule")
def rate_gone_after_two_epochs() -> Any:
    return _fit(epochs=12, decay_steps=2, decay_alpha=1e-8)
