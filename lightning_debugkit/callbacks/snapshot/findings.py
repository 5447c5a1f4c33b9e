"""What `CodeSnapshot` can say, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lightning_debugkit.finding import Finding, Rule, Severity, Where
from lightning_debugkit.provenance.comparing import Comparison
from lightning_debugkit.provenance.manifest import Manifest

CODE_UNCOMMITTED = Rule(
    "code-uncommitted",
    Severity.INFO,
    "{count} {noun} differ from commit {commit}: {paths}",
    "Nothing is lost: they travel with every checkpoint. Commit them when the run was worth it.",
)
NO_REPOSITORY = Rule(
    "no-repository",
    Severity.INFO,
    "no commit is recorded with the weights: {reason}",
    "{todo}",
)
FILE_SKIPPED = Rule(
    "file-skipped",
    Severity.INFO,
    "{count} {noun} left out of the snapshot: {paths}",
    "Whoever restores this run needs them from elsewhere; raise max_file or max_bundle if they are code.",
)
CODE_CHANGED = Rule(
    "code-changed-during-run",
    Severity.WARNING,
    "{told}: {paths}",
    "{todo}",
)
CODE_DIFFERS = Rule(
    "model-code-differs",
    Severity.WARNING,
    "{told} {checkpoint}: {paths}",
    "See what changed: lightning-debugkit diff {checkpoint}. "
    'To run it as it was trained: load_model("{checkpoint}", code="snapshot", trust_code=True).',
)
_SHOWN = 5


def of_capture(manifest: Manifest, where: Where) -> Iterator[Finding]:
    """Return what is worth knowing of what was, and was not, captured."""
    identity = manifest["identity"]
    if not identity.get("present"):
        reason = str(identity.get("reason", "git could not be asked"))
        todo = str(identity.get("advice") or "Put the project under git (git init); the sources are kept all the same.")
        yield NO_REPOSITORY.found(where, reason=reason, todo=todo)
    elif manifest.is_dirty and manifest.commit:
        changed = [str(each.get("path")) for each in identity.get("changed", ())]
        count = int(identity.get("changed_count", len(changed)))
        yield CODE_UNCOMMITTED.found(
            where, count=count, noun=_noun(count), commit=manifest.commit[:10], paths=listed(changed, count)
        )
    skipped = {str(each["path"]): each for part in ("source", "tree") for each in manifest[part].get("skipped", ())}
    if skipped:
        shown = [f"{path} ({each['reason']})" for path, each in sorted(skipped.items())]
        yield FILE_SKIPPED.found(where, count=len(shown), noun=_noun(len(shown)), paths=listed(shown, len(shown)))
    if stale := sorted(str(file["path"]) for file in manifest.files if file.get("stale")):
        yield CODE_CHANGED.found(
            where,
            told="changed on disk after this process had started, and before its code was captured",
            paths=listed(stale, len(stale)),
            files=stale[:_SHOWN],
            todo="The snapshot may not be what ran: start the run again if the weights are worth keeping.",
        )


def drifted(paths: Sequence[str], mixed: Sequence[str], where: Where) -> Finding | None:
    """Return what to say of files that changed after they were captured.

    Args:
        paths: Those files.
        mixed: Those of them that the run imported after they had changed.
    """
    if mixed:
        return CODE_CHANGED.found(
            where,
            told="imported during the run, after it had been changed on disk",
            paths=listed(mixed, len(mixed)),
            files=list(mixed[:_SHOWN]),
            todo="The run has mixed old and new code: run it again from one state, or import these at the start.",
        )
    if paths:
        return CODE_CHANGED.found(
            where,
            severity=Severity.INFO,
            told="changed on disk during the run, which went on with the code it had",
            paths=listed(paths, len(paths)),
            files=list(paths[:_SHOWN]),
            todo="Nothing to mend: the checkpoints hold the code that ran, not what is on disk now.",
        )
    return None


def differing(comparison: Comparison, checkpoint: str, where: Where) -> Finding | None:
    """Return what to say of a checkpoint whose code is not the one that is about to run, ``None`` if it is."""
    unlike = [each for each in comparison.files if each.verdict != "identical"]
    for_model = [f"{each.path} ({each.verdict})" for each in unlike if each.is_model]
    others = [f"{each.path} ({each.verdict})" for each in unlike if not each.is_model]
    evidence: dict[str, Any] = {"model": comparison.model, "others": comparison.others}
    if comparison.model == "changed":
        return CODE_DIFFERS.found(
            where, told="the model's code has changed since", checkpoint=checkpoint,
            paths=listed(for_model, len(for_model)), files=for_model, **evidence,
        )  # fmt: skip
    if comparison.model == "cosmetic" or comparison.others == "changed":
        said = "in comments and docstrings only" if comparison.model == "cosmetic" else "outside of the model only"
        shown = for_model + others
        return CODE_DIFFERS.found(
            where, severity=Severity.INFO, told=f"the code has changed, {said}, since", checkpoint=checkpoint,
            paths=listed(shown, len(shown)), files=shown, **evidence,
        )  # fmt: skip
    return None


def listed(paths: Sequence[str], count: int) -> str:
    """Return the first few of ``paths`` in words.

    Example:
        >>> listed(["a.py", "b.py"], 7)
        'a.py, b.py and 5 more'
    """
    shown = paths[:_SHOWN]
    more = count - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _noun(count: int) -> str:
    return "file" if count == 1 else "files"
