"""All callbacks of the kit at once: once this is imported, YAML may name each by its class alone."""

from lightning_debugkit.checkpointing.callback import NestedCheckpoint
from lightning_debugkit.checkpointing.resume.callback import ExactResume
from lightning_debugkit.core.reporting import Reporting
from lightning_debugkit.data.callback import DataCheck
from lightning_debugkit.evaluation.bias_variance.callback import BiasVarianceReport
from lightning_debugkit.evaluation.error_analysis.callback import ErrorAnalysis
from lightning_debugkit.monitors.activations.callback import ActivationMonitor
from lightning_debugkit.monitors.callback import GradientAnomalyDetector
from lightning_debugkit.monitors.clipping.callback import GradientClippingMonitor
from lightning_debugkit.preflight.callback import PreflightCheck
from lightning_debugkit.preset_callback import Preset
from lightning_debugkit.provenance.callback import CodeSnapshot

__all__ = [
    "ActivationMonitor",
    "BiasVarianceReport",
    "CodeSnapshot",
    "DataCheck",
    "ErrorAnalysis",
    "ExactResume",
    "GradientAnomalyDetector",
    "GradientClippingMonitor",
    "NestedCheckpoint",
    "PreflightCheck",
    "Preset",
    "Reporting",
]
