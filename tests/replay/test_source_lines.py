"""The user's line and module, never a line of torch or of the kit."""

from __future__ import annotations

import importlib
import linecache
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_debugkit.replay.source_lines import SourceLine, place_of, shown_place


class Here(nn.Module):
    """Notes its own place."""

    def __init__(self, names: dict[int, str] | None = None) -> None:
        super().__init__()
        self.names = {} if names is None else names
        self.place = SourceLine()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.place = place_of(sys._getframe(), self.names)
        return x


def named(model: nn.Module) -> dict[int, str]:
    return {id(part): name for name, part in model.named_modules()}


def test_the_line_of_a_module_in_a_zip_file_has_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "steps.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_steps.py", "import sys\n\n\ndef here():\n    return sys._getframe()\n")
    monkeypatch.syspath_prepend(str(archive))
    place = place_of(importlib.import_module("zipped_steps").here(), {})
    assert place.source == f"{place.short}: return sys._getframe()"


def test_the_line_is_the_one_that_runs() -> None:
    place = place_of(sys._getframe(), {})
    assert (place.file, place.function) == (__file__, "test_the_line_is_the_one_that_runs")
    assert place.source.endswith(": place = place_of(sys._getframe(), {})")
    assert place.source.startswith(f"replay/test_source_lines.py:{place.line}: ")


def test_a_comprehension_is_told_by_the_function_around_it() -> None:
    (listed,) = [place_of(sys._getframe(), {}) for _ in range(1)]
    drawn = next(place_of(sys._getframe(), {}) for _ in range(1))
    assert listed.function == drawn.function == "test_a_comprehension_is_told_by_the_function_around_it"


def test_the_module_is_the_innermost_that_runs() -> None:
    inner = Here()
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(inner))
    inner.names = named(model)
    model(torch.ones(1, 2))
    assert (inner.place.module, inner.place.function) == ("1.0", "forward")


def test_outside_of_the_model_there_is_no_module() -> None:
    assert place_of(sys._getframe(), {1: "other"}).module is None


class Watching(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the place of each operation, from deep inside of torch."""

    def __init__(self, names: dict[int, str]) -> None:
        super().__init__()
        self.names, self.places = names, {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.places[str(func)] = place_of(sys._getframe(1), self.names)
        return func(*args, **(kwargs or {}))


def test_a_layer_of_torch_is_told_by_the_users_call_and_its_own_path() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.LayerNorm(2)))
    with Watching(named(model)) as watch:
        model(torch.ones(1, 2))
    place = watch.places["aten.native_layer_norm.default"]
    assert (place.module, place.file) == ("1.0", __file__)
    assert place.source.endswith(": model(torch.ones(1, 2))")


def test_a_mode_of_the_kit_around_the_users_step_hides_no_line() -> None:
    globals_: dict[str, Any] = {"__name__": "lightning_debugkit.fake", "Mode": torch.overrides.TorchFunctionMode}
    source = """
    class Listens(Mode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return self.called(func, args, kwargs or {})

        def called(self, func, args, kwargs):
            return func(*args, **kwargs)
    """
    exec(textwrap.dedent(source), globals_)
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    with Watching(named(model)) as watch, globals_["Listens"]():
        model(torch.ones(1, 2))
    place = watch.places["aten.relu.default"]
    assert (place.module, place.file) == ("1", __file__)


def test_what_called_the_replay_is_not_to_blame() -> None:
    """The stack is read up to the first frame of the kit itself."""
    globals_ = {"__name__": "lightning_debugkit.replay.fake", "place_of": place_of, "sys": sys}
    exec(compile("def run(function):\n    return function()", "fake.py", "exec"), globals_)
    namespace = {"__name__": "torch.fake", "place_of": place_of, "sys": sys}
    exec(compile("def inner():\n    return place_of(sys._getframe(), {})", "torch_fake.py", "exec"), namespace)
    assert globals_["run"](namespace["inner"]) == SourceLine()


def test_code_in_site_packages_is_named_only_if_there_is_none_of_the_users(tmp_path: Path) -> None:
    file = tmp_path / "site-packages" / "models.py"
    code = compile("def forward(then):\n    return then()", str(file), "exec")
    installed: dict[str, Any] = {"__name__": "models"}
    exec(code, installed)
    kit: dict[str, Any] = {"__name__": "lightning_debugkit.replay.fake"}
    exec(compile("def run(first, then):\n    return first(then)", "fake.py", "exec"), kit)
    torch_: dict[str, Any] = {"__name__": "torch.fake", "place_of": place_of, "sys": sys}
    exec(compile("def op():\n    return place_of(sys._getframe(), {})", "op.py", "exec"), torch_)

    assert kit["run"](installed["forward"], torch_["op"]).file == str(file)
    assert kit["run"](lambda then: installed["forward"](then), torch_["op"]).file == __file__


def test_a_frame_of_the_standard_library_is_not_the_users() -> None:
    import functools

    place = functools.reduce(lambda _, __: place_of(sys._getframe(), {}), [1, 2])
    assert place.file == __file__


def test_a_file_is_shown_as_it_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert shown_place(str(tmp_path / "pkg" / "model.py")) == "pkg/model.py"
    assert shown_place("/nowhere/at/all/train.py") == "train.py"
    assert shown_place(str(tmp_path / "run" / ".." / "train.py")) == "train.py"  # of python ../train.py


def test_no_place_has_no_source() -> None:
    assert SourceLine().source == ""


def test_the_line_is_stripped(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(
        textwrap.dedent("""\
        def f():
            return 1  # it
    """)
    )
    linecache.checkcache(str(file))
    assert SourceLine(str(file), 2, "f").source == "code.py:2: return 1  # it"
