"""Ready lists of callbacks, ordered by what they cost."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lightning.pytorch import Callback

Preset = Literal["light", "standard", "thorough"]
PRESETS: tuple[str, ...] = ("light", "standard", "thorough")


def debugkit(preset: Preset = "standard", **options: Any) -> list[Callback]:
    """Return the kit's callbacks for a Trainer: ``Trainer(callbacks=debugkit())``.

    ``light`` looks at numbers only. ``standard`` watches the wiring of parameters, too. ``thorough`` also keeps
    gradient hooks on every module, so that a fault's module is named even where the replay tells nothing, and adds
    `BiasVarianceReport`, which goes without where it finds no predictions.

    Args:
        preset: How much to watch.
        **options: Arguments of `GradientAnomalyDetector`, such as ``action="skip"``.

    Raises:
        ValueError: There is no such preset.
        TypeError: No callback of the preset has such an option.
    """
    from lightning_debugkit.callbacks.bias_variance import BiasVarianceReport
    from lightning_debugkit.callbacks.gradient_anomaly import GradientAnomalyDetector

    if preset not in PRESETS:
        raise ValueError(
            f"debugkit needs a preset of light, standard, thorough, got {preset!r}; standard is the default."
        )
    known = inspect.signature(GradientAnomalyDetector).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"debugkit needs options among {', '.join(known)}, got {unknown[0]!r}; check the spelling.")
    chosen: dict[str, dict[str, Any]] = {
        "light": {"wiring": False, "bundle": False},
        "standard": {},
        "thorough": {"hooks": "always"},
    }
    made: list[Callback] = [GradientAnomalyDetector(**{**chosen[preset], **options})]
    if preset == "thorough":
        made.append(BiasVarianceReport(every_n_epochs="auto", train_samples=2000, on_missing="warn"))
    return made
