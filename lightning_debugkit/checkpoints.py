"""Checkpoints that cannot be lost: rules of what to keep, durable writing, verification. The rules' public home."""

from lightning_debugkit.checkpointing.keep_reasons import kept
from lightning_debugkit.checkpointing.records import Moment, Record
from lightning_debugkit.checkpointing.retention_rules import Best, Every, KeepRule, Latest
from lightning_debugkit.checkpointing.rule_text import read_rules

__all__ = ["Best", "Every", "KeepRule", "Latest", "Moment", "Record", "kept", "read_rules"]
