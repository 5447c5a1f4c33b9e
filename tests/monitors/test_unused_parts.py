"""Parts that never get a gradient: one finding for all of a kind, and a note where a library builds them anyway."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from monitors.breaking import Net, fit
from torch import nn

from lightning_debugkit import GradientAnomalyDetector, read_journal
from lightning_debugkit.core.finding import Severity, Where
from lightning_debugkit.monitors import monitor
from lightning_debugkit.monitors.gradients.missing_gradients import GradientFlow
from lightning_debugkit.replay.autograd_graph import Wiring
from lightning_debugkit.replay.source_lines import SourceLine

SOURCE = """
from torch import nn

class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.size = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
        self.spread = nn.Linear(2, 2)
"""


def vae(folder: Path) -> nn.Module:
    folder.mkdir(parents=True)
    (folder / "vae.py").write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("vae_of_a_test", folder / "vae.py")
    assert spec is not None
    assert spec.loader is not None
    library: Any = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = library
    spec.loader.exec_module(library)
    return library.Vae()


@pytest.mark.parametrize(("place", "severity"), [("site-packages/lib", Severity.INFO), ("project", Severity.WARNING)])
def test_unused_parts_are_one_finding_as_grave_as_their_owner_can_act(
    place: str, severity: Severity, tmp_path: Path
) -> None:
    model = nn.Module()
    model.vae = vae(tmp_path / place)
    flow = GradientFlow()
    flow.looks = 60
    flow.fed = {"vae.encoder.weight", "vae.encoder.bias"}
    (found,) = flow.conclude(Where(1, 60), model, [name for name, _ in model.named_parameters()])
    assert found.severity is severity
    assert found.message.startswith("vae.size, vae.spread: trainable, but without a gradient in all 60 steps")
    assert len(found.evidence["parameters"]) == 6
    assert found.where.module == "vae"


def test_a_part_of_the_users_own_in_a_library_stays_a_warning(tmp_path: Path) -> None:
    model = nn.Module()
    model.vae, model.head = vae(tmp_path / "site-packages/lib"), nn.Linear(2, 2)
    flow = GradientFlow()
    flow.looks = 60
    flow.fed = {name for name, _ in model.named_parameters() if "encoder" in name}
    found = list(flow.conclude(Where(1, 60), model, [name for name, _ in model.named_parameters()]))
    assert [(one.severity, one.where.module) for one in found] == [(Severity.INFO, "vae"), (Severity.WARNING, "head")]


@pytest.mark.parametrize(("used", "severity"), [("model.encoder", Severity.INFO), ("head", Severity.WARNING)])
def test_the_unused_half_of_a_module_of_torch_is_a_note(used: str, severity: Severity) -> None:
    """As the decoder of nn.Transformer, whose encoder a program calls; a whole one that it never calls is a warning."""
    module = nn.Module()
    module.model = nn.Transformer(4, 1, 1, 1, 8, batch_first=True)
    module.head = nn.Linear(4, 2)
    names = [name for name, _ in module.named_parameters()]
    flow = GradientFlow()
    flow.looks, flow.fed = 60, {name for name in names if name.startswith((used, "head"))}
    (found,) = flow.conclude(Where(1, 60), module, names)
    assert found.severity is severity
    assert found.where.module == ("model.decoder" if severity is Severity.INFO else "model")


@pytest.mark.parametrize(
    ("unfed", "severity"), [({"2.bias"}, Severity.INFO), ({"2.bias", "2.weight"}, Severity.WARNING)]
)
def test_a_bias_whose_layer_learns_is_a_note(unfed: set[str], severity: Severity) -> None:
    """As of the last one in a network whose derivatives are trained: forces, scores, residuals of an equation."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    names = [name for name, _ in model.named_parameters()]
    flow = GradientFlow()
    flow.looks, flow.fed = 60, set(names) - unfed
    (found,) = flow.conclude(Where(1, 60), model, names)
    assert found.severity is severity
    assert ("what it adds is lost on the way to the loss" in found.message) is (severity is Severity.INFO)


@pytest.mark.parametrize("is_meant", [None, True, False])
def test_a_softmax_over_size_1_is_told_as_what_it_is(is_meant: bool | None) -> None:
    """In the wrong dimension a warning, where there is nothing to choose a note, elsewhere it has saturated."""
    score, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    found = Wiring(zeros={id(score): ("softmax", SourceLine("train.py:7: torch.softmax(s, -1)"), True)})
    if is_meant is not None:
        found.one_entry[id(score)] = is_meant
    flow = GradientFlow()
    flow.fed = {"other"}
    (told,) = flow._quenched(Where(0, 1), [("score", score, 1), ("other", other, 1)], found)
    assert told.severity is (Severity.INFO if is_meant else Severity.WARNING)
    assert ("over one entry" in told.message) is (is_meant is not None)
    assert ("dimension in which it is to choose" in told.advice) is (is_meant is False)
    assert told.evidence["op"] == "softmax"


@pytest.mark.parametrize("unused", [0, 1, 3])
def test_one_replay_tells_that_nothing_uses_a_part(
    unused: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay copies the model: what it has shown once, no other is asked for."""
    replays: list[int] = []
    audit = monitor.audit
    monkeypatch.setattr(monitor, "audit", lambda *given: replays.append(1) or audit(*given))
    module = Net()
    module.spare = nn.ModuleList(nn.Linear(2, 2) for _ in range(unused))
    fit(module, tmp_path, GradientAnomalyDetector(), max_epochs=4)
    assert len(replays) == bool(unused)
    named = [found.rule for found in read_journal(tmp_path / "debugkit").findings]
    assert named.count("no-gradient") == bool(unused)
