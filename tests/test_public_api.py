"""The public names resolve, and importing the package is cheap."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_debugkit

HEAVY = ("torch", "lightning", "pytorch_lightning", "matplotlib", "numpy", "jinja2", "git")


def loaded_by(code: str) -> set[str]:
    """The heavy modules that a fresh process has loaded after ``code``."""
    show = f"import sys\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("name", lightning_debugkit.__all__)
def test_a_public_name_resolves_to_what_is_called_so(name: str) -> None:
    assert getattr(lightning_debugkit, name).__name__ == name


def test_all_is_sorted_and_listed() -> None:
    assert sorted(lightning_debugkit.__all__, key=str.lower) == sorted(set(lightning_debugkit.__all__), key=str.lower)
    assert set(lightning_debugkit.__all__) <= set(dir(lightning_debugkit))


def test_a_public_class_is_documented() -> None:
    assert [name for name in lightning_debugkit.__all__ if not getattr(lightning_debugkit, name).__doc__] == []


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'lightning_debugkit' has no attribute 'GradientAnomalyDetektor'"):
        _ = lightning_debugkit.GradientAnomalyDetektor


@pytest.mark.parametrize("code", ["import lightning_debugkit", "import lightning_debugkit.presets"])
def test_importing_the_package_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()


@pytest.mark.parametrize(
    "code", ["from lightning_debugkit import Finding, Severity, read_journal", "import lightning_debugkit.cli"]
)
def test_reading_a_journal_needs_no_torch(code: str) -> None:
    assert loaded_by(code) & {"torch", "lightning", "pytorch_lightning", "matplotlib"} == set()


def test_the_report_loads_without_torch() -> None:
    assert loaded_by("from lightning_debugkit.report import render") & {"torch", "lightning"} == set()


def test_the_autoloader_costs_nothing_when_off() -> None:
    code = "from lightning_debugkit.autoload import callbacks\nassert callbacks() == []"
    assert loaded_by(code) == set()


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(lightning_debugkit.__file__).parent / "py.typed").is_file()


def test_every_module_has_a_docstring() -> None:
    root = Path(lightning_debugkit.__file__).parent
    names = [
        ".".join(("lightning_debugkit", *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")
    ]
    modules = [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]
    assert [name for name in modules if not importlib.import_module(name).__doc__] == []
