"""The code behind the weights: commit, changes beyond it, what stands elsewhere than in the run before."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_debugkit.core.name_lists import begun, plural
from lightning_debugkit.report.number_formats import as_int, as_list, as_mapping, number, phrase, sentence
from lightning_debugkit.report.parts import Cell, Code, Details, Paragraph, Section, Table, table_of
from lightning_debugkit.report.summary import Summary

_FOLDER = "code"
_LONGEST = 60_000  # characters of a diff: a browser takes more, a reader does not
_ROWS = 60


def _parts(summary: Summary, folder: Path) -> Iterator[Paragraph | Table | Details | Code]:
    manifest = _read(folder / _FOLDER / "manifest.json")
    identity, source = as_mapping(manifest.get("identity")), as_mapping(manifest.get("source"))
    notes = [note for note in summary.notes if note.section == SECTION.key]
    if manifest:
        yield Paragraph(_said(identity, source, as_mapping(manifest.get("model")), is_noted=bool(notes)))
    for note in notes:
        said = sentence(note.message, 500)
        yield Paragraph(f"{begun(said)}. {note.advice}")
    if not manifest:
        return
    yield table_of("The code of this run", (), _facts(manifest))
    changed = [as_mapping(each) for each in as_list(identity.get("changed"))]
    if changed:
        yield _changed(changed, as_int(identity.get("changed_count"), len(changed)))
    patch = _text(folder / _FOLDER / "changes.patch")
    if patch:
        cut = f" (the first {_LONGEST:,} characters)" if len(patch) > _LONGEST else ""
        yield Details(f"The difference to the commit{cut}", (Code(patch[:_LONGEST]),))
    yield from _since(_read(folder / _FOLDER / "previous.json"))
    yield from _programs(summary)


def _files(count: int) -> str:
    return "source file" if count == 1 else f"{count} source files"


def _said(identity: Mapping[str, Any], source: Mapping[str, Any], model: Mapping[str, Any], is_noted: bool) -> str:
    """Return what the checkpoints carry, and how far the commit says the rest, unless a note is about that."""
    name, files = str(model.get("qualname") or "the model"), _files(len(as_list(source.get("files"))))
    # The manifests of before did not tell.
    if source.get("carried", source.get("present")):
        carried = f"Every checkpoint carries the {files} of this run; load_model rebuilds {name} from it"
    elif source.get("present"):
        carried = f"The checkpoints carry hashes of the {files} of this run, not the files"
    else:
        carried = f"The checkpoints carry no source of this run: {source.get('reason') or 'none was captured'}"
    if not identity.get("commit"):
        if is_noted:
            return f"{carried}."
        reason = identity.get("reason") or "there is no commit yet"
        return f"{carried}. No commit is recorded: {reason}."
    if identity.get("dirty"):
        count = as_int(identity.get("changed_count"), len(as_list(identity.get("changed"))))
        return f"{carried}. {plural(count, 'file')} differed from the commit."
    return f"{carried}. The working tree was clean."


def _facts(manifest: Mapping[str, Any]) -> Iterator[tuple[str, Cell | str]]:
    identity, tree = as_mapping(manifest.get("identity")), as_mapping(manifest.get("tree"))
    for name, value in (("run", manifest.get("id")), ("label", manifest.get("label")), ("note", manifest.get("note"))):
        if value:
            yield name, str(value)
    for name in ("commit", "branch", "describe", "remote"):
        # A describe without a tag is the commit once more.
        if identity.get(name) and (name == "commit" or not str(identity.get("commit")).startswith(str(identity[name]))):
            yield name, Cell(str(identity[name]), is_code=name == "commit")
    if tree.get("ref"):
        yield "kept as", Cell(str(tree["ref"]), is_code=True)
    model = as_mapping(manifest.get("model"))
    yield "model", Cell(f"{model.get('module')}.{model.get('qualname')}", is_code=True)
    if model.get("files"):
        yield "its files", Cell(phrase(as_list(model["files"])), is_code=True)
    command = as_list(as_mapping(manifest.get("environment")).get("arguments"))
    if command:
        yield "command", Cell(shlex.join(map(str, command)), is_code=True)


def _changed(changed: list[Mapping[str, Any]], count: int) -> Details:
    rows = tuple((Cell(str(each.get("path")), is_code=True), str(each.get("status"))) for each in changed[:_ROWS])
    more = f" (the first {_ROWS})" if count > _ROWS else ""
    return Details(f"{plural(count, 'file')} beyond the commit{more}", (table_of("Uncommitted", ("file", ""), rows),))


def _since(previous: Mapping[str, Any]) -> Iterator[Paragraph | Details]:
    if not previous:
        return
    rows = [tuple(map(str, as_list(row))) for row in as_list(previous.get("environment"))]
    told = f"the run before, {previous.get('id')}"
    if not rows:
        yield Paragraph(f"Python, packages and devices are those of {told}.")
        return
    table = table_of(
        f"Since {told}", ("", "then", "now"),
        ((text or "-" for text in row) for row in rows[:_ROWS] if len(row) == 3),
    )  # fmt: skip
    yield Details(f"{plural(len(rows), 'difference')} in the environment since {told}", (table,))


def _programs(summary: Summary) -> Iterator[Paragraph]:
    for event in summary.artifacts:
        if event.get("name") != "export":
            continue
        if event.get("path"):
            size = number(as_int(event.get("bytes")) / 1e6)
            fixed = phrase(event["fixed"]) if event.get("fixed") else ""
            only = f" The first dimension of its input must be {fixed}." if fixed else ""
            yield Paragraph(
                f"{event['path']} ({size} MB) runs without any code: torch.export.load(path).module().{only}"
            )
        else:
            yield Paragraph(f"No exported program was left: {event.get('reason')}.", is_problem=True)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return as_mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[: 4 * _LONGEST].decode("utf-8", "replace")
    except OSError:
        return ""


SECTION = Section("The code", order=70, parts=_parts, key="code")
