"""A difference is told as what it can do: nothing, nothing but words, or something."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from lightning_debugkit.provenance.diff.comparison import CodeComparison, same_program, verdicts

NET = b'''"""A net."""
import torch  # the library

class Net(torch.nn.Module):
    """One layer."""

    def forward(self, x):
        return x
'''


def compared(
    then: dict[str, bytes], now: dict[str, bytes], model: tuple[str, ...] = ("net.py",), **options: Any
) -> CodeComparison:
    files = [
        {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "kind": "main" if path == "train.py" else "module"}
        for path, data in then.items()
    ]
    return verdicts(files, options.pop("contents", then), now.get, model, **options)


def of(comparison: CodeComparison) -> dict[str, str]:
    return {file.path: file.verdict for file in comparison.files}


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (NET, "identical"),
        (NET.replace(b"# the library", b"# a library"), "cosmetic"),
        (NET.replace(b"\n", b"\r\n"), "cosmetic"),
        (NET.replace(b'    """One layer."""\n\n', b""), "cosmetic"),
        (NET.replace(b"return x", b"return (x)"), "cosmetic"),
        (NET.replace(b"return x", b"return -x"), "changed"),
        (NET.replace(b"(self, x)", b"(self, x=1)"), "changed"),
        (NET.replace(b"return x", b"return x x"), "changed"),
        (b"\0" * 9, "changed"),
        (b"x = " + b"(" * 5000 + b")" * 5000, "changed"),
    ],
)
def test_a_file_of_the_model(now: bytes, verdict: str) -> None:
    found = compared({"net.py": NET}, {"net.py": now})
    assert (found.model, found.others, of(found)) == (verdict, "identical", {"net.py": verdict})
    assert found.model_changes == (["net.py"] if verdict == "changed" else [])


def test_files_of_the_model_and_others_are_judged_apart() -> None:
    found = compared({"net.py": NET, "fit.py": b"a = 1", "gone.py": b""}, {"net.py": NET, "fit.py": b"a = 2"})
    assert (found.model, found.others) == ("identical", "changed")
    assert of(found) == {"net.py": "identical", "fit.py": "changed", "gone.py": "missing"}


def test_a_file_of_the_model_that_is_gone_is_a_change() -> None:
    found = compared({"net.py": NET}, {}, new=["net2.py"])
    assert (found.model, found.others) == ("changed", "changed")
    assert of(found) == {"net.py": "missing", "net2.py": "new"}


def test_without_the_bytes_of_then_a_difference_is_a_change() -> None:
    assert compared({"net.py": NET}, {"net.py": NET + b"# more"}, contents={}).model == "changed"


def test_data_have_no_comments() -> None:
    assert compared({"a.yaml": b"a: 1"}, {"a.yaml": b"a: 1 # one"}, model=("a.yaml",)).model == "changed"


def test_of_a_script_only_what_the_class_needs_counts() -> None:
    script = b"WIDTH = 3\nclass Net:\n    w = WIDTH\ntrain(Net, rate=0.1)\n"
    other_rate, other_width = script.replace(b"0.1", b"0.2"), script.replace(b"3", b"4")
    for now, verdict in ((other_rate, "cosmetic"), (other_width, "changed"), (b"", "changed")):
        assert compared({"train.py": script}, {"train.py": now}, model=("train.py",), needed="Net").model == verdict
    assert compared({"train.py": script}, {"train.py": other_rate}, model=("train.py",)).model == "changed"


def test_a_body_of_a_docstring_alone_is_an_empty_one() -> None:
    assert same_program(b"def f():\n    'says'\n", b"def f():\n    pass\n")
    assert not same_program(b"x = 'says'\n", b"x = 'said'\n")
