"""States of a repository, and settings of users, each made in a folder."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from provenance.working_trees import (
    commit,
    edit,
    git,
    new,
    project,
    put,
    script,
    write,
)


@dataclass(frozen=True)
class Kind:
    """A state of a repository.

    Args:
        make: Makes it in a folder, and returns where to start, or nothing for its root.
        unavailable: The reason that is expected instead of an answer.
        differs: Files of which the tree has not the bytes of the working tree: what it has, ``None`` for nothing.
        skipped: What is told to be left out, and a part of the reason.
        state: What the identity says of the state.
        environment: Variables that are set; ``{}`` stands for the folder.
    """

    make: Callable[[Path], Path | None]
    unavailable: str = ""
    differs: dict[bytes, bytes | None] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def make(*steps: Callable[[Path], object]) -> Callable[[Path], Path | None]:
    """A project to which steps are done."""

    def build(folder: Path) -> None:
        project(folder)
        for step in steps:
            step(folder)

    return build


def config(*pairs: str) -> Callable[[Path], None]:
    """Set names and values; ``{}`` stands for a program that leaves a mark if it is run."""

    def set_all(folder: Path) -> None:
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            git(folder, "config", name, value.format(tattler(folder)))

    return set_all


def tattler(folder: Path) -> Path:
    return script(folder.parent / "tattler", f"echo run >> '{folder.parent / 'ran'}'; cat")


def unborn(folder: Path) -> None:
    new(folder)
    write(folder, train="print(1)\n")


def unborn_from_below(folder: Path) -> Path:
    new(folder)
    write(folder, src__train="print(1)\n")
    return folder / "src"


def untracked_from_below(folder: Path) -> Path:
    project(folder)
    write(folder, lately__train="print(2)\n")
    return folder / "lately"


def linked_worktree(folder: Path) -> Path:
    project(folder.parent / "first")
    git(folder.parent / "first", "worktree", "add", "-q", "-b", "other", str(folder))
    edit(folder)
    return folder


def clone(*options: str) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        origin = project(folder.parent / "origin")
        commit(origin, "two")
        git(origin, "config", "uploadpack.allowFilter", "true")
        git(folder.parent, "clone", "-q", *options, f"file://{origin}", str(folder))
        edit(folder)
        write(folder, pkg__model="width = 32\n")

    return build


def sparse(folder: Path) -> None:
    new(folder)
    write(folder, here__a="1\n", there__b="2\n")
    commit(folder)
    git(folder, "sparse-checkout", "set", "--cone", "here")
    write(folder, here__a="3\n")


def bare(folder: Path) -> None:
    new(folder, "--bare")


def no_repository(folder: Path) -> None:
    write(folder, train="print(1)\n")


def stray_above(folder: Path) -> Path:
    """A repository of the home folder, such as of its settings, which has nothing of the project."""
    new(folder)
    os.environ["HOME"] = str(folder)
    write(folder, work__train="print(1)\n")
    return folder / "work"


def ignored_by_the_one_above(folder: Path) -> Path:
    project(folder)
    put(folder, ".gitignore", b"runs/\nignored.log\n")
    write(folder, runs__project__train="print(1)\n")
    return folder / "runs" / "project"


def hooks(folder: Path) -> None:
    for name in ("pre-commit", "post-commit", "post-index-change", "reference-transaction", "pre-auto-gc"):
        shutil.copy(tattler(folder), folder / ".git" / "hooks" / name)


def mixed_line_ends(folder: Path) -> None:
    config("core.autocrlf", "true", "core.safecrlf", "true")(folder)
    put(folder, "mixed.txt", b"one\r\ntwo\nthree\r\n")


def lfs_without_its_program(folder: Path) -> None:
    put(folder, ".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n")
    config("filter.lfs.required", "true", "filter.lfs.clean", "git-lfs clean -- %f")(folder)
    config("filter.lfs.process", "git-lfs filter-process")(folder)
    put(folder, "weights.bin", b"\0\1\2")


def broken_filter(folder: Path) -> None:
    put(folder, ".gitattributes", b"*.dat filter=gone\n")
    config("filter.gone.required", "true", "filter.gone.clean", "no-such-program")(folder)
    put(folder, "a.dat", b"1")


def with_submodule(folder: Path) -> Path:
    """Return where it is; it is clean."""
    origin = new(folder.parent / "library")
    write(origin, layer="size = 1\n")
    commit(origin)
    project(folder)
    git(folder, "submodule", "add", "-q", str(origin), "library")
    git(folder, "commit", "-q", "-m", "library")
    return folder / "library"


def clean_submodule(folder: Path) -> None:
    with_submodule(folder)


def dirty_submodule(folder: Path) -> None:
    write(with_submodule(folder), layer="size = 2\n", more="size = 3\n")


def moved_submodule(folder: Path) -> None:
    library = with_submodule(folder)
    write(library, layer="size = 4\n")
    commit(library)


def nested(folder: Path) -> None:
    project(folder)
    inner = new(folder / "inner")
    write(inner, a="1\n")
    commit(inner)
    write(inner, a="2\n", b__c="3\n")
    write(new(inner / "innermost"), d="4\n")


def nested_without_commits(folder: Path) -> None:
    project(folder)
    write(new(folder / "inner"), a="1\n")


def merging(folder: Path) -> None:
    new(folder)
    write(folder, a="0\n")
    commit(folder)
    git(folder, "branch", "side")
    write(folder, a="1\n")
    commit(folder)
    git(folder, "checkout", "-q", "side")
    write(folder, a="2\n")
    commit(folder)
    with pytest.raises(AssertionError):
        git(folder, "merge", "main")


def marked(option: str) -> Callable[[Path], None]:
    def mark(folder: Path) -> None:
        git(folder, "update-index", option, "train.py")
        write(folder, train="print(2)\n")

    return mark


def deleted(folder: Path) -> None:
    (folder / "train.py").unlink()


def file_and_folder_swapped(folder: Path) -> None:
    (folder / "train.py").unlink()
    write(folder, **{"train.py__main": "1\n"})
    shutil.rmtree(folder / "pkg")
    put(folder, "pkg", b"now a file")


def links(folder: Path) -> None:
    (folder / "to_file.py").symlink_to("train.py")
    (folder / "to_nowhere").symlink_to("/no/such/.env")
    shutil.move(folder / "pkg", folder / "real")
    (folder / "pkg").symlink_to("real")


def fifo_and_socket(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "train.py").unlink()
    os.mkfifo(folder / "train.py")
    here = Path.cwd()
    os.chdir(folder)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(here)


def odd_names(folder: Path) -> None:
    for name in (
        b"line\nfeed.py",
        b"latin-\xe9.py",
        b"--force",
        b'quo"te',
        b" space ",
        b":(glob)*",
        b"*",
        b"tab\tname",
    ):
        (folder / os.fsdecode(name)).write_bytes(name)
    git(folder, "add", "--", "./--force")
    (folder / "--force").write_bytes(b"changed")


def intent_to_add(folder: Path) -> None:
    git(folder, "add", "--intent-to-add", "pkg/new.py")


def staged_and_changed_again(folder: Path) -> None:
    git(folder, "add", "-A")
    write(folder, pkg__model="width = 99\n")
    (folder / "pkg" / "new.py").unlink()


def removed_from_index_only(folder: Path) -> None:
    git(folder, "rm", "-q", "--cached", "train.py")


def split_index(folder: Path) -> None:
    git(folder, "update-index", "--split-index")


def untracked_cache(folder: Path) -> None:
    git(folder, "update-index", "--untracked-cache")
    git(folder, "status")


def large_and_secret(folder: Path) -> None:
    put(folder, "tracked.bin", bytes(range(256)) * 8000)
    put(folder, "changed.bin", bytes(2_000_000))
    put(folder, "config.yaml", b"lr: 1\n")
    commit(folder)
    put(folder, "changed.bin", bytes(2_000_001))
    put(folder, "new.bin", bytes(1_000_001))
    put(folder, "just.bin", bytes(1_000_000))
    put(folder, "config.yaml", b"token: gh" + b"p_abcdefghijABCDEFGHIJ0123456789abcdef\n")
    put(folder, ".env", b"PASSWORD=1\n")
    put(folder, "staged.pem", b"x")
    git(folder, "add", "staged.pem")


def empty(folder: Path) -> None:
    new(folder)


KINDS = {
    "plain": Kind(make()),
    "from a sub-directory": Kind(lambda folder: project(folder) / "pkg"),
    "sha256": Kind(lambda folder: project(folder, "--object-format=sha256") and None),
    "empty": Kind(empty),
    "unborn": Kind(unborn),
    "unborn, from a sub-directory": Kind(unborn_from_below),
    "from a sub-directory that is not tracked": Kind(untracked_from_below),
    "detached": Kind(make(lambda folder: git(folder, "checkout", "-q", "--detach"))),
    "linked worktree": Kind(linked_worktree, state=("worktree",)),
    "shallow": Kind(clone("--depth=1"), state=("shallow",)),
    "partial": Kind(clone("--filter=blob:none"), state=("partial",)),
    "sparse": Kind(sparse, differs={b"there/b.py": b"2\n"}, state=("sparse",)),
    "bare": Kind(bare, unavailable="bare"),
    "no repository": Kind(no_repository, unavailable="no-repository"),
    "repository of the home folder": Kind(stray_above, unavailable="no-repository"),
    "ignored by the one above": Kind(ignored_by_the_one_above, unavailable="no-repository"),
    "inside .git": Kind(lambda folder: project(folder) / ".git", unavailable="bare"),
    "broken": Kind(make(lambda folder: (folder / ".git/HEAD").write_text("junk")), unavailable="no-repository"),
    "broken index": Kind(make(lambda folder: (folder / ".git/index").write_text("junk")), unavailable="failed"),
    "stale index.lock": Kind(make(lambda folder: put(folder, ".git/index.lock", b""))),
    "stale HEAD.lock": Kind(make(lambda folder: put(folder, ".git/HEAD.lock", b""))),
    "hooks": Kind(make(hooks)),
    "hooks of all repositories": Kind(make(hooks, config("core.hooksPath", ".git/hooks"))),
    "signing": Kind(make(config("commit.gpgSign", "true", "gpg.program", "{}", "tag.gpgSign", "true"))),
    "diff settings": Kind(make(config("diff.external", "{}", "color.ui", "always", "diff.noprefix", "true"))),
    "status settings": Kind(
        make(config("status.showUntrackedFiles", "no", "status.short", "true", "diff.ignoreSubmodules", "all"))
    ),
    "fsmonitor": Kind(make(config("core.fsmonitor", "{}"))),
    "identity required": Kind(make(config("user.useConfigOnly", "true", "user.name", "", "user.email", ""))),
    "reflog of everything": Kind(make(config("core.logAllRefUpdates", "always"))),
    "other encoding": Kind(make(config("i18n.commitEncoding", "latin1"))),
    "autocrlf": Kind(
        make(config("core.autocrlf", "true"), lambda folder: put(folder, "dos.txt", b"1\r\n2\r\n")),
        differs={b"dos.txt": b"1\n2\n"},
    ),
    "safecrlf, mixed line ends": Kind(make(mixed_line_ends), differs={b"mixed.txt": b"one\ntwo\nthree\n"}),
    "LFS without git-lfs": Kind(make(lfs_without_its_program)),
    "a filter that fails": Kind(make(broken_filter), differs={b"a.dat": None}, skipped={"a.dat": "git does not take"}),
    "submodule": Kind(clean_submodule, differs={b"library/layer.py": None}),
    "submodule, dirty": Kind(dirty_submodule),
    "submodule at another commit": Kind(moved_submodule, differs={b"library/layer.py": None}),
    "nested repository": Kind(nested),
    "nested repository without commits": Kind(nested_without_commits),
    "merging": Kind(merging, state=("merging",)),
    "assume-unchanged": Kind(make(marked("--assume-unchanged"))),
    "skip-worktree": Kind(make(marked("--skip-worktree"))),
    "deleted": Kind(make(deleted)),
    "file and folder swapped": Kind(make(file_and_folder_swapped)),
    "links": Kind(make(links)),
    "fifo and socket": Kind(make(fifo_and_socket), skipped={"train.py": "not a regular file"}),
    "odd names": Kind(make(odd_names)),
    "intent to add": Kind(make(intent_to_add)),
    "staged and changed again": Kind(make(staged_and_changed_again)),
    "removed from the index only": Kind(make(removed_from_index_only)),
    "split index": Kind(make(split_index)),
    "untracked cache": Kind(make(untracked_cache)),
    "executable": Kind(make(lambda folder: (folder / "train.py").chmod(0o755))),
    "large files and secrets": Kind(
        make(large_and_secret),
        differs=dict.fromkeys((b"changed.bin", b"new.bin", b"config.yaml", b".env", b"staged.pem")),
        skipped={
            "changed.bin": "too large: 2,000,001 bytes",
            "new.bin": "too large: 1,000,001 bytes",
            "config.yaml": "holds a GitHub token in line 1",
            ".env": "secret by its name",
            "staged.pem": "secret by its name",
        },
    ),
    "polluted environment": Kind(
        make(),
        environment={
            "GIT_DIR": "/no/such",
            "GIT_INDEX_FILE": "{}/.git/other",
            "GIT_WORK_TREE": "/",
            "GIT_OBJECT_DIRECTORY": "/no/such/objects",
            "GIT_COMMON_DIR": "/no/such",
            "GIT_NAMESPACE": "other",
            "GIT_EXTERNAL_DIFF": "false",
            "GIT_AUTHOR_DATE": "junk",
            "GIT_OPTIONAL_LOCKS": "1",
        },
    ),
}
