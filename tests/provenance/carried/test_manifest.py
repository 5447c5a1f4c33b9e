"""A manifest is read back as it was written, and anything else is refused in one sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_debugkit.provenance.carried.manifest import (
    FORMAT,
    KEY,
    Malformed,
    Manifest,
    NoSnapshot,
    embedded,
    taken_from,
)

FILE = {"path": "pkg/model.py", "sha256": "0" * 64, "bytes": 3, "kind": "module", "module": "pkg.model"}
WHOLE = {
    "format": FORMAT,
    "id": "20261121-101500-3f2a9c",
    "identity": {"commit": "a" * 40, "dirty": True},
    "source": {"files": [FILE], "import_roots": [""]},
    "model": {"files": ["pkg/model.py"]},
}


def text(**changes: Any) -> str:
    return json.dumps({**WHOLE, **changes})


def test_a_manifest_comes_back_as_it_was_written() -> None:
    manifest = Manifest(WHOLE)
    again, source = taken_from({KEY: embedded(manifest, b"zip")})
    assert (again.data, source) == (WHOLE, b"zip")
    assert (again.id, again.commit, again.is_dirty) == ("20261121-101500-3f2a9c", "a" * 40, True)
    assert again.model_files == ["pkg/model.py"]


def test_what_is_not_there_reads_as_empty() -> None:
    manifest = Manifest.from_json(json.dumps({"format": 1, "id": "x"}))
    assert (manifest.files, manifest.model_files, manifest.commit, manifest.is_dirty) == ([], [], "", False)
    assert manifest["tree"] == {}


def test_facts_of_a_checkpoint_are_added_to_a_copy() -> None:
    manifest = Manifest(WHOLE)
    assert manifest.with_checkpoint({"step": 3})["checkpoint"] == {"step": 3}
    assert "checkpoint" not in manifest.data


@pytest.mark.parametrize("checkpoint", [{}, {"state_dict": {}}, [], None])
def test_a_checkpoint_without_code_says_how_the_next_one_gets_it(checkpoint: Any) -> None:
    with pytest.raises(NoSnapshot, match=r"Add CodeSnapshot\(\) to the callbacks of the next run"):
        taken_from(checkpoint)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (text(format=2), r"has format 2, this version reads 1; update lightning-debugkit"),
        (text(format=0), "needs a format of 1 or above, got 0"),
        (text(format="1"), "needs a format of 1 or above, got '1'"),
        (text(id="../../etc"), "needs an id of letters"),
        (text(id="a..b"), "needs an id of letters"),
        (text(id=""), "needs an id of letters"),
        (text(id=7), "needs an id of letters, .* got 7"),
        (text(identity=[1]), "needs a mapping as identity, got list"),
        (text(source={"files": {"a": 1}}), "needs a list of files, got dict"),
        (text(source={"files": ["a.py"]}), "needs a path for each file, got 'a.py'"),
        (text(source={"files": [{**FILE, "bytes": -1}]}), "as a number from 0, got -1"),
        (text(source={"files": [{**FILE, "bytes": True}]}), "as a number from 0, got True"),
        (text(source={"files": [{**FILE, "bytes": 1e9}]}), "as a number from 0, got 1000000000.0"),
        (text(source={"files": [{**FILE, "sha256": "0" * 63}]}), "needs the SHA-256 of 'pkg/model.py'"),
        (text(source={"files": [{**FILE, "module": 3}]}), "needs the module of 'pkg/model.py' as text, got 3"),
        (text(source={"import_roots": [None]}), "needs paths as text, got NoneType"),
        (text(model={"files": [1]}), "needs paths as text, got int"),
        ("[]", "needs a mapping, got list"),
        ("{", "needs JSON, got what is none"),
        ("[" * 200_000, "needs JSON, got what is none"),
        (b"{}", "needs JSON of at most"),
        (None, "needs JSON of at most"),
    ],
)
def test_what_is_no_manifest_is_refused(given: Any, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        Manifest.from_json(given)


def test_a_manifest_of_absurd_length_is_not_parsed() -> None:
    with pytest.raises(Malformed, match="got 16,000,001 characters"):
        Manifest.from_json(" " * 16_000_001)


@pytest.mark.parametrize("held", [3, {"manifest": text(), "source_zip": "zip"}, {"source_zip": b""}])
def test_a_snapshot_of_another_form_is_refused(held: Any) -> None:
    with pytest.raises(Malformed):
        taken_from({KEY: held})


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(["", "files", "path"])
)
flat = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from([*FILE, "files"]), scalars, max_size=2)
json_values = (
    flat | st.lists(flat, max_size=2) | st.dictionaries(st.sampled_from(["files", "commit"]), flat, max_size=2)
)


@given(st.dictionaries(st.sampled_from([*WHOLE, "tree", "environment", "run", "checkpoint"]), json_values))
def test_whatever_is_written_is_read_or_refused_and_never_breaks_a_reader(changes: dict[str, Any]) -> None:
    try:
        manifest = Manifest.from_json(text(**changes))
    except Malformed:
        return
    assert isinstance(manifest.id, str)
    assert all(isinstance(file["path"], str) for file in manifest.files)
    assert all(isinstance(path, str) for path in manifest.model_files)
    assert isinstance(manifest.commit, str)
    assert [dict(manifest[name]) for name in ("identity", "tree", "environment", "run", "checkpoint")]


@pytest.mark.parametrize(
    "part",
    [
        {"source": {"skipped": 5}}, {"source": {"skipped": ["a"]}}, {"tree": {"skipped": [3]}},
        {"identity": {"changed": 5}}, {"environment": {"devices": 5}}, {"environment": {"arguments": {"a": 1}}},
        {"checkpoint": {"drifted": 3}}, {"source": {"files": [{**FILE, "aliases": [1]}]}},
    ],
)  # fmt: skip
def test_a_part_of_another_type_is_refused_as_a_whole(part: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="A manifest needs"):
        Manifest.from_json(text(**part))
