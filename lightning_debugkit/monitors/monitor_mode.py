"""Callbacks and schedulers that follow a metric in the wrong direction: the lowest accuracy, the highest loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from lightning_debugkit.core.compat import (
    EarlyStopping,
    LightningModule,
    Metric,
    ModelCheckpoint,
    Trainer,
    callbacks_of,
    computed_value,
    is_transformed,
)
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.patching import Hearing, StandIn, has_compiled_code
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.core.step_hooks import LossWatch
from lightning_debugkit.data.batches import tensors

MODE = Rule(
    "monitor-mode",
    Severity.WARNING,
    "{name} follows {monitor} with mode='{mode}', but that is {what}, of which {better} is better: {effect}",
    "Give {name} mode='{right}'.",
    section="validation",
    cost="once",
)

_LOSS, _SHARE = "a loss", "the share of answers that equal the targets"
# What leaves the direction as it is: an average, a sum, another type, a factor above 0.
_KEEPS = frozenset(
    ["clone", "cpu", "cuda", "detach", "double", "flatten", "float", "half", "mean", "nanmean", "nansum", "reshape"]
) | {"squeeze", "sum", "to", "type", "view"}
_ADDS = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__", "stack", "cat"})
_SCALES = frozenset({"mul", "__mul__", "__rmul__", "div", "__truediv__", "true_divide", "div_", "mul_"})
_EQUALS = frozenset({"eq", "__eq__"})
_NUMBERS = frozenset({"item", "__float__", "tolist"})


class _Values(LossWatch):
    """Follow what loss functions and comparisons with the batch give to what a step logs."""

    def __init__(self, batch: Any) -> None:
        super().__init__()
        self.known: dict[int, str] = {}  # by tensor
        self.numbers: dict[float, str] = {}
        self._alive: list[Tensor] = []
        self._of_batch = {id(tensor) for tensor in tensors(batch)}

    def take(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Pass over what a loss function is given."""

    def follow(
        self, name: str, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any, is_loss: bool
    ) -> None:
        """Take note of what an operation makes."""
        if not self.hears or self.error is not None or is_transformed():
            return
        try:
            kind = _LOSS if is_loss else self._kind(name, args)
            if kind and isinstance(result, Tensor):
                self.know(result, kind)
            elif kind and isinstance(result, float):
                self.numbers[result] = kind
        except Exception as error:
            self.error = error

    def know(self, tensor: Tensor, kind: str) -> None:
        """Keep the kind of a tensor, and the tensor: an id in use cannot be given to another."""
        self.known[id(tensor)] = kind
        self._alive.append(tensor)

    def _kind(self, name: str, args: tuple[Any, ...]) -> str:
        if name in _EQUALS:
            # Against the targets themselves: a comparison with a number may count anything.
            both = len(args) == 2 and all(isinstance(arg, Tensor) for arg in args)
            return _SHARE if both and any(self._is_given(arg) for arg in args) else ""
        kinds = [self.known.get(id(arg), "") for arg in _flat(args) if isinstance(arg, Tensor)]
        if name in _ADDS:
            return next(filter(None, kinds), "")
        if name in _SCALES:
            rest = [arg for arg in args if not isinstance(arg, Tensor)]
            scaled = len(kinds) == 1 and all(isinstance(arg, int | float) and arg > 0 for arg in rest)
            return kinds[0] if scaled and isinstance(args[0], Tensor) else ""
        return kinds[0] if name in _KEEPS | _NUMBERS and kinds else ""

    def _is_given(self, tensor: Any) -> bool:
        return id(tensor) in self._of_batch


class MonitorModes:
    """Hear, in one batch, what a step logs, and ask the classes of the metrics which direction is the better."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}  # by name: what is logged
        self._higher: dict[str, bool] = {}
        self._watch: _Values | None = None
        self._log: StandIn | None = None
        self._metrics: Hearing | None = None
        self._done: set[str] = set()  # steps that were heard
        self._told: set[tuple[int, str]] = set()

    def listen(self, trainer: Trainer, module: LightningModule, step: str, batch: Any) -> None:
        """Hear the step that is about to run, the first of its kind, if anything follows a metric."""
        if step in self._done or not followers(trainer) or has_compiled_code(module):
            return
        self._done.add(step)
        watch = self._watch = _Values(batch)

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            usual = log_.usual
            self._logged(name, value)
            usual(name, value, *args, **kwargs)

        def metric(part: nn.Module, args: Any, output: Any) -> None:
            higher = getattr(part, "higher_is_better", None)
            if isinstance(output, Tensor) and isinstance(higher, bool) and watch.hears:
                watch.know(output, f"{type(part).__name__}{'+' if higher else '-'}")

        log_ = self._log = StandIn(module, "log", log).stand()
        watch.put_around(module, step)
        parts = [part for part in module.modules() if isinstance(part, Metric)]
        self._metrics = Hearing(parts, metric) if parts else None

    @property
    def hears(self) -> bool:
        """A step is being heard, or has just been."""
        return self._log is not None

    def judge(self, where: Where, trainer: Trainer) -> Iterator[Finding]:
        """Yield who follows what was logged in the wrong direction."""
        self.release()
        for follower, monitor, mode in followers(trainer):
            base = monitor if monitor in self._higher else monitor.removesuffix("_epoch").removesuffix("_step")
            higher = self._higher.get(base)
            if higher is None or higher == (mode == "max") or (id(follower), monitor) in self._told:
                continue
            self._told.add((id(follower), monitor))
            yield _finding(where, follower, monitor, mode, self._found[base], higher)

    def computed(self, trainer: Trainer, module: LightningModule) -> None:
        """Take up what a validation has logged by hand of what metrics of the model have computed."""
        if "validation_step" not in self._done:
            return
        for part in module.modules():
            higher, value = getattr(part, "higher_is_better", None), isinstance(part, Metric) and computed_value(part)
            if not (isinstance(higher, bool) and isinstance(value, Tensor) and value.numel() == 1):
                continue
            for key, logged in trainer.callback_metrics.items():
                if key not in self._higher and logged.numel() == 1 and float(logged) == float(value):
                    self._found[key], self._higher[key] = type(part).__name__, higher

    def release(self) -> None:
        """Leave the module as it was; may be called twice."""
        for standing in (self._watch, self._metrics):
            if standing is not None:
                standing.remove()
        if self._log is not None:
            self._log.leave()
        self._watch = self._metrics = self._log = None

    def _logged(self, name: str, value: Any) -> None:
        watch = self._watch
        if isinstance(value, Metric):
            higher = value.higher_is_better
            if isinstance(higher, bool):
                self._found[name], self._higher[name] = type(value).__name__, higher
            return
        if watch is None or not watch.hears:
            return
        kind = watch.known.get(id(value)) if isinstance(value, Tensor) else watch.numbers.get(value)
        if kind:
            self._found[name] = kind.rstrip("+-")
            self._higher[name] = kind == _SHARE or kind.endswith("+")


def followers(trainer: Trainer) -> list[tuple[Any, str, str]]:
    """Return who follows a metric: itself, the metric, and ``min`` or ``max``."""
    found = callbacks_of(trainer, ModelCheckpoint, EarlyStopping)
    rows: list[tuple[Any, str, str]] = [(each, str(each.monitor), str(each.mode)) for each in found if each.monitor]
    for config in trainer.lr_scheduler_configs:
        mode = getattr(config.scheduler, "mode", None)
        if config.reduce_on_plateau and config.monitor and mode in ("min", "max"):
            rows.append((config.scheduler, str(config.monitor), mode))
    return rows


def _finding(where: Where, follower: Any, monitor: str, mode: str, what: str, higher: bool) -> Finding:
    effects = {
        "ModelCheckpoint": "it keeps the worst",
        "EarlyStopping": "it stops the run as the model gets better",
        "ReduceLROnPlateau": "it lowers the rate as the model gets better",
    }
    name = type(follower).__name__
    effect = next(
        (told for kind, told in effects.items() if any(k.__name__ == kind for k in type(follower).__mro__)), ""
    )
    return MODE.found(
        where,
        name=name,
        monitor=monitor,
        mode=mode,
        what=what,
        better="higher" if higher else "lower",
        effect=effect or "it prefers the worse",
        right="max" if higher else "min",
    )


def _flat(args: tuple[Any, ...]) -> Iterator[Any]:
    for arg in args:
        yield from arg if isinstance(arg, tuple | list) else (arg,)
