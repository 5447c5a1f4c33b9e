"""The flight recorder and doctor of a PyTorch Lightning run.

Names are resolved when they are first used: importing this package imports neither torch nor Lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_debugkit.callbacks.activations import ActivationMonitor
    from lightning_debugkit.callbacks.base import TrainingAnomaly
    from lightning_debugkit.callbacks.bias_variance import BiasVarianceReport
    from lightning_debugkit.callbacks.checkpoint_io import AtomicCheckpointIO
    from lightning_debugkit.callbacks.code_snapshot import CodeSnapshot
    from lightning_debugkit.callbacks.error_analysis import ErrorAnalysis
    from lightning_debugkit.callbacks.exact_resume import ExactResume
    from lightning_debugkit.callbacks.gradient_anomaly import GradientAnomalyDetector
    from lightning_debugkit.callbacks.gradient_clipping import GradientClippingMonitor
    from lightning_debugkit.callbacks.loading import load_model
    from lightning_debugkit.callbacks.nested_checkpoint import NestedCheckpoint
    from lightning_debugkit.callbacks.studies.cross_validate import cross_validate
    from lightning_debugkit.callbacks.studies.decomposition import bias_variance_decomposition
    from lightning_debugkit.callbacks.studies.learning_curve import learning_curve
    from lightning_debugkit.finding import Finding, Severity
    from lightning_debugkit.journal import read_journal
    from lightning_debugkit.preflight.callback import PreflightCheck
    from lightning_debugkit.presets import debugkit

_HOMES = {
    "ActivationMonitor": "callbacks.activations",
    "AtomicCheckpointIO": "callbacks.checkpoint_io",
    "BiasVarianceReport": "callbacks.bias_variance",
    "CodeSnapshot": "callbacks.code_snapshot",
    "ErrorAnalysis": "callbacks.error_analysis",
    "ExactResume": "callbacks.exact_resume",
    "Finding": "finding",
    "GradientAnomalyDetector": "callbacks.gradient_anomaly",
    "GradientClippingMonitor": "callbacks.gradient_clipping",
    "NestedCheckpoint": "callbacks.nested_checkpoint",
    "PreflightCheck": "preflight.callback",
    "Severity": "finding",
    "TrainingAnomaly": "callbacks.base",
    "bias_variance_decomposition": "callbacks.studies.decomposition",
    "cross_validate": "callbacks.studies.cross_validate",
    "debugkit": "presets",
    "learning_curve": "callbacks.studies.learning_curve",
    "load_model": "callbacks.loading",
    "read_journal": "journal",
}

__all__ = [
    "ActivationMonitor",
    "AtomicCheckpointIO",
    "BiasVarianceReport",
    "CodeSnapshot",
    "ErrorAnalysis",
    "ExactResume",
    "Finding",
    "GradientAnomalyDetector",
    "GradientClippingMonitor",
    "NestedCheckpoint",
    "PreflightCheck",
    "Severity",
    "TrainingAnomaly",
    "bias_variance_decomposition",
    "cross_validate",
    "debugkit",
    "learning_curve",
    "load_model",
    "read_journal",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
