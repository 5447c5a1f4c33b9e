"""scvi-tools: variational models of counts of genes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.libraries.library import Library

LIBRARY = Library("scvi-tools", ("scvi-tools==1.4.2",), ("scvi.model",))

_UNUSED = "parts for other options of the model are built always, and are not called"


def _cells(cells: int = 600, genes: int = 40) -> Any:
    """Counts of three kinds of cells in two batches."""
    import anndata
    import numpy as np
    import pandas as pd
    import scvi

    scvi.settings.logging_dir = str(Path.cwd())  # chosen at import otherwise
    scvi.settings.seed = 0  # without, training and validation cells are drawn anew in each run

    make = np.random.default_rng(0)
    kind, batch = make.integers(3, size=cells), make.integers(2, size=cells)
    means = make.gamma(2.0, 2.0, size=(3, genes)) * make.gamma(20.0, 0.05, size=(2, 1, genes))
    depth = make.gamma(10.0, 0.1, size=(cells, 1))
    table = anndata.AnnData(make.poisson(means[batch, kind] * depth).astype(np.float32))
    table.obs["kind"] = pd.Categorical([f"kind {i}" for i in kind])
    table.obs["batch"] = pd.Categorical([f"batch {i}" for i in batch])
    table.obsm["proteins"] = make.poisson(5 + 10 * np.eye(3)[kind] @ make.random((3, 6)), size=(cells, 6)).astype(float)
    return table


def _train(model: Any, epochs: int = 12, **options: Any) -> Any:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    model.train(max_epochs=epochs, batch_size=64, **quiet, **options)
    return model.module


@LIBRARY.training(no_gradient=_UNUSED)
def scvi() -> Any:
    from scvi.model import SCVI

    cells = _cells()
    SCVI.setup_anndata(cells, batch_key="batch")
    return _train(SCVI(cells, n_hidden=32))


@LIBRARY.training(no_gradient=_UNUSED)
def scvi_with_validation_and_early_stopping() -> Any:
    from scvi.model import SCVI

    cells = _cells()
    SCVI.setup_anndata(cells, batch_key="batch")
    return _train(SCVI(cells, n_hidden=32, gene_likelihood="nb"), train_size=0.8, early_stopping=True)


@LIBRARY.training(no_gradient=_UNUSED)
def scanvi() -> Any:
    from scvi.model import SCANVI

    cells = _cells()
    SCANVI.setup_anndata(cells, labels_key="kind", unlabeled_category="unknown", batch_key="batch")
    return _train(SCANVI(cells, n_hidden=32))


@LIBRARY.training(no_gradient=_UNUSED)
def total_vi() -> Any:
    from scvi.model import TOTALVI

    cells = _cells()
    TOTALVI.setup_anndata(cells, protein_expression_obsm_key="proteins", batch_key="batch")
    return _train(TOTALVI(cells))


@LIBRARY.training(no_gradient=_UNUSED)
def linear_scvi() -> Any:
    from scvi.model import LinearSCVI

    cells = _cells()
    LinearSCVI.setup_anndata(cells)
    return _train(LinearSCVI(cells, n_hidden=32))


@LIBRARY.training(no_gradient=_UNUSED)
def peak_vi() -> Any:
    from scvi.model import PEAKVI

    cells = _cells()
    cells.X = (cells.X > 2).astype("float32")
    PEAKVI.setup_anndata(cells, batch_key="batch")
    return _train(PEAKVI(cells, n_hidden=32))


@LIBRARY.fault("eval-mode-in-training")
def trained_twice() -> Any:
    from scvi.model import SCVI

    cells = _cells()
    SCVI.setup_anndata(cells, batch_key="batch")
    model = SCVI(cells, n_hidden=32)
    _train(model)
    return _train(model)


@LIBRARY.fault("nonfinite-input")
def one_count_is_nan() -> Any:
    from scvi.model import SCVI

    cells = _cells()
    cells.X[123, 4] = float("nan")
    SCVI.setup_anndata(cells, batch_key="batch")
    return _train(SCVI(cells, n_hidden=32))


@LIBRARY.fault("labels-unrelated-to-inputs", "no-better-than-trivial")
def shuffled_kinds() -> Any:
    # Missed: the loss is a bound on a likelihood; what labels add to it is not known.
    from scvi.model import SCANVI

    cells = _cells()
    cells.obs["kind"] = cells.obs["kind"].sample(frac=1.0, random_state=1).to_numpy()
    SCANVI.setup_anndata(cells, labels_key="kind", unlabeled_category="unknown", batch_key="batch")
    return _train(SCANVI(cells, n_hidden=32))


@LIBRARY.fault("diverging-loss", "update-ratio-high", "exploding-gradient")
def rate_of_five() -> Any:
    from scvi.model import SCVI

    cells = _cells()
    SCVI.setup_anndata(cells, batch_key="batch")
    return _train(SCVI(cells, n_hidden=32), plan_kwargs={"lr": 5.0})
