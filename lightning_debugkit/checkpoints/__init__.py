"""Checkpoints that cannot be lost: rules of what to keep, durable writing, verification. No Lightning in here."""

from lightning_debugkit.checkpoints.records import Moment, Record
from lightning_debugkit.checkpoints.retention import kept
from lightning_debugkit.checkpoints.rules import Best, Every, KeepRule, Latest
from lightning_debugkit.checkpoints.spelling import read_rules

__all__ = ["Best", "Every", "KeepRule", "Latest", "Moment", "Record", "kept", "read_rules"]
