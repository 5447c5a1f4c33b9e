"""An archive from elsewhere is read if it is exactly what its manifest says, and refused in every other case."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_debugkit.provenance.carried.archive import (
    Archive,
    RefusedArchive,
    name_fault,
    open_archive,
    pack,
    same_place,
)
from lightning_debugkit.provenance.carried.restore import restore_files

FILES = {"pkg/__init__.py": b"", "pkg/model.py": b"x = 1\n", "conf/a.yaml": b"a: 1\r\n"}


def listed(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [{"path": p, "bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for p, d in files.items()]


def zipped(entries: list[tuple[Any, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that is there twice
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries:
                archive.writestr(name, data)
    return buffer.getvalue()


def refuses(text: str) -> Any:
    return pytest.raises(RefusedArchive, match=re.escape(text))


def test_what_was_packed_is_read_back() -> None:
    assert dict(open_archive(pack(FILES), listed(FILES)).contents) == FILES


def test_the_same_files_give_the_same_bytes() -> None:
    assert pack(FILES) == pack(dict(reversed(FILES.items())))


@given(st.dictionaries(st.text(min_size=1, max_size=30), st.binary(max_size=50), max_size=6))
def test_any_files_with_harmless_names_survive(files: dict[str, bytes]) -> None:
    kept = {path: data for path, data in files.items() if name_fault(path) is None}
    clashing = len({same_place(path) for path in kept}) < len(kept)
    clashing |= any(same_place(a).startswith(same_place(b) + "/") for a in kept for b in kept)
    if clashing:
        with refuses(""):
            open_archive(pack(kept), listed(kept))
    else:
        assert dict(open_archive(pack(kept), listed(kept)).contents) == kept


@pytest.mark.parametrize(
    "path",
    [
        *("../evil", "a/../../evil", "a/..", "/evil", "//evil", "./evil", "a//b", "a/", "", ".."),
        *("C:/evil", "C:evil", "a\\..\\evil", "\\\\host\\evil", "a\0b", "a\nb", "evil.", "evil ", "CON", "nul.txt"),
        *("a/" * 600 + "x", "x" * 300, "file:stream", "\udcff", "\u202e"),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused(path: str, tmp_path: Path) -> None:
    files = {path: b"evil"}
    with pytest.raises(RefusedArchive, match="may not be written"):
        open_archive(b"", listed(files))
    with pytest.raises(RefusedArchive, match="may not be written"):
        restore_files(Archive(files), tmp_path / "to")
    assert list(tmp_path.iterdir()) == []


@given(st.text(alphabet=["a", ".", "/", "\\", ":", "\0", "~"], min_size=1, max_size=12))
def test_a_name_that_passes_stays_below_its_folder(path: str) -> None:
    if name_fault(path) is None:
        folder = Path("/base/folder")
        assert (folder / path).resolve().is_relative_to(folder)
        assert path == Path(path).as_posix()


@pytest.mark.parametrize("other", ["PKG/Model.py", "pkg/MODEL.py"])
def test_names_that_are_one_file_elsewhere_are_refused(other: str) -> None:
    with refuses("are one file on some systems"):
        open_archive(b"", listed({"pkg/model.py": b"", other: b""}))


def test_composed_and_decomposed_letters_are_one_name() -> None:
    with refuses("are one file on some systems"):
        open_archive(b"", listed({"\u00e9.py": b"", "e\u0301.py": b""}))


def test_a_file_cannot_be_a_folder_too() -> None:
    with refuses("'pkg' is a file and the folder of 'pkg/model.py'"):
        open_archive(b"", listed({"pkg": b"", "pkg/model.py": b""}))


def test_a_name_that_is_there_twice_is_refused() -> None:
    data = zipped([("a.py", b"1"), ("a.py", b"2")])
    with refuses("it holds the same name twice"):
        open_archive(data, listed({"a.py": b"1"}))
    twice = listed({"a.py": b"1"}) * 2
    with refuses("are one file on some systems"):
        open_archive(pack({"a.py": b"1"}), twice)


def test_what_the_manifest_does_not_list_is_refused() -> None:
    with refuses("it holds '../evil', of which the manifest knows nothing"):
        open_archive(zipped([("a.py", b"1"), ("../evil", b"2")]), listed({"a.py": b"1"}))
    with refuses("it lacks 'b.py', which the manifest lists"):
        open_archive(pack({"a.py": b"1"}), listed({"a.py": b"1", "b.py": b"2"}))


@pytest.mark.parametrize("kind", [0o120777, 0o040755, 0o020644, 0o010644])
def test_links_folders_and_devices_are_refused(kind: int) -> None:
    entry = zipfile.ZipInfo("a.py")
    entry.create_system = 3
    entry.external_attr = kind << 16
    with refuses("'a.py' is no plain file but a link, a folder or a device"):
        open_archive(zipped([(entry, b"/etc/passwd")]), listed({"a.py": b"/etc/passwd"}))


def test_other_bytes_than_the_recorded_ones_are_refused() -> None:
    with refuses("'a.py' is not the file that was captured: its SHA-256 differs"):
        open_archive(pack({"a.py": b"2"}), listed({"a.py": b"1"}))
    with refuses("'a.py' has 5 bytes, the manifest says 1"):
        open_archive(pack({"a.py": b"12345"}), listed({"a.py": b"1"}))


def test_a_bomb_is_refused_by_what_it_declares() -> None:
    many = [{"path": f"{n}.py", "bytes": 200_000_000, "sha256": "0" * 64} for n in range(3)]
    with refuses("it unpacks to 600,000,000 bytes; 256,000,000 are the most"):
        open_archive(b"", many)
    with refuses("that unpack to 200,000,000 are no sources"):
        open_archive(b"PK" * 100, many[:1])
    with refuses("it lists 100,001 files"):
        open_archive(b"", [{"path": f"{n}", "bytes": 0, "sha256": ""} for n in range(100_001)])


def test_a_bomb_that_lies_about_its_size_takes_no_memory() -> None:
    """The header says ten bytes; they unpack to a hundred million."""
    data = bytearray(zipped([("a.py", bytes(100_000_000))]))
    for at in (data.index(b"PK\x03\x04") + 22, data.index(b"PK\x01\x02") + 24):
        data[at : at + 4] = struct.pack("<I", 10)
    tracemalloc.start()
    with pytest.raises(RefusedArchive):
        open_archive(bytes(data), [{"path": "a.py", "bytes": 10, "sha256": "0" * 64}])
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_archive_is_refused_or_read_rightly(at: int, value: int) -> None:
    data = bytearray(pack(FILES))
    data[at % len(data)] = value
    with contextlib.suppress(RefusedArchive):
        assert dict(open_archive(bytes(data), listed(FILES)).contents) == FILES


@given(st.binary(max_size=200))
def test_what_is_no_zip_file_is_refused(data: bytes) -> None:
    with pytest.raises(RefusedArchive):
        open_archive(data, listed(FILES))


@pytest.mark.parametrize("size", [-1, "7", None, 1.5])
def test_absurd_sizes_are_refused(size: Any) -> None:
    with refuses("has no size"):
        open_archive(b"", [{"path": "a.py", "bytes": size, "sha256": "0" * 64}])


@pytest.mark.parametrize("path", [".git/config", "sub/.GIT/hooks/pre-commit", "GIT~1/config", "a/.git. /x"])
def test_nothing_becomes_a_repository(path: str) -> None:
    """``git status``, or a prompt that asks it, runs what the configuration of a repository names."""
    assert name_fault(path) is not None
    assert name_fault(".gitignore") is None
    assert name_fault("git/config.py") is None
