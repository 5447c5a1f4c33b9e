"""One run of a Trainer: its folder, its journal, its header and its end, shared by all kit callbacks in it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import lightning
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from lightning_debugkit.core.background_task import BackgroundTask
from lightning_debugkit.core.compat import both_packages, callbacks_of, datamodule_of, tree_leaves
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.host_copy import HostCopy
from lightning_debugkit.core.journal import Journal, read_journal
from lightning_debugkit.core.journal_writer import JournalWriter
from lightning_debugkit.core.optimizer_steps import steps_taken
from lightning_debugkit.core.optimizers import Parameters
from lightning_debugkit.core.run_folders import claim, fold, unfold

if TYPE_CHECKING:
    from lightning_debugkit.core.run_sinks import RunSinks

SHORT = 10.0  # seconds below which a healthy fit gets its report when it is asked for
_LATER = 1.0  # seconds after which what takes a child process is begun; many fits are over by then
_SECONDS = 3.0  # that git may take to name the commit
_STORES = ("MLFlowLogger", "CometLogger")  # their folders hold entries of their own, and nothing else

# Keyed by Trainer, not kept on it: the Trainer is the user's.
_runs: WeakKeyDictionary[Trainer, Run] = WeakKeyDictionary()
# Where this process has kept short fits that went well, and how many: what a person runs by hand keeps its
# folders, a back-test of dozens becomes lines of an index.
_places: Counter[Path] = Counter()
FOLDERS = 8


@dataclass(eq=False)
class Run:
    """The journal of one fit, and whether it has ended."""

    place: Path  # its folder; ask for `folder`, which brings it back if the run was folded into a line of the index
    rank: int  # process that writes
    facts: BackgroundTask | None = None  # asks the repository for what the run's header lacks
    began: float = field(default_factory=time.monotonic)
    first_step: int = 0  # optimizer steps that the Trainer had taken before this run
    alarmed: bool = False  # something was found that calls for action, or the kit has failed itself
    is_resumed: bool = False  # it went on from a checkpoint
    ended: bool = False
    written: int = 0
    rendered: int = -1
    said: str = ""
    sinks: RunSinks | None = None  # as long as nothing was told
    lost: int = 0
    line: str = ""
    is_replaying: bool = False
    clip_norm: Tensor | None = None  # as the last clipping by norm computed it
    wide_norms: dict[int, float] = field(default_factory=dict)  # by step: norms that 32 bits cannot hold
    is_trivial_told: bool = False  # that the model is no better than a constant answer: two callbacks can see it
    has_findings: bool = False  # of any severity
    trained: int | None = None  # optimizer steps of this run that had a gradient; None where nobody counts
    end_reason: str = ""  # why the kit itself ended the fit
    skipped: int = 0  # broken steps whose update was dropped and after which the run went on
    is_broken: bool = False  # one was reported and not dropped: what shows in the weights later has been told
    norms: tuple[Any, Any] | None = None  # of the step in progress: see `shared_norms`
    norm_readers: int = 0  # callbacks that ask for them
    company: list[int] = field(default_factory=list)  # ids of the callbacks of which it is known: they hold the Trainer
    is_interrupted: bool = False  # that one of the user's stands among ours, and may change gradients
    here: Where | None = None  # place of the batch in progress, where it has one step and up to its end
    parameters: Parameters = field(default_factory=Parameters)  # of each optimizer, for all who ask
    copies: HostCopy = field(default_factory=HostCopy)

    def __post_init__(self) -> None:
        self._writer = JournalWriter(Journal(self.place, self.rank), self._failed)

    @property
    def folder(self) -> Path:
        """The run folder."""
        if self.line:
            self.place, self.line = unfold(self.place.parent, self.line), ""
            self._writer = JournalWriter(Journal(self.place, self.rank), self._failed)
        return self.place

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return round(time.monotonic() - self.began, 1)

    def append(self, kind: str, **fields: Any) -> None:
        """Write one event; a disk that is full or gone is said once and never ends the training."""
        try:
            if self.line:
                _ = self.folder
            self._writer.append({"kind": kind, **fields})
            self.written += 1
        except OSError as error:
            self._failed(error)

    def measure(self, where: Where, values: Mapping[str, Any]) -> None:
        """Take a point of each of some series, while training runs."""
        self._writer.take(where, values)
        self.written += len(values)

    def _failed(self, error: OSError) -> None:
        self.lost += 1
        if self.lost == 1:
            warnings.warn(
                f"lightning-debugkit cannot write its journal in {self.place} ({error}): "
                "training goes on, but the report will lack what is not written.",
                stacklevel=3,
            )

    def saw(self, finding: Finding) -> None:
        """Write ``finding``."""
        self.has_findings = True
        self.alarmed = self.alarmed or finding.severity >= Severity.WARNING
        self.append(**finding.to_event())

    def is_alarmed(self, world_size: int) -> bool:
        """Tell whether this or another rank found what calls for action."""
        if world_size > 1 and not self.alarmed:
            try:
                self.alarmed = any(f.severity >= Severity.WARNING for f in read_journal(self.place).findings)
            except OSError:
                self.alarmed = True
        return self.alarmed

    def flush(self) -> None:
        """Write what waits to be written."""
        try:
            self._writer.flush()
        except OSError as error:
            self._failed(error)

    def settle(self) -> None:
        """Wait for what is asked for beside the steps."""
        if self.facts is not None:
            self.facts.now()

    def close(self, is_plain: bool) -> None:
        """Give the journal's file back; keep a run that was short and well as a line of an index.

        Args:
            is_plain: It may be kept so: nothing was found, and nobody asked for its report.
        """
        if self.facts is not None:
            self.facts.drop()
        try:
            self._writer.close()
            if is_plain and not self.line:
                # The first ones of a program keep their folders: two programs of one moment have one each.
                base = self.place.parent
                self.line = fold(self.place) if _places[base] >= FOLDERS and not self.has_findings else ""
                _places[base] += 1
        except OSError as error:
            self._failed(error)


def current_run(trainer: Trainer) -> Run | None:
    """Return the run that a kit callback opened for ``trainer``, if any."""
    return _runs.get(trainer)


def stop(trainer: Trainer, why: str) -> None:
    """End the fit in order, as early stopping does."""
    trainer.should_stop = True
    if (run := current_run(trainer)) is not None:
        run.end_reason = why


def open_run(trainer: Trainer, module: LightningModule) -> Run:
    """Return the open run of ``trainer``, a new one in a folder of its own if there is none.

    Every rank must call this at the same place: the folder is agreed on.
    """
    run = _runs.get(trainer)
    if run is None or run.ended:
        base = _base(trainer)
        folder = _claim(base.absolute()) if trainer.is_global_zero else ""
        folder = trainer.strategy.broadcast(folder)
        run = _runs[trainer] = Run(Path(folder), trainer.global_rank, first_step=steps_taken(trainer))
        root = _root(module) if trainer.is_global_zero else None
        run.append("run", **_header(trainer, module, root))
        if trainer.is_global_zero:
            run.facts = BackgroundTask(lambda: _tell_facts(run, root), _LATER)
    return run


def _tell_facts(run: Run, root: Path | None) -> None:
    """Journal commit and state of the repository: git is asked beside the steps."""
    commit, dirty = _commit(root) if root is not None else (None, None)
    if commit is not None:
        run.append("facts", rank=run.rank, commit=commit, dirty=dirty)


def _base(trainer: Trainer) -> Path:
    """Return where the folder of this run belongs: in the folder that its logger made for this run alone, if any.

    What other loggers name is the folder of all runs, often a store in which every entry means something to them.
    """
    logger = trainer.logger
    if isinstance(logger, both_packages(TensorBoardLogger, CSVLogger)):
        # trainer.log_dir is a collective: ask here, in setup, where every rank does.
        return Path(trainer.log_dir or trainer.default_root_dir)
    base = Path(trainer.default_root_dir)
    stores = [each.save_dir for each in trainer.loggers if type(each).__name__ in _STORES]
    if any(store and Path(store).resolve() == base.resolve() for store in stores):
        return base.absolute().parent
    return base


def _claim(base: Path) -> str:
    """Make and return a folder that no other run has: ``debugkit``, else ``debugkit-1`` and so on.

    It is claimed by making the journal in it, which the file system lets one of all processes do.
    """
    try:
        base.mkdir(parents=True, exist_ok=True)
        return str(claim(base))
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="lightning-debugkit-"))
        warnings.warn(
            f"lightning-debugkit cannot make a run folder in {base} ({error}); it writes to {folder} instead.",
            stacklevel=2,
        )
        return str(folder)


def _header(trainer: Trainer, module: LightningModule, root: Path | None) -> dict[str, Any]:
    seed = os.environ.get("PL_GLOBAL_SEED")
    return {
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
        "first_step": steps_taken(trainer),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seed": int(seed) if seed and seed.isdigit() else None,
        "commit": _known_commit(root),
        "dirty": None,
        "versions": {
            "lightning_debugkit": _version(),
            "lightning": lightning.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "callbacks": _company(trainer),
        "config": {
            "model": type(module).__name__,
            "parameters": sum(p.numel() for p in module.parameters() if not torch.nn.parameter.is_lazy(p)),
            "strategy": type(trainer.strategy).__name__,
            "precision": str(trainer.precision),
            "max_epochs": trainer.max_epochs,
            "max_steps": trainer.max_steps,
            "accumulate_grad_batches": trainer.accumulate_grad_batches,
            "gradient_clip_val": trainer.gradient_clip_val,
            "automatic_optimization": module.automatic_optimization,
            **_hyper_parameters(trainer, module),
        },
    }


def _hyper_parameters(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Return what module and datamodule saved as such; nothing where they saved none."""
    from lightning_debugkit.provenance.snapshot.run_facts import flat_hyper_parameters

    holders = {"hyper_parameters": module, "data_hyper_parameters": datamodule_of(trainer)}
    found = {}
    for name, holder in holders.items():
        with contextlib.suppress(Exception):  # the user's own objects are asked
            if holder is not None and holder.hparams:
                found[name] = flat_hyper_parameters(holder.hparams)
    return found


def tell_batch_size(trainer: Trainer, run: Run) -> None:
    """Journal how many samples the loaders of training say that a batch has, if each says it."""
    with contextlib.suppress(Exception):  # the user's own objects are asked
        sizes = [batch_size_of(loader) for loader in tree_leaves(trainer.train_dataloader)]
        if sizes and None not in sizes:
            run.append("facts", rank=run.rank, batch_size=sizes[0] if len(sizes) == 1 else sizes)


def batch_size_of(loader: Any) -> int | None:
    """Return how many samples a loader says that a batch has, ``None`` if it does not say."""
    holders = (loader, getattr(loader, "batch_sampler", None))
    return next((size for each in holders if isinstance(size := getattr(each, "batch_size", None), int)), None)


def _company(trainer: Trainer) -> list[str]:
    """Return the names of the kit's callbacks that look at this run."""
    ours = [c for c in callbacks_of(trainer) if hasattr(c, "gives_way")]
    return [type(callback).__name__ for callback in ours if not callback.gives_way(trainer)]


@functools.cache
def _version() -> str:
    try:
        return metadata.version("lightning-debugkit")
    except metadata.PackageNotFoundError:
        return "unknown"


def _known_commit(root: Path | None) -> str | None:
    """Return the commit of a project, if it can be read without git."""
    try:
        from lightning_debugkit.provenance.repository.commit_facts import (
            bare_identity,  # late, as is all that asks for the project
        )

        return (bare_identity(root) or {}).get("commit") if root is not None else None
    except Exception:
        return None


def _root(module: LightningModule) -> Path | None:
    try:
        from lightning_debugkit.provenance.capture.project_modules import main_file, project_root

        return project_root(type(module), main_file())
    except Exception:
        return None


def _commit(root: Path) -> tuple[str | None, bool | None]:
    """Return the commit of a project and whether tracked files differ from it, if git can tell."""
    from lightning_debugkit.provenance.repository import git
    from lightning_debugkit.provenance.repository.status import look

    try:
        with git.open_repository(root, _SECONDS) as repository:
            status = look(repository).status
            return status.commit, any(entry.status != "untracked" for entry in status.entries)
    except Exception:  # no git, no repository, no commit yet, foreign owner: each is a plain "unknown"
        return None, None
