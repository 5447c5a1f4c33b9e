"""Load a model with the code it was trained with, while the code of now stays what it is."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from lightning_debugkit.checkpointing.find_checkpoints import at_hand
from lightning_debugkit.checkpointing.shard_metadata import NotWhole, is_sharded_file
from lightning_debugkit.checkpointing.sharded_weights import load_sharded
from lightning_debugkit.core.arguments import Needs
from lightning_debugkit.core.compat import BUILDER, LightningModule
from lightning_debugkit.core.name_lists import listed
from lightning_debugkit.core.weight_names import fit_names
from lightning_debugkit.provenance.capture.left_out import known_files, with_unchanged, writable
from lightning_debugkit.provenance.capture.locating import file_of
from lightning_debugkit.provenance.carried.archive import Archive
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.carried.read_checkpoint import read_snapshot
from lightning_debugkit.provenance.diff.comparison import CodeComparison, verdicts
from lightning_debugkit.provenance.diff.current_code import appeared, defines, reader
from lightning_debugkit.provenance.load_model.import_context import import_context, show_imported
from lightning_debugkit.provenance.load_model.isolated import IsolatedModel, command_line_of
from lightning_debugkit.provenance.load_model.load_request import Request, demand_plain, demand_trust, whence
from lightning_debugkit.provenance.load_model.main_module import mount_snapshot
from lightning_debugkit.provenance.load_model.private_import import Captured, LeftOut

Code = Literal["snapshot", "current", "auto"]


def load_model(
    ckpt: str | Path,
    code: Code = "auto",
    trust_code: bool = False,
    isolated: bool = False,
    map_location: Any = "cpu",
    strict: bool | None = None,
    **hyper_parameters: Any,
) -> LightningModule | IsolatedModel:
    """Return the model of a checkpoint that `CodeSnapshot` has marked, with its weights.

    A model that learned a `ClassSubset` has a ``class_mapping``: the label in the whole dataset of each of its classes.

    The captured code is imported under a private name: the packages of now, changed since or not, live on beside it,
    and so do other snapshots. It is the user's code and runs with the user's rights: load it from people you trust.

    Args:
        ckpt: The checkpoint file, or the folder of a sharded checkpoint, also by the URL of an object store.
        code: ``snapshot``: as it was trained. ``current``: the classes of now. ``auto``: those of now if the model's
            files are the same program, else the snapshot, with a warning.
        trust_code: Let captured code run and classes be unpickled.
        isolated: Run the snapshot in a process of its own; returns an `IsolatedModel`.
        map_location: Where the weights go, as for `torch.load`.
        strict: Whether the weights must fit exactly; as the model says if not given.
        **hyper_parameters: Arguments of the model that replace those in the checkpoint.

    Raises:
        ValueError: The checkpoint cannot be loaded this way; the message says what can be done.
    """
    if code not in ("snapshot", "current", "auto"):
        raise ValueError(f"load_model needs code to be snapshot, current or auto, got {code!r}; take auto.")
    if isolated and code == "current":
        raise ValueError("load_model needs code=\"snapshot\" for isolated=True, got 'current'; leave one of them out.")
    for name, given in (("trust_code", trust_code), ("isolated", isolated)):
        Needs("load_model").switch(name, given, "the text 'False' would be a yes")
    if not isinstance(ckpt, str | os.PathLike):
        raise ValueError(f"load_model needs the path of a checkpoint, got {ckpt!r}.")
    with at_hand(ckpt) as path:
        if path.is_dir() and not is_sharded_file(path):
            if held := sorted(each.name for each in path.glob("*.ckpt")):
                raise ValueError(
                    f"load_model needs one checkpoint, got the folder {str(ckpt)!r} of {len(held)}; "
                    f"name the file, such as {str(Path(ckpt) / held[0])!r}."
                )
            raise ValueError(
                f"load_model needs a checkpoint file or the folder of a sharded one, got {str(ckpt)!r} without meta.pt "
                "and .metadata; of DeepSpeed's, lightning.pytorch.utilities.deepspeed makes a file with "
                "convert_zero_checkpoint_to_fp32_state_dict."
            )
        request = Request(str(ckpt), path, *read_snapshot(path), map_location, strict, hyper_parameters)
        return _model(request, code, trust_code, isolated)


def _model(request: Request, code: Code, trust_code: bool, isolated: bool) -> LightningModule | IsolatedModel:
    if "<locals>" in request.qualname:
        raise ValueError(
            f"load_model needs a class that its module has a name for, got {request.qualname} within a function; "
            "restore the sources and build it there, or name it at the top level of its file for the next run."
        )
    if isolated or code == "snapshot":
        demand_trust(trust_code, request, "")
        return _isolated(request) if isolated else _from_snapshot(request)
    if code == "auto":
        snapshot_because = _why_snapshot(request)
        if snapshot_because:
            demand_trust(trust_code, request, snapshot_because)
            model = _from_snapshot(request)
            warnings.warn(f"{request.path.name} is loaded with its snapshot: {snapshot_because}.", stacklevel=3)
            return model
    return _from_current(request, trust_code)


def compare_with_current(manifest: Manifest, archive: Archive | None) -> CodeComparison:
    """Compare the captured code with what an import would find now."""
    contents = archive.contents if archive is not None else {}
    needed = str(manifest["model"].get("qualname") or "")
    return verdicts(known_files(manifest), contents, reader(manifest), set(manifest.model_files), needed=needed)


def _why_snapshot(request: Request) -> str:
    """Return why the code of now will not do, empty if it will."""
    comparison = compare_with_current(request.manifest, request.archive() if request.source is not None else None)
    if comparison.model == "changed":
        files = comparison.model_changes
        return f"{listed(files, 5)} {'has' if len(files) == 1 else 'have'} changed since or cannot be found"
    if request.source is not None and (names := appeared(request.manifest, request.archive().contents)):
        return f"{', '.join(names[:5])}, which its code tries to import, has appeared since"
    if request.module == "__main__" and _living_class(request) is None:
        return f"{request.qualname} was defined in a script or notebook that is not the one running"
    return ""


def _living_class(request: Request) -> Any:
    return _within(sys.modules.get(request.module), request.qualname)


def _within(module: Any, qualname: str) -> Any:
    for name in qualname.split("."):
        module = getattr(module, name, None)
    return module


def _from_current(request: Request, trust_code: bool) -> LightningModule:
    model_class = _living_class(request)
    if model_class is None:
        # A name in a file must not make us import just anything.
        if request.module == "__main__" or not (trust_code or _is_as_captured(request)):
            raise _no_class(request)
        try:
            importlib.import_module(request.module)
        except ModuleNotFoundError as error:
            if not error.name or not f"{request.module}.".startswith(f"{error.name}."):
                raise  # the user's own module lacks another
            raise _no_class(request) from error
        model_class = _living_class(request)
    if not trust_code:
        demand_plain(request)
    return _load(_checked(model_class, request), request, weights_only=not trust_code)


def _no_class(request: Request) -> ValueError:
    return ValueError(
        f"load_model needs {request.module}.{request.qualname} of now, got no such class, or another file than "
        'the captured one; import what defines it first, or load with code="snapshot".'
    )


def _is_as_captured(request: Request) -> bool:
    """Tell whether the module to import is the very file that was captured: a name alone may be anybody's script."""
    place = file_of(request.module)
    hashes = {str(file["sha256"]) for file in known_files(request.manifest) if file.get("module") == request.module}
    try:
        is_same = place is not None and hashlib.sha256(place.read_bytes()).hexdigest() in hashes
    except OSError:
        return False
    return is_same and defines(request.module, request.qualname)


def _from_snapshot(request: Request) -> LightningModule:
    captured = mount_snapshot(request.manifest, request.archive())
    try:
        with import_context(captured, command_line_of(request.manifest) if captured.main else ()):
            found = _within(_module_of(request, captured), request.qualname)
            show_imported(captured)
            return _load(_checked(found, request), request, weights_only=False)
    except LeftOut as error:
        raise ValueError(
            f"load_model needs all files of the model, got a snapshot without one: {error} Put it on the import path "
            "as it was; the rest is taken from the snapshot."
        ) from error


def _module_of(request: Request, captured: Captured) -> Any:
    module = request.module
    if captured.has(module) or (module == "__main__" and captured.main is not None):
        return captured.module(module)
    if module != "__main__" and captured.owns(module):
        captured.spec(module)  # which says why, if it knows
    if module == "__main__" or captured.owns(module):
        raise ValueError(
            f"load_model needs the source of {module}, got a snapshot without it; its class "
            f"{request.qualname} can be loaded with the code of then{whence(request.manifest)} only."
        )
    try:
        return importlib.import_module(module)  # an installed library's class
    except ImportError as error:
        raise ValueError(
            f"load_model needs {module}, which the snapshot does not hold, got {type(error).__name__}: {error}; "
            "install the library that has it."
        ) from error


def _checked(found: Any, request: Request) -> type[LightningModule]:
    if not isinstance(found, type) or not hasattr(found, "load_from_checkpoint"):
        raise ValueError(
            f"load_model needs a LightningModule as {request.module}.{request.qualname}, got {found!r}; the class may "
            "be made at run time, so that its source does not name it."
        )
    return found


def _load(model_class: type[LightningModule], request: Request, weights_only: bool) -> LightningModule:
    options: dict[str, Any] = dict(request.hyper_parameters)
    if weights_only:
        options[BUILDER] = None  # whatever the file says, in whichever form
    try:
        where, strict = request.map_location, request.strict
        with _fitting(model_class):
            model = load_sharded(model_class, request.path, weights_only, map_location=where, strict=strict, **options)
    except NotWhole as error:
        raise ValueError(f"load_model needs a model that one process holds, got {request.named!r}: {error}.") from error
    if request.class_mapping:
        vars(model)["class_mapping"] = request.class_mapping
    return model


@contextlib.contextmanager
def _fitting(model_class: type[LightningModule]) -> Iterator[None]:
    """Let names of weights that have only a known prefix more, or less, than the model's be the model's."""
    own, usual = vars(model_class).get("load_state_dict"), model_class.load_state_dict

    def load_state_dict(self: LightningModule, state_dict: Any, strict: bool = True, **options: Any) -> Any:
        handle = fit_names(self, strict)
        try:
            return usual(self, state_dict, strict=strict, **options)
        finally:
            handle.remove()

    setattr(model_class, "load_state_dict", load_state_dict)  # noqa: B010 - mypy takes a method for final
    try:
        yield
    finally:
        if own is None:
            del model_class.load_state_dict
        else:
            setattr(model_class, "load_state_dict", own)  # noqa: B010 - the same


def _isolated(request: Request) -> IsolatedModel:
    model = IsolatedModel(
        request.path,
        request.manifest,
        writable(with_unchanged(request.archive(), request.manifest)[0]),
        map_location=request.map_location,
        strict=request.strict,
        hyper_parameters=request.hyper_parameters,
    )
    model.class_mapping = request.class_mapping
    return model
