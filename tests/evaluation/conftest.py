"""Fits on one thread, without a report unless it is the point."""

from __future__ import annotations

from fitting import _one_thread, no_code, no_report, project, with_report  # noqa: F401 - fixtures
