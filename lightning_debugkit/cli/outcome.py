"""What commands of the command line return, and how they print a finding."""

from __future__ import annotations

from lightning_debugkit.core.finding import Finding

Told = tuple[str, int]  # what to print, and the exit status


def lines_of(finding: Finding) -> list[str]:
    """Return a finding as lines to print."""
    source = finding.evidence.get("source")
    entries = finding.evidence.get("dataset_indices")
    return [
        f"{finding.severity}: {finding.rule}: {finding.message}",
        *([f"  at      {source}"] if source else []),
        *([f"  dataset entries {', '.join(map(str, entries))}"] if entries else []),
        f"  advice  {finding.advice}",
    ]
