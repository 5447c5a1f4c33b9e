"""What the Trainer's loggers are given, through the public interface of each."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity

_FIGURE = re.compile(r"!\[([^\]]*)\]\([^)]*\)")
_MOCK = "DummyLogger"  # of fast_dev_run: it takes everything and keeps nothing


class LoggerSink:
    """Any logger with the interface of Lightning's: it takes numbers alone, and only where they are asked for.

    A finding is a point then, named after its rule. What a program reads of its own metrics stays what it was, else.

    Scalars come as often as Lightning logs those of training, and at the same steps: the latest value of each.
    """

    def __init__(self, logger: Any, takes_all: bool = False, every: int = 1) -> None:
        self.logger = logger
        self.takes_all = takes_all  # it gets scalars and figures, too
        self.every = every  # steps between two rows of training metrics, `log_every_n_steps`; 0 if there are none
        self.told: list[Finding] = []
        self.rows: dict[int, dict[str, float]] = {}  # not logged yet, by the step of Lightning's own
        self.newest = -1

    def __str__(self) -> str:
        return type(self.logger).__name__

    def finding(self, finding: Finding) -> None:
        """Log ``finding`` if it calls for action."""
        if finding.severity >= Severity.WARNING:
            self.told.append(finding)
            self.tell(finding)

    def measure(self, name: str, value: Any, step: int) -> None:
        """Keep the scalars of a measure for the next row, if scalars are asked for."""
        if not (self.takes_all and self.every):
            return
        row = step // self.every * self.every + self.every - 1  # Lightning logs after every n-th step
        self.newest = max(self.newest, row)
        self._log(held for held in self.rows if held not in (row, self.newest))  # some measures come late, in a block
        self.rows.setdefault(row, {}).update(scalars(name, value))

    def end(self, step: int) -> None:
        """Log the rows that ``step`` steps, all there are, have reached."""
        self._log(row for row in self.rows if row < step)

    def _log(self, rows: Iterable[int]) -> None:
        for row in list(rows):
            if found := self.rows.pop(row):
                self.logger.log_metrics(found, step=row)

    def artifact(self, path: Path, figures: Mapping[str, Any]) -> None:
        """Log report and figures."""
        self.report(path)
        if self.takes_all:
            for name, figure in figures.items():
                self.figure(name, figure)

    @property
    def step(self) -> int:
        """Step of the last finding, for what belongs to no step."""
        return self.told[-1].where.step if self.told else 0

    def tell(self, finding: Finding) -> None:
        if self.takes_all:
            self.logger.log_metrics({f"debugkit/{finding.rule}": float(finding.severity)}, step=finding.where.step)

    def report(self, path: Path) -> None:
        """Where only numbers are taken, the report stays in the run folder."""

    def figure(self, name: str, figure: Any) -> None:
        """Nor is there a place for figures."""


class TensorBoard(LoggerSink):
    """Findings and the report as texts (tab *Text*), figures as images."""

    def tell(self, finding: Finding) -> None:
        self.logger.experiment.add_text(f"debugkit/{finding.rule}", finding_as_markdown(finding), finding.where.step)
        self.logger.experiment.flush()

    def report(self, path: Path) -> None:
        # It shows neither HTML nor figures of a folder: what is folded stays there, and of a figure its words.
        text = _FIGURE.sub(r"\1", path.with_suffix(".md").read_text(encoding="utf-8").partition("\n<details>")[0])
        self.logger.experiment.add_text("debugkit/report", f"{text}\n\nThe whole report: `{path}`", self.step)
        self.logger.experiment.flush()

    def figure(self, name: str, figure: Any) -> None:
        self.logger.experiment.add_figure(f"debugkit/{name}", figure, self.step)


class WeightsAndBiases(LoggerSink):
    """Findings as alerts and a table that grows, the report as an artifact, figures as images."""

    def tell(self, finding: Finding) -> None:
        level = "ERROR" if finding.severity >= Severity.ERROR else "WARN"
        self.logger.experiment.alert(
            title=f"{finding.rule} at step {finding.where.step}", text=finding_as_text(finding), level=level
        )
        rows = [[str(f.severity), f.rule, f.where.step, f.message, f.advice] for f in self.told]
        columns = ["severity", "rule", "step", "message", "advice"]
        self.logger.log_text(key="debugkit/findings", columns=columns, data=rows, step=finding.where.step)

    def report(self, path: Path) -> None:
        run = self.logger.experiment
        run.log_artifact(str(path), name=f"debugkit-report-{run.id}", type="report")

    def figure(self, name: str, figure: Any) -> None:
        self.logger.log_image(key=f"debugkit/{name}", images=[as_image(figure)], step=self.step)


class MLflow(LoggerSink):
    """Findings as one Markdown artifact that grows and a tag for each, the report and figures as artifacts."""

    def tell(self, finding: Finding) -> None:
        client, run = self.logger.experiment, self.logger.run_id
        client.set_tag(run, f"debugkit.{finding.rule}", finding.message[:500])
        client.log_text(run, "\n\n".join(map(finding_as_markdown, self.told)) + "\n", "debugkit/findings.md")

    def report(self, path: Path) -> None:
        self.logger.experiment.log_artifact(self.logger.run_id, str(path), "debugkit")

    def figure(self, name: str, figure: Any) -> None:
        self.logger.experiment.log_figure(self.logger.run_id, figure, f"debugkit/figures/{name}.png")


class Comet(LoggerSink):
    """Findings as texts, the report as an asset, figures as figures."""

    def tell(self, finding: Finding) -> None:
        metadata = {"rule": finding.rule, "severity": str(finding.severity)}
        self.logger.experiment.log_text(finding_as_text(finding), step=finding.where.step, metadata=metadata)

    def report(self, path: Path) -> None:
        self.logger.experiment.log_asset(str(path), file_name="debugkit/report.html", step=self.step)

    def figure(self, name: str, figure: Any) -> None:
        self.logger.experiment.log_figure(figure_name=f"debugkit/{name}", figure=figure, step=self.step)


# By class name, so that neither of Lightning's two packages, nor any logger's, is imported; subclasses are theirs, too.
_KINDS: dict[str, type[LoggerSink]] = {
    "TensorBoardLogger": TensorBoard,
    "WandbLogger": WeightsAndBiases,
    "MLFlowLogger": MLflow,
    "CometLogger": Comet,
}


def logger_sinks(loggers: Iterable[Any], takes_all: bool = False, every: int = 1) -> Iterator[LoggerSink]:
    """Yield a place for each of the Trainer's loggers."""
    for logger in loggers:
        names = [kind.__name__ for kind in type(logger).__mro__]
        if _MOCK not in names:
            yield next((_KINDS[name] for name in names if name in _KINDS), LoggerSink)(logger, takes_all, every)


def scalars(name: str, value: Any) -> dict[str, float]:
    """Return the scalars that a measure of the journal is in a logger, none if it is not meant for one.

    >>> scalars("gradient-norms", {"head.weight": 3.0, "head.bias": 4.0})["debugkit/grad_norm"]
    5.0
    >>> scalars("clipping", {"norm": 4.0, "after": 1.0, "threshold": 1.0})
    {'debugkit/clip_coefficient': 0.25, 'debugkit/grad_norm_before_clipping': 4.0}
    """
    if name == "gradient-norms":
        layers: dict[str, list[float]] = {}
        for parameter, norm in value.items():
            layers.setdefault(parameter.rpartition(".")[0], []).append(float(norm))
        norms = {layer: math.hypot(*each) for layer, each in layers.items()}
        return {"debugkit/grad_norm": math.hypot(*norms.values())} | _prefixed("grad_norm", norms)
    if name == "clipping" and value.get("norm"):
        norm, after = float(value["norm"]), float(value["after"])
        return {"debugkit/clip_coefficient": after / norm, "debugkit/grad_norm_before_clipping": norm}
    if name == "activation-scale":
        return _prefixed("activation_scale", value)
    return {}


def _prefixed(name: str, value: Mapping[str, Any]) -> dict[str, float]:
    return {
        f"debugkit/{name}/{key}": float(item) for key, item in value.items() if key and isinstance(item, int | float)
    }


def finding_as_text(finding: Finding) -> str:
    """Return ``finding`` as two lines of text."""
    return f"{finding.severity} {finding.rule}: {finding.message}\n{finding.advice}"


def finding_as_markdown(finding: Finding) -> str:
    """Return ``finding`` as two paragraphs of Markdown."""
    place = f"{finding.severity}, epoch {finding.where.epoch}, step {finding.where.step}"
    at = f", `{finding.where.module}`" if finding.where.module else ""
    return f"**{finding.rule}** ({place}{at}): {finding.message}\n\n{finding.advice}"


def as_image(figure: Any) -> Any:
    """Return a `matplotlib` figure as a picture, which every version of W&B takes."""
    import io

    from PIL import Image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    return Image.open(file)
