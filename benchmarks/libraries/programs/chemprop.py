"""chemprop: message passing over molecules."""

from __future__ import annotations

from typing import Any

from benchmarks.libraries.library import QUIET, Library

LIBRARY = Library("chemprop", ("chemprop==2.3.1",), ("chemprop", "lightning.pytorch"))


def _molecules() -> tuple[list[str], Any]:
    """Chains and rings with the share of their atoms that are no carbon, a property that a model can read off."""
    import numpy as np

    make = np.random.default_rng(0)
    parts = ["C", "CC", "CO", "CN", "C(C)", "C(=O)", "C(F)", "C(Cl)", "c1ccccc1", "CCO"]
    smiles = ["".join(make.choice(parts, size=make.integers(2, 6))) for _ in range(240)]
    values = [sum(letter in "ONF" for letter in text) / len(text) for text in smiles]
    return smiles, (np.array(values)[:, None] - np.mean(values)) / np.std(values)


def _fit(values: Any = None, predictor: Any = None, epochs: int = 6, **options: Any) -> Any:
    from chemprop import data, models, nn
    from lightning.pytorch import Trainer

    smiles, told = _molecules()
    values = told if values is None else values
    points = [data.MoleculeDatapoint.from_smi(text, y) for text, y in zip(smiles, values, strict=True)]
    train, val = data.MoleculeDataset(points[:200]), data.MoleculeDataset(points[200:])
    model = models.MPNN(
        options.pop("message_passing", None) or nn.BondMessagePassing(d_h=32),
        nn.MeanAggregation(),
        predictor or nn.RegressionFFN(input_dim=32, hidden_dim=32),
        batch_norm=True,
        **options,
    )
    trainer = Trainer(
        max_epochs=epochs,
        **QUIET,
    )
    build = data.build_dataloader
    trainer.fit(model, build(train, batch_size=20), build(val, batch_size=20, shuffle=False))
    return model


@LIBRARY.training()
def regression() -> Any:
    return _fit()


@LIBRARY.training()
def atom_messages() -> Any:
    from chemprop import nn

    return _fit(message_passing=nn.AtomMessagePassing(d_h=32))


@LIBRARY.training()
def classification() -> Any:
    from chemprop import nn

    values = (_molecules()[1] > 0).astype(float)
    return _fit(values, nn.BinaryClassificationFFN(input_dim=32, hidden_dim=32))


@LIBRARY.training()
def mean_and_variance() -> Any:
    from chemprop import nn

    return _fit(predictor=nn.MveFFN(input_dim=32, hidden_dim=32))


@LIBRARY.fault("input-not-normalized")
def unscaled_targets() -> Any:
    return _fit(_molecules()[1] * 1e5 + 1e6)


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    return _fit(init_lr=5.0, max_lr=5.0, final_lr=5.0)


@LIBRARY.fault("label-out-of-range", "output-range", "negative-loss")
def labels_of_one_and_two() -> Any:
    from chemprop import nn

    values = (_molecules()[1] > 0).astype(float) + 1
    return _fit(values, nn.BinaryClassificationFFN(input_dim=32, hidden_dim=32))
