"""Ready lists of callbacks, ordered by what they cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lightning_debugkit.core.switch import is_off

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from lightning_debugkit.core.finding import Finding
    from lightning_debugkit.core.sinks import ToLoggers

PresetName = Literal["light", "standard", "thorough"]
PRESETS: tuple[str, ...] = ("light", "standard", "thorough")


def debugkit(
    preset: PresetName = "standard",
    *,
    on_finding: Callable[[Finding], Any] | str | None = None,
    loggers: ToLoggers = "findings",
    ignore: Sequence[str] = (),
    **options: Any,
) -> list[Callback]:
    """Return the kit's callbacks for a Trainer: ``Trainer(callbacks=debugkit())``.

    ``light`` looks at the numbers of gradients and of their clipping. ``standard`` looks at the program itself in
    its first steps, watches the wiring of parameters and, on sampled steps, activations, too, and lets checkpoints
    carry their code. ``thorough`` also looks at the output of every module, so that a fault's module is named even
    where the replay tells nothing, looks at activations ten times as often, and adds `BiasVarianceReport` and
    `ErrorAnalysis`, which go without where they find no predictions. No preset writes into a git repository:
    commits of the working tree on ``refs/debugkit/*`` are made with ``side_ref=True`` only, or by a `CodeSnapshot`
    of your own.

    A loss or gradient that is not finite ends the run (``action="raise"``); ``action="warn"`` only reports it, and
    ``action="skip"`` drops the update and goes on. Nothing else in a preset changes a training.

    ``LIGHTNING_DEBUGKIT=off`` in the environment turns it off without a change of code: the list is empty then.

    Args:
        preset: How much to watch.
        on_finding: Called with each `Finding`, of any severity; or its dotted path.
        loggers: What the Trainer's loggers get: ``findings`` of ``warning`` and above and the report, ``all`` adds
            scalars and figures, ``none``.
        ignore: Names of rules that are neither reported nor acted upon.
        **options: Arguments of the callbacks, such as ``action="skip"``; each goes to all that have it.

    Raises:
        ValueError: There is no such preset, rule or function.
        TypeError: No callback of the preset has such an option.
    """
    from lightning_debugkit.core.arguments import arguments_of, closest
    from lightning_debugkit.core.reporting import Reporting, check
    from lightning_debugkit.data.callback import DataCheck
    from lightning_debugkit.evaluation.bias_variance.callback import BiasVarianceReport
    from lightning_debugkit.evaluation.error_analysis.callback import ErrorAnalysis
    from lightning_debugkit.monitors.activations.callback import ActivationMonitor
    from lightning_debugkit.monitors.callback import GradientAnomalyDetector
    from lightning_debugkit.monitors.clipping.callback import GradientClippingMonitor
    from lightning_debugkit.preflight.callback import PreflightCheck
    from lightning_debugkit.provenance.callback import CodeSnapshot

    if preset not in PRESETS:
        raise ValueError(
            f"debugkit needs a preset of light, standard, thorough, got {preset!r}; standard is the default."
        )
    check("debugkit", on_finding, loggers, ignore)
    chosen: dict[str, dict[type[Callback], dict[str, Any]]] = {
        "light": {GradientAnomalyDetector: {"wiring": False, "bundle": False}, GradientClippingMonitor: {}},
        "standard": {
            GradientAnomalyDetector: {},
            PreflightCheck: {},
            DataCheck: {},
            GradientClippingMonitor: {},
            ActivationMonitor: {},
            CodeSnapshot: {"side_ref": False},
        },
        "thorough": {
            GradientAnomalyDetector: {"hooks": "always"},
            PreflightCheck: {"overfit_batch": True},
            DataCheck: {"baseline": True},
            GradientClippingMonitor: {},
            ActivationMonitor: {"every_n_steps": 10},
            CodeSnapshot: {"side_ref": False},
            BiasVarianceReport: {"every_n_epochs": "auto", "train_samples": 2000, "on_missing": "warn"},
            ErrorAnalysis: {"on_missing": "warn"},
        },
    }
    known = {kind: list(arguments_of(kind)) for kind in chosen[preset]}
    names = list(dict.fromkeys(name for parameters in known.values() for name in parameters))
    unknown = sorted(set(options) - set(names))
    if unknown:
        names += ["on_finding", "loggers", "ignore"]
        advice = closest(unknown[0], names)
        raise TypeError(f"debugkit needs options among {', '.join(names)}, got {unknown[0]!r}; {advice}.")
    made: list[Any] = [
        kind(**{**arguments, **{name: value for name, value in options.items() if name in known[kind]}})
        for kind, arguments in chosen[preset].items()
    ]
    if on_finding is not None or loggers != "findings" or ignore:
        made.append(Reporting(on_finding, loggers, ignore))
    for callback in made:
        callback.chosen = False  # ours: nobody has asked for this one alone
    return [] if is_off() else made
