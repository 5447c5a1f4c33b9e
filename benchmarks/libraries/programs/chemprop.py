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


def _fit(
    values: Any = None,
    predictor: Any = None,
    epochs: int = 6,
    extra: Any = None,
    first_of_validation: int = 200,
    **options: Any,
) -> Any:
    from chemprop import data, models, nn
    from lightning.pytorch import Trainer

    smiles, known = _molecules()
    values = known if values is None else values
    extra = [None] * len(smiles) if extra is None else extra
    told = zip(smiles, values, extra, strict=True)
    points = [data.MoleculeDatapoint.from_smi(text, y, x_d=more) for text, y, more in told]
    train, val = data.MoleculeDataset(points[:200]), data.MoleculeDataset(points[first_of_validation:])
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


@LIBRARY.fault("nonfinite-input")
def one_descriptor_is_infinite() -> Any:
    import numpy as np
    from chemprop import nn

    extra = np.random.default_rng(1).normal(size=(240, 3))
    extra[77, 1] = float("inf")
    return _fit(predictor=nn.RegressionFFN(input_dim=35, hidden_dim=32), extra=extra)


@LIBRARY.fault("train-val-overlap")
def validation_from_training() -> Any:
    # Missed: batches are molecules joined into one graph, which have no rows to be compared.
    return _fit(first_of_validation=120)


@LIBRARY.fault("update-ratio-low")
def rate_of_nearly_nothing() -> Any:
    return _fit(init_lr=1e-12, max_lr=1e-12, final_lr=1e-12, epochs=12)
