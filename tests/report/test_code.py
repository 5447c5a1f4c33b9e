"""The report tells which code ran, shows what was not committed, and folds what is long."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lightning_debugkit.core.journal import Journal
from lightning_debugkit.report import render

MANIFEST: dict[str, Any] = {
    "format": 1,
    "id": "20260301-101500-3f2a9c",
    "label": "e7.2",
    "note": "is <b>relu</b> enough?",
    "identity": {
        "present": True, "commit": "a" * 40, "branch": "main", "dirty": True, "remote": "https://host/repo",
        "changed": [{"path": "net.py", "status": "modified"}, {"path": "new.py", "status": "untracked"}],
        "changed_count": 2,
    },
    "tree": {"present": True, "ref": "refs/debugkit/runs/20260301-101500-3f2a9c"},
    "source": {
        "present": True, "carried": True, "files": [{"path": "net.py"}, {"path": "train.py"}, {"path": "new.py"}],
    },
    "model": {"module": "net", "qualname": "Net", "files": ["net.py"]},
    "environment": {"arguments": ["train.py", "--lr", "0.1"]},
}  # fmt: skip
PATCH = "--- a/net.py\n+++ b/net.py\n@@ -1 +1 @@\n-x = 1\n+x = 2 # <script>\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    journal = Journal(tmp_path)
    journal.append({"kind": "run", "rank": 0, "world_size": 1, "versions": {}, "config": {}})
    journal.append({"kind": "end", "step": 3, "status": "finished", "exception": None, "seconds": 1})
    return tmp_path


def leave(run: Path, manifest: dict[str, Any] | None = None, **files: str) -> tuple[str, str]:
    (run / "code").mkdir(exist_ok=True)
    (run / "code" / "manifest.json").write_text(json.dumps(MANIFEST if manifest is None else manifest))
    for name, text in files.items():
        (run / "code" / name.replace("_", ".")).write_text(text)
    render(run)
    return (run / "report.html").read_text(), (run / "report.md").read_text()


def test_the_first_sentence_says_whether_the_commit_is_enough(run: Path) -> None:
    _, told = leave(run)
    assert "Every checkpoint carries the 3 source files of this run; load\\_model" not in told, (
        "an underscore within a word is no emphasis"
    )
    assert (
        "Every checkpoint carries the 3 source files of this run; load_model rebuilds Net from it. "
        "2 files differed from the commit." in told
    )
    clean = {**MANIFEST, "identity": {**MANIFEST["identity"], "dirty": False, "changed": [], "changed_count": 0}}
    assert "The working tree was clean." in leave(run, clean)[1]
    none = {**MANIFEST, "identity": {"present": False, "reason": "there is no git program"}}
    assert "No commit is recorded: there is no git program." in leave(run, none)[1]


def test_facts_and_the_difference_are_there_and_the_difference_is_folded(run: Path) -> None:
    page, told = leave(run, changes_patch=PATCH)
    for fact in ("a" * 40, "main", "https://host/repo", "e7.2", "train.py --lr 0.1"):
        assert fact in page
        assert fact in told
    _, _, after = page.partition("The difference to the commit")
    assert "+x = 2 # &lt;script&gt;" in after
    assert "<script>" not in page
    assert "<b>relu</b>" not in page
    folded = page[: page.index("The difference to the commit")].rindex("<details")
    assert "</details>" not in page[folded : page.index("The difference to the commit")]


def test_what_is_different_since_the_run_before_is_a_table(run: Path) -> None:
    rows = [["python", "3.10.1", "3.11.7"], ["torch", "2.5", ""]]
    _, told = leave(run, previous_json=json.dumps({"id": "earlier", "environment": rows}))
    assert "2 differences in the environment since the run before, earlier" in told
    assert "| torch | 2.5 | - |" in told
    _, told = leave(run, previous_json=json.dumps({"id": "earlier", "environment": []}))
    assert "Python, packages and devices are those of the run before, earlier." in told


def test_programs_and_the_reason_why_there_is_none(run: Path) -> None:
    Journal(run).append({"kind": "artifact", "step": 3, "name": "export", "path": "best.pt2", "bytes": 2_500_000})
    Journal(run).append({"kind": "artifact", "step": 3, "name": "export", "path": None, "reason": "it branches"})
    _, told = leave(run)
    assert "best.pt2 (2.5 MB) runs without any code" in told
    assert "> No exported program was left: it branches." in told


@pytest.mark.parametrize(
    "manifest", [{}, {"identity": 3, "source": [], "model": None}, {"environment": {"arguments": 1}}]
)
def test_a_foreign_manifest_breaks_nothing(run: Path, manifest: dict[str, Any]) -> None:
    page, _ = leave(run, manifest)
    assert "could not be completed" not in page
    assert page.endswith("</html>") or "</html>" in page


def test_a_run_without_a_snapshot_has_no_such_section(run: Path) -> None:
    render(run)
    assert "The code" not in (run / "report.md").read_text()
