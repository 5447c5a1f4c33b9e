"""What the command line says about the code behind a checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.core.name_lists import plural
from lightning_debugkit.provenance.capture.notebook_cells import CELLS
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.comparison import CodeComparison

_SAID = {"identical": "identical", "cosmetic": "changed in comments and docstrings only", "changed": "changed"}


def shown_code(manifest: Manifest, source: bytes | None) -> str:
    """Return what a manifest says, as lines of text."""
    facts = [
        ("run", " ".join(filter(None, (manifest.id, str(manifest.data.get("label") or ""))))),
        ("note", manifest.data.get("note")),
        ("captured", manifest.data.get("captured")),
        ("model", f"{manifest['model'].get('module')}.{manifest['model'].get('qualname')}"),
        ("its files", ", ".join(manifest.model_files)),
        ("commit", _commit(manifest["identity"])),
        ("tree", _of(manifest["tree"], "ref")),
        ("source", _source(manifest, source)),
        ("python", manifest["environment"].get("python")),
        ("torch", manifest["environment"].get("torch")),
        ("devices", ", ".join(map(str, manifest["environment"].get("devices") or ())) or "CPU"),
        ("command", shlex.join(map(str, manifest["environment"].get("arguments") or ()))),
        ("seed", manifest["run"].get("seed")),
        ("hyper-parameters", _pairs(manifest["run"].get("hyper_parameters"))),
        ("checkpoint", _checkpoint(manifest["checkpoint"])),
    ]
    told = [(name, _plain(value)) for name, value in facts if value not in (None, "")]
    width = max(len(name) for name, _ in told)
    skipped = [
        f"{'left out':<{width}}  {_plain(each.get('path'))}: {_plain(each.get('reason'))}"
        for part in ("source", "tree")
        for each in manifest[part].get("skipped", ())
        if isinstance(each, Mapping)
    ]
    return "\n".join([*(f"{name:<{width}}  {value}" for name, value in told), *dict.fromkeys(skipped)])


def code_verdict(comparison: CodeComparison, root: Path) -> str:
    """Return in words what `compare` found."""
    lines = [f"The model's code is {_SAID[comparison.model]}, the other files are {_SAID[comparison.others]} ({root})."]
    unlike = [each for each in comparison.files if each.verdict != "identical"]
    if comparison.files and all(each.verdict == "missing" for each in comparison.files):
        first = min((each.path for each in comparison.files), key=lambda path: (path.count("/"), path))
        lines.append(f"None of its files is there: give the folder that held {_plain(first)}.")
    lines += [f"{each.verdict:<9} {each.path}{' (model)' if each.is_model else ''}" for each in unlike]
    return "\n".join(lines)


def rerun_command(manifest: Manifest, folder: Path, checkpoint: str) -> str:
    """Return the command that runs a restored project again."""
    main = manifest["source"].get("main")
    arguments = [str(each) for each in manifest["environment"].get("arguments") or ()]
    if not main or main == CELLS:
        return (
            f'load_model({checkpoint!r}, code="snapshot", trust_code=True)  # in Python: the run was started from '
            "a notebook or a shell"
        )
    module = manifest["environment"].get("module")
    started = ["-m", str(module)] if module else [str(main)]
    # The folder of a script is on its import path anyway; that of a module that runs is not, and must not be.
    own = str(main).rpartition("/")[0]
    roots = [str(root) for root in manifest["source"].get("import_roots") or () if root and root != own]
    path = f"PYTHONPATH={shlex.quote(':'.join(roots))} " if roots else ""
    return f"cd {shlex.quote(str(folder.resolve()))} && {path}python {shlex.join([*started, *arguments[1:]])}"


def harmless(line: str) -> str:
    """Return a line of code with control characters spelt out: code from elsewhere must not steer a terminal."""
    return "".join(char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line)


def _commit(identity: Mapping[str, Any]) -> str:
    if not identity.get("commit"):
        return f"none: {identity.get('reason', 'not born yet')}"
    where = f" on {identity['branch']}" if identity.get("branch") else ""
    count = identity.get("changed_count") or 0
    dirty = f", {plural(count, 'file')} changed" if identity.get("dirty") else ", clean"
    remote = f", {identity['remote']}" if identity.get("remote") else ""
    return f"{identity['commit']}{where}{dirty}{remote}"


def _of(part: Mapping[str, Any], name: str) -> str:
    return str(part.get(name)) if part.get("present") else f"none: {part.get('reason', 'not captured')}"


def _source(manifest: Manifest, source: bytes | None) -> str:
    files = manifest.files
    size = sum(int(file["bytes"]) for file in files)
    packed = "not in the checkpoint" if source is None else f"{len(source):,} bytes in the checkpoint"
    return f"{plural(len(files), 'file')}, {size:,} bytes, {packed}; of {manifest['source'].get('root')}"


def _checkpoint(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    metrics = _pairs(facts.get("metrics"))
    drifted = ", ".join(map(str, facts.get("drifted") or ()))
    told = [f"epoch {facts.get('epoch')}, step {facts.get('step')}", metrics, drifted and f"changed on disk: {drifted}"]
    return "; ".join(filter(None, told))


def _pairs(held: Any) -> str:
    return ", ".join(f"{key}={value}" for key, value in held.items()) if isinstance(held, Mapping) else ""


def _plain(value: Any) -> str:
    """Return text on one line without control characters: a manifest from elsewhere must not steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in str(value))[:2000]
