"""The flight recorder and doctor of a PyTorch Lightning run.

Names are resolved when they are first used: importing this package imports neither torch nor Lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debugkit.checkpointing.atomic_io import AtomicCheckpointIO as AtomicCheckpointIO
    from lightning_debugkit.checkpointing.callback import NestedCheckpoint as NestedCheckpoint
    from lightning_debugkit.checkpointing.resume.callback import ExactResume as ExactResume
    from lightning_debugkit.core.anomaly import TrainingAnomaly as TrainingAnomaly
    from lightning_debugkit.core.finding import Finding as Finding
    from lightning_debugkit.core.finding import Severity as Severity
    from lightning_debugkit.core.journal import read_journal as read_journal
    from lightning_debugkit.core.reporting import Reporting as Reporting
    from lightning_debugkit.data.callback import DataCheck as DataCheck
    from lightning_debugkit.data.class_subset import ClassSubset as ClassSubset
    from lightning_debugkit.evaluation.bias_variance.callback import BiasVarianceReport as BiasVarianceReport
    from lightning_debugkit.evaluation.error_analysis.callback import ErrorAnalysis as ErrorAnalysis
    from lightning_debugkit.evaluation.studies.cross_validation import cross_validate as cross_validate
    from lightning_debugkit.evaluation.studies.learning_curve import learning_curve as learning_curve
    from lightning_debugkit.evaluation.studies.retrained_models import (
        bias_variance_decomposition as bias_variance_decomposition,
    )
    from lightning_debugkit.monitors.activations.callback import ActivationMonitor as ActivationMonitor
    from lightning_debugkit.monitors.callback import GradientAnomalyDetector as GradientAnomalyDetector
    from lightning_debugkit.monitors.clipping.callback import GradientClippingMonitor as GradientClippingMonitor
    from lightning_debugkit.preflight.callback import PreflightCheck as PreflightCheck
    from lightning_debugkit.preset_callback import Preset as Preset
    from lightning_debugkit.presets import debugkit as debugkit
    from lightning_debugkit.provenance.callback import CodeSnapshot as CodeSnapshot
    from lightning_debugkit.provenance.load_model.loading import load_model as load_model
    from lightning_debugkit.report.read_report import Report as Report
    from lightning_debugkit.report.read_report import read_report as read_report

_HOMES = {
    "ActivationMonitor": "monitors.activations.callback",
    "AtomicCheckpointIO": "checkpointing.atomic_io",
    "BiasVarianceReport": "evaluation.bias_variance.callback",
    "ClassSubset": "data.class_subset",
    "CodeSnapshot": "provenance.callback",
    "DataCheck": "data.callback",
    "ErrorAnalysis": "evaluation.error_analysis.callback",
    "ExactResume": "checkpointing.resume.callback",
    "Finding": "core.finding",
    "GradientAnomalyDetector": "monitors.callback",
    "GradientClippingMonitor": "monitors.clipping.callback",
    "NestedCheckpoint": "checkpointing.callback",
    "PreflightCheck": "preflight.callback",
    "Preset": "preset_callback",
    "Report": "report.read_report",
    "Reporting": "core.reporting",
    "Severity": "core.finding",
    "TrainingAnomaly": "core.anomaly",
    "bias_variance_decomposition": "evaluation.studies.retrained_models",
    "cross_validate": "evaluation.studies.cross_validation",
    "debugkit": "presets",
    "learning_curve": "evaluation.studies.learning_curve",
    "load_model": "provenance.load_model.loading",
    "read_journal": "core.journal",
    "read_report": "report.read_report",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
