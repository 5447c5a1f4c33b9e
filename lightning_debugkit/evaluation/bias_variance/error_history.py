"""What was measured over the run, as plain types that survive a checkpoint, and which moment some weights belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_debugkit.core.compat import LightningModule, Trainer, trainer_of
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.sharding import holds_whole_model, named_shards
from lightning_debugkit.evaluation.bias_variance.measured_case import EarlierErrors
from lightning_debugkit.evaluation.bias_variance.measurement import Measured
from lightning_debugkit.stats.exact_tests import mcnemar, paired_counts
from lightning_debugkit.stats.intervals import Interval
from lightning_debugkit.stats.tensor_norms import bits

_MOST = 500  # moments remembered; every second of the older ones goes when there are more
_CLASSED = 32  # moments whose counts by class are remembered
_SHARE = 0.1
_WORD = (1 << 61) - 1


class ErrorHistory:
    """The moments of a run at which errors were measured, and the test error if there is one."""

    def __init__(self) -> None:
        self.moments: list[dict[str, Any]] = []
        self.test: dict[str, Any] = {}
        self.best: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self.running: tuple[str, float] | None = None

    def add(self, trainer: Trainer, weights: int, measured: Mapping[str, Measured]) -> dict[str, Any]:
        """Remember what was measured of these weights, together with what is known of them already."""
        if self.moments and self.moments[-1]["weights"] == weights:
            moment = self.moments[-1]
        else:
            moment = {"epoch": trainer.current_epoch, "step": steps_taken(trainer), "weights": weights}
            self.moments.append(moment)
        _put(moment, measured)
        self._remember_bits(moment, measured.get("val"))
        for old in self.moments[:-_CLASSED]:
            old["classes"] = {}
        if len(self.moments) > _MOST:
            self.moments = [m for at, m in enumerate(self.moments) if at % 2 or at > _MOST // 2]
        return moment

    def add_test(self, weights: int, measured: Mapping[str, Measured]) -> None:
        """Remember the test errors of some weights; a test of others takes their place."""
        self.test = {"weights": weights}
        _put(self.test, measured)

    def of(self, weights: int) -> dict[str, Any] | None:
        """Return the last moment at which the model had these weights."""
        return next((moment for moment in reversed(self.moments) if moment["weights"] == weights), None)

    def at_step(self, step: int) -> dict[str, Any] | None:
        """Return the last moment at this step."""
        return next((moment for moment in reversed(self.moments) if moment["step"] == step), None)

    def affords(self, samples: int, trained: int) -> bool:
        """Tell whether one more look at so many training samples is cheap beside those that were trained on."""
        looks = 1 + sum("train" in moment.get("errors", {}) for moment in self.moments)
        return looks * samples <= _SHARE * trained

    def lacks_train(self, trainer: Trainer, module: LightningModule) -> bool:
        """Tell, at the end of training, whether its data are still to be measured with the weights of now."""
        if not holds_whole_model(trainer):
            return False  # shards tell no rank whether the whole has changed, and all must do the same
        last = self.moments[-1] if self.moments else {}
        same = last.get("weights") == weights_fingerprint(module)
        measured = "train" in last.get("errors", ())
        return not (measured and same) and (same or not trainer.enable_validation)

    @property
    def past(self) -> list[EarlierErrors]:
        return [EarlierErrors(moment["epoch"], moment["step"], errors_of(moment)) for moment in self.moments]

    @property
    def note(self) -> str:
        """What the samples say of the best and the last moment: both saw the same ones."""
        best, last = self.best, self.last
        if not best or not last or best["step"] == last["step"] or len(best["bits"]) != len(last["bits"]):
            return ""
        both, only_best, only_last, neither = paired_counts(best["bits"].numpy(), last["bits"].numpy())
        if not only_best + only_last:
            return ""
        p = mcnemar(only_best, only_last)
        n = both + only_best + only_last + neither
        verb = "is worse than" if p < 0.05 and only_last > only_best else "cannot be told from"
        return (
            f"On the same {n:,} validation samples, epoch {last['epoch']} {verb} epoch {best['epoch']}: {only_last:,} "
            f"samples went wrong and {only_best:,} came right in between (McNemar's p = {p:.2g})."
        )

    def _remember_bits(self, moment: dict[str, Any], val: Measured | None) -> None:
        if val is None or val.bits is None:
            return
        packed = torch.from_numpy(val.bits.copy())
        self.last = {"epoch": moment["epoch"], "step": moment["step"], "bits": packed}
        if not self.best or len(self.best["bits"]) != len(packed) or packed.sum() < self.best["bits"].sum():
            self.best = dict(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {
            "moments": [dict(moment) for moment in self.moments],
            "test": dict(self.test),
            "best": dict(self.best),
            "last": dict(self.last),
            "running": self.running,
        }

    def load_state_dict(self, held: Mapping[str, Any]) -> None:
        self.moments = [dict(moment) for moment in held.get("moments", [])]
        self.test = dict(held.get("test", {}))
        self.best = dict(held.get("best", {}))
        self.last = dict(held.get("last", {}))
        running = held.get("running")
        self.running = (str(running[0]), float(running[1])) if running else None

    def recall(self, held: Mapping[str, Any]) -> None:
        """Take up the moments of a checkpoint that are not known yet: it is tested, not resumed."""
        known = {moment["weights"] for moment in self.moments}
        fresh = [dict(moment) for moment in held.get("moments", []) if moment["weights"] not in known]
        if not self.moments:
            self.load_state_dict(held)
        else:
            self.moments = sorted([*fresh, *self.moments], key=lambda moment: moment["step"])


def weights_fingerprint(module: LightningModule) -> int:
    """Return a number that is the same for the same weights and statistics, to the bit."""
    total = 0
    # Not state_dict() of a part of a model: it would bring the whole together on every process.
    whole = holds_whole_model(trainer_of(module))
    held = module.state_dict() if whole else {**named_shards(module), **dict(module.named_buffers())}
    for name, tensor in held.items():
        if isinstance(tensor, Tensor) and not torch.nn.parameter.is_lazy(tensor):
            total = (total * 1_000_003 + bits(tensor) + len(name)) % _WORD
    return total


def errors_of(moment: Mapping[str, Any]) -> dict[str, Interval]:
    """Return the errors of a moment by split."""
    return {name: Interval(*held) for name, held in moment.get("errors", {}).items()}


def classes_of(moment: Mapping[str, Any]) -> dict[str, Any]:
    """Return samples and wrong samples of each class, by split."""
    return {name: np.asarray(table) for name, table in moment.get("classes", {}).items()}


def _put(moment: dict[str, Any], measured: Mapping[str, Measured]) -> None:
    for name, found in measured.items():
        interval = found.interval
        n = None if interval.n is None else int(interval.n)
        moment.setdefault("errors", {})[name] = [
            float(interval.value), float(interval.low), float(interval.high), n,
        ]  # fmt: skip
        moment.setdefault("classes", {})
        if found.by_class is not None:
            moment["classes"][name] = torch.from_numpy(np.ascontiguousarray(found.by_class))
        moment.setdefault("broken", {})[name] = int(found.broken)
