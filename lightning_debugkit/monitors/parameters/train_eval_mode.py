"""Modules that train in evaluation mode: dropout does nothing, batch norm uses old statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from lightning_debugkit.core.compat import _BatchNorm, _DropoutNd
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.patching import Hearing, hear_method
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.sharding import outer, unwrapped_name
from lightning_debugkit.monitors.parameters.parameter_registration import common
from lightning_debugkit.replay.source_lines import users_line

EVAL_MODE = Rule(
    "eval-mode-in-training",
    Severity.WARNING,
    "{names} in eval mode during training{since}: {effect}",
    "Call {call}.train() when training (re)starts, in on_train_epoch_start; after eval() for a test, call train() "
    "again.",
    section="parameters",
)

TRAIN_MODE = Rule(
    "train-mode-in-validation",
    Severity.WARNING,
    "{names} in training mode while {stage} runs{at}: {effect}",
    "Leave the mode to Lightning, which calls eval() before and puts each module back after; or call eval() again "
    "where train() was called.",
    section="validation",
)

_TWICE = 2  # looks in a row


class TrainEvalMode:
    """Watch the layers that behave differently in training: dropout, and batch norm with statistics."""

    def __init__(self) -> None:
        self.layers: list[tuple[str, nn.Module]] = []
        self.began: set[str] | None = None
        self.counts: dict[str, int] = {}  # steps in a row that a layer was found guilty

    def begin(self, module: nn.Module) -> None:
        """Find the layers whose mode matters."""
        self.layers = [(name, part) for name, part in module.named_modules() if _matters(part)]
        self.began = None
        self.counts = {}

    def judge(self, where: Where, module: nn.Module, learns: Callable[[str, Tensor], bool]) -> Iterator[Finding]:
        """Yield layers that are in eval mode while a training step runs.

        Modules that nothing trains may be, such as a frozen part or a copy kept as a baseline, and so may single layers
        that were set to eval one by one.

        Args:
            learns: Tells whether a parameter, by name and itself, is trained.
        """
        evaluating = {name for name, part in self.layers if not part.training}
        if self.began is None:
            self.began = evaluating
        if not evaluating:
            self.counts = {}
            return
        # Eval set on the layer itself, its parent still training, was meant: batch norm is often fine-tuned so.
        found = (name for name in evaluating if _left(module, name) and _trains(module, name, learns))
        self.counts = {name: self.counts.get(name, 0) + 1 for name in found}
        guilty = sorted(name for name, count in self.counts.items() if count == _TWICE)
        if guilty:
            parts = dict(self.layers)
            kinds = {type(parts[name]).__name__ for name in guilty}
            guilty, self.began = (
                [unwrapped_name(name) for name in guilty],
                {unwrapped_name(name) for name in self.began},
            )
            drops = any("Dropout" in kind for kind in kinds)
            norm = any("BatchNorm" in kind for kind in kinds)
            effect = " and ".join(["dropout is off"] * drops + ["batch norm no longer learns its statistics"] * norm)
            holder = "" if not module.training else common(guilty)
            yield EVAL_MODE.found(
                where.at(holder),
                names=listed(guilty),
                since="" if set(guilty) <= self.began else f" since epoch {where.epoch}",
                effect=effect,
                call=f"self.{holder}" if holder else "self",
                modules=guilty,
            )


class EvaluationMode:
    """Watch the same layers in validation and test: first their mode, then, in one batch, whether they run in it."""

    def __init__(self) -> None:
        self._heard: set[str] = set()
        self._source = ""
        self._leave: list[Callable[[], None]] = []

    def judge(self, where: Where, module: nn.Module, stage: str, batch_idx: int) -> Iterator[Finding]:
        """Yield layers that ran in training mode, though the part around them was put into it as a whole.

        A layer that was put into it alone was meant, as for Monte Carlo dropout.
        """
        if self._leave:
            self.release()
            if self._heard:
                yield self._found(where, module, stage)
        elif not self._heard and batch_idx == 0:
            left = [n for n, p in module.named_modules() if p.training and _matters(p) and not _left(module, n)]
            if left:
                self._listen(module, left)

    def release(self) -> None:
        """Hear no more; may be called twice."""
        for leave in self._leave:
            leave()
        self._leave = []

    def _listen(self, module: nn.Module, names: list[str]) -> None:
        known = {id(module.get_submodule(name)): name for name in names}
        holders = {id(module.get_submodule(path)) for name in names for path in (*_paths(name), "")}

        def ran(part: nn.Module, args: Any, output: Any) -> None:
            if part.training:
                self._heard.add(known[id(part)])

        def called(part: nn.Module, mode: bool = True) -> None:
            if mode and id(part) in holders and not self._source:
                self._source = users_line().source

        hearing = Hearing(map(module.get_submodule, names), ran)
        self._leave = [hearing.remove, hear_method(nn.Module, "train", called)]

    def _found(self, where: Where, module: nn.Module, stage: str) -> Finding:
        names = sorted(self._heard)
        kinds = {type(module.get_submodule(name)).__name__ for name in names}
        effect = ["dropout drops"] * any("Dropout" in kind for kind in kinds)
        if any("BatchNorm" in kind for kind in kinds):
            effect.append("batch norm normalises by the batch, and learns its statistics from these data, too")
        named = [unwrapped_name(name) for name in names]
        return TRAIN_MODE.found(
            where.at(common(named)),
            names=listed(named),
            stage=stage,
            at=f" (train() at {':'.join(self._source.split(':')[:2])})" if self._source else "",
            effect=" and ".join(effect),
            source=self._source,
            modules=named,
        )


def _paths(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _matters(part: nn.Module) -> bool:
    return (isinstance(part, _DropoutNd) and part.p > 0) or (isinstance(part, _BatchNorm) and part.track_running_stats)


def _left(module: nn.Module, name: str) -> bool:
    """Tell whether what holds the layer ``name`` is in eval mode as a whole."""
    return not module.get_submodule(outer(name)).training


def _trains(module: nn.Module, name: str, learns: Callable[[str, Tensor], bool]) -> bool:
    """Tell whether the module around ``name`` has parameters that train."""
    part = module.get_submodule(name)
    if any(True for _ in part.parameters()):
        return any(learns(f"{name}.{own}", p) for own, p in part.named_parameters())
    # A dropout layer has no parameters of its own: look at what it stands in.
    while name:
        name = name.rpartition(".")[0]
        around = dict(module.get_submodule(name).named_parameters(name))
        if around:
            return any(learns(path, p) for path, p in around.items())
    return False
