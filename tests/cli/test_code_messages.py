"""What the command line says about a snapshot is what the manifest holds, on lines that a terminal survives."""

from __future__ import annotations

from pathlib import Path

from lightning_debugkit.cli.code_messages import code_verdict, rerun_command, shown_code
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.comparison import CodeComparison, FileVerdict

MANIFEST = Manifest(
    {
        "format": 1,
        "id": "run-1",
        "label": "e1.1",
        "note": "why",
        "identity": {"commit": "a" * 40, "branch": "main", "dirty": True, "changed_count": 3, "remote": "https://h/r"},
        "tree": {"present": False, "reason": "side_ref is off"},
        "source": {
            "root": "/p",
            "main": "train.py",
            "import_roots": ["", "src"],
            "files": [{"path": "src/m.py", "bytes": 1200, "sha256": "0" * 64}],
            "skipped": [{"path": "x.bin", "reason": "too large: 9 bytes", "bytes": 9}],
        },
        "model": {"module": "m", "qualname": "Net", "files": ["src/m.py"]},
        "environment": {"python": "3.11.7", "arguments": ["train.py", "--lr", "0.1 0.2"]},
        "run": {"seed": 0, "hyper_parameters": {"width": 8}},
        "checkpoint": {"epoch": 1, "step": 8, "metrics": {"val_loss": 0.5}, "drifted": ["src/m.py"]},
    }
)


def test_each_fact_has_its_line() -> None:
    assert shown_code(MANIFEST, b"1234").splitlines() == [
        "run               run-1 e1.1",
        "note              why",
        "model             m.Net",
        "its files         src/m.py",
        f"commit            {'a' * 40} on main, 3 files changed, https://h/r",
        "tree              none: side_ref is off",
        "source            1 file, 1,200 bytes, 4 bytes in the checkpoint; of /p",
        "python            3.11.7",
        "devices           CPU",
        "command           train.py --lr '0.1 0.2'",
        "seed              0",
        "hyper-parameters  width=8",
        "checkpoint        epoch 1, step 8; val_loss=0.5; changed on disk: src/m.py",
        "left out          x.bin: too large: 9 bytes",
    ]


def test_the_command_runs_the_script_where_it_was_restored() -> None:
    assert rerun_command(MANIFEST, Path("/to/here"), "x.ckpt") == (
        "cd /to/here && PYTHONPATH=src python train.py --lr '0.1 0.2'"
    )


def test_what_was_started_as_a_module_is_started_so_again() -> None:
    """Its own folder on the import path would hide that it is part of a package."""
    started = {**MANIFEST.data["environment"], "module": "pkg.train", "arguments": ["/abs/src/pkg/train.py", "out"]}
    source = {"main": "src/pkg/train.py", "import_roots": ["src", "src/pkg"]}
    manifest = Manifest({**MANIFEST.data, "environment": started, "source": source})
    assert rerun_command(manifest, Path("/to"), "x.ckpt") == "cd /to && PYTHONPATH=src python -m pkg.train out"


def test_a_run_of_a_notebook_is_loaded_instead() -> None:
    manifest = Manifest({**MANIFEST.data, "source": {"main": None}})
    assert rerun_command(manifest, Path("/to"), "x.ckpt").startswith(
        "load_model('x.ckpt', code=\"snapshot\", trust_code=True)"
    )


def test_a_manifest_from_elsewhere_does_not_steer_the_terminal() -> None:
    evil = Manifest({"format": 1, "id": "x", "note": "\x1b[2J\x1b]0;owned\x07\nrun  fake", "source": {"skipped": [1]}})
    told = shown_code(evil, None)
    assert "\x1b" not in told
    assert "\x07" not in told
    assert "\nrun  fake" not in told


def test_a_comparison_names_what_is_unlike() -> None:
    files = (
        FileVerdict("a.py", "changed", True),
        FileVerdict("b.py", "identical", True),
        FileVerdict("c.yaml", "missing", False),
    )
    assert code_verdict(CodeComparison("changed", "changed", files), Path("/p")).splitlines() == [
        "The model's code is changed, the other files are changed (/p).",
        "changed   a.py (model)",
        "missing   c.yaml",
    ]


def test_where_nothing_is_found_the_folder_is_asked_for() -> None:
    files = (FileVerdict("lib/net.py", "missing", True), FileVerdict("train.py", "missing", False))
    said = code_verdict(CodeComparison("changed", "changed", files), Path("/p")).splitlines()
    assert said[1] == "None of its files is there: give the folder that held train.py."
