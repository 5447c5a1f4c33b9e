"""A line of a notebook is named by its cell, also where it is run again in another process."""

from __future__ import annotations

import json
import linecache
from pathlib import Path

import pytest
import torch
from replay.steps import X

from lightning_debugkit.core import notebooks
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.notebooks import cell_name
from lightning_debugkit.core.rng import RandomState
from lightning_debugkit.replay import bundle
from lightning_debugkit.replay.source_lines import shown_place

interactive = pytest.importorskip("IPython.core.interactiveshell")


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> str:
    """The file of a cell that IPython's own compiler has named, the third that was run."""
    shell = interactive.InteractiveShell()
    monkeypatch.setattr("IPython.get_ipython", lambda: shell)
    monkeypatch.setattr(shell.compile, "get_code_name", lambda *_: "/tmp/ipykernel_7/123.py")
    return str(shell.compile.cache("y = 1\n", 3))


def test_a_cell_has_the_number_that_stands_beside_it(cell: str) -> None:
    assert shown_place(cell) == "notebook cell In[3]"
    assert shown_place("/tmp/ipykernel_7/999.py") == "notebook cell", "of another kernel"


def test_a_bundle_takes_the_numbers_along(cell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebooks, "_recalled", {})
    finding = Finding("nonfinite-loss", Severity.ERROR, "loss is inf", Where(0, 3))
    note = bundle.save(tmp_path / "step", torch.nn.Linear(4, 1), (X,), RandomState.capture(), finding, {})
    assert note == ""
    assert json.loads((tmp_path / "step" / "bundle.json").read_text())["cells"] == {cell: "notebook cell In[3]"}
    monkeypatch.setattr("IPython.get_ipython", lambda: None)
    linecache.cache.pop(cell)
    assert cell_name(cell) == "notebook cell"
    bundle.load(tmp_path / "step", trust_code=True)
    assert cell_name(cell) == "notebook cell In[3]"
