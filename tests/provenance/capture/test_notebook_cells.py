"""The cells of a notebook become plain Python, with what IPython alone understands left out."""

from __future__ import annotations

import ast

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from lightning_debugkit.provenance.capture.notebook_cells import notebook_source, without_magics


def plain(cell: str) -> str:
    text = without_magics(cell, TransformerManager().transform_cell)
    ast.parse(text)
    return text


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("x = 1  # one\n", "x = 1  # one\n"),
        ("%matplotlib inline\nx = 1\n", "x = 1\n"),
        ("files = !ls\nx = 1\n", "x = 1\n"),
        ("!pip install y\nx = 1\n", "x = 1\n"),
        ("x?\n", ""),
        ("%%time\nx = 1\n", "x = 1\n"),
        ("%%capture out\n%time y = 2\nx = 1\n", "x = 1\n"),
        ("%%bash\nls\n", ""),
        ("%%html\n<b>\n", ""),
        ("x = = 1\n", ""),
        ("if True:\n    %time f()\n", "if True:\n    pass\n"),
    ],
)
def test_magics_go_and_code_stays(cell: str, code: str) -> None:
    assert ast.dump(ast.parse(stripped(plain(cell)))) == ast.dump(ast.parse(code))


def stripped(text: str) -> str:
    """``text`` without the ``pass`` that stands for a magic at top level."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("pass"))


def test_comments_and_lines_stay_where_they_are() -> None:
    assert plain("# a\n%time f(\nx = 1\n").splitlines()[-1] == "x = 1"


def test_without_a_notebook_there_are_no_cells() -> None:
    assert notebook_source() is None
