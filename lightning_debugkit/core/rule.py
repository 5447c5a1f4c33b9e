"""The register of rules: what the kit can find, each declared once beside the code that finds it."""

from __future__ import annotations

import importlib
import pkgutil
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import percent

# What many rules can be a consequence of: steps that go astray, numbers that break, a training that teaches nothing.
WILD_STEPS = ("clipping-before-backward", "eval-mode-in-training", "stale-gradients", "update-ratio-high")
BROKEN_NUMBERS = (
    "clipping-before-backward", "eval-mode-in-training", "nonfinite-input", "stale-gradients", "update-ratio-high",
)  # fmt: skip
NO_LEARNING = (
    "clipping-before-backward", "clipping-scaled-gradients", "dead-units", "eval-mode-in-training",
    "gradients-cleared", "learning-rate-schedule", "saturated-units", "stale-gradients", "update-ratio-high",
)  # fmt: skip

DECLARED: dict[str, Rule] = {}  # by name, as far as their files are imported


class _Wording(string.Formatter):
    """``str.format`` with shares as the report writes them: ``{share:.0%}`` is ``16 %``."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if not format_spec.endswith("%"):
            return str(super().format_field(value, format_spec))
        sign = "+" if format_spec.startswith("+") and value > 0 else ""
        return sign + percent(value, int(format_spec.strip("+.%")))


_WORDING = _Wording()


@dataclass(frozen=True)
class Rule:
    """A kind of fault that the kit can find, declared once; what is not in here, nothing concludes from its name.

    Args:
        name: Stable kebab-case name.
        severity: How much it matters, unless the finder says otherwise.
        says: The message; ``{name}`` and ``{name:.3g}`` are filled from the evidence and the place.
        advice: What to do first; filled likewise.
        section: Key of the report's section that refers to its findings, such as ``gradients``; it may have none.
        cost: When it is looked for: at each ``step``, on ``sampled`` steps, or ``once``.
        can_follow: Names of rules that it can be a consequence of: those stand before it in a report. No rule may, over
            others, follow itself.
        on_data: It says something of the data rather than of the run.

    >>> hot = Rule("too-hot", Severity.WARNING, "{module} is at {degrees:.1f} degrees", "Cool {module}.")
    >>> finding = hot.found(Where(epoch=0, step=3, module="oven"), degrees=261.26)
    >>> finding.message, finding.advice
    ('oven is at 261.3 degrees', 'Cool oven.')
    """

    name: str
    severity: Severity
    says: str
    advice: str
    section: str = ""
    cost: Literal["step", "sampled", "once"] = "step"
    can_follow: tuple[str, ...] = ()
    on_data: bool = False

    def __post_init__(self) -> None:
        DECLARED.setdefault(self.name, self)  # one that is worded anew for a case is still the declared one

    def found(self, where: Where, /, *, severity: Severity | None = None, **evidence: Any) -> Finding:
        """Return the finding of this rule at ``where``, its wording filled from ``evidence``."""
        names = {"epoch": where.epoch, "step": where.step, "rank": where.rank, "module": where.module, **evidence}
        return Finding(
            rule=self.name,
            severity=self.severity if severity is None else severity,
            message=_WORDING.vformat(self.says, (), names),
            where=where,
            evidence=evidence,
            advice=_WORDING.vformat(self.advice, (), names),
            section=self.section,
            can_follow=self.can_follow,
            on_data=self.on_data,
        )


def every_rule() -> Mapping[str, Rule]:
    """Return the rules of the whole kit by name: each file that can declare one is imported."""
    own = f"{__name__.partition('.')[0]}."
    package = importlib.import_module(own[:-1])
    found: dict[str, Rule] = {}
    for module in pkgutil.walk_packages(package.__path__, own):
        if not module.name.startswith((f"{own}report", f"{own}stats", f"{own}demo", f"{own}cli", f"{own}__main__")):
            declared = vars(importlib.import_module(module.name)).values()
            found |= {each.name: DECLARED[each.name] for each in declared if isinstance(each, Rule)}
    return found
