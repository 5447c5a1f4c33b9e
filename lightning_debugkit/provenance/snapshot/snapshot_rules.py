"""What `CodeSnapshot` can say, and when."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.core.name_lists import begun, listed
from lightning_debugkit.core.rule import Rule
from lightning_debugkit.provenance.capture.left_out import left_out, skipped_of
from lightning_debugkit.provenance.carried.manifest import Manifest
from lightning_debugkit.provenance.diff.comparison import CodeComparison

CODE_UNCOMMITTED = Rule(
    "code-uncommitted",
    Severity.INFO,
    "{count} {noun} from commit {commit}: {paths}",
    "{todo}",
    section="code",
    cost="once",
)
NO_REPOSITORY = Rule(
    "no-repository",
    Severity.INFO,
    "no commit is recorded with the weights: {reason}",
    "{todo}",
    section="code",
    cost="once",
)
NOT_CARRIED = Rule(
    "code-not-carried",
    Severity.WARNING,
    "checkpoints carry no code of this run: {reason}",
    "{todo}",
    section="code",
    cost="once",
)
FILE_SKIPPED = Rule(
    "file-skipped",
    Severity.INFO,
    "{count} {noun} left out of the snapshot: {paths}",
    "Whoever restores this run needs them from elsewhere; raise max_file or max_bundle if they are code.",
    section="code",
    cost="once",
)
CODE_CHANGED = Rule(
    "code-changed-during-run", Severity.WARNING, "{told}: {paths}", "{todo}", section="code", cost="once"
)
CODE_DIFFERS = Rule(
    "model-code-differs",
    Severity.WARNING,
    "{told} {checkpoint}: {paths}",
    "See what changed: lightning-debugkit diff {checkpoint}. "
    'To run it as it was trained: load_model("{checkpoint}", code="snapshot", trust_code=True).',
    section="code",
    cost="once",
)
WEIGHTS_RENAMED = Rule(
    "weights-renamed",
    Severity.INFO,
    "{told}",
    "Nothing needs to be done; the next checkpoint has the new names.",
    section="code",
    cost="once",
)
NOT_LOADABLE = Rule("model-not-loadable", Severity.INFO, "{told}", "{todo}", section="code", cost="once")
# True of many runs, and nothing to act on in this one: told in the report's section, not among the findings.
NOTES = frozenset(rule.name for rule in (CODE_UNCOMMITTED, NO_REPOSITORY, FILE_SKIPPED, NOT_LOADABLE))
REQUIRED = inspect.Parameter.empty
_SHOWN = 5
_MOST = 50


def of_capture(manifest: Manifest, where: Where, limit: int, *, is_asked: bool) -> Iterator[Finding]:
    """Return what is worth knowing of what was, and was not, captured.

    Args:
        limit: Bytes of the packed sources that a checkpoint may carry.
        is_asked: The user asked for a snapshot; who did not has lost nothing without one.
    """
    yield from _not_carried(manifest, where, limit, is_asked)
    identity = manifest["identity"]
    if not identity.get("present"):
        reason = str(identity.get("reason", "git could not be asked"))
        todo = str(identity.get("advice") or "Put the project under git (git init); the sources are kept all the same.")
        yield _said(NO_REPOSITORY, where, {"todo": todo}, reason=reason)
    elif manifest.is_dirty and manifest.commit:
        changed = [str(each.get("path")) for each in identity.get("changed", ())]
        count = int(identity.get("changed_count", len(changed)))
        kept = (
            f"All that was not left out is kept on {ref}" if (ref := manifest["tree"].get("ref")) else "Commit the rest"
        )
        words = {
            "noun": "file differs" if count == 1 else "files differ",
            "paths": listed(changed, _SHOWN, of=count),
            "commit": manifest.commit[:10],
            "todo": f"{kept}; what the run imports travels with every checkpoint.",
        }
        yield _said(CODE_UNCOMMITTED, where, words, count=count)
    skipped = {str(each["path"]): each for part in ("source", "tree") for each in manifest[part].get("skipped", ())}
    if skipped:
        shown = [f"{path} ({each['reason']})" for path, each in sorted(skipped.items())]
        words = {"noun": "file" if len(shown) == 1 else "files", "paths": listed(shown, _SHOWN)}
        yield _said(FILE_SKIPPED, where, words, count=len(shown))
    if stale := sorted(str(file["path"]) for file in manifest.files if file.get("stale")):
        words = {
            "told": "changed on disk after this process had started, and before its code was captured",
            "paths": listed(stale, _SHOWN),
            "todo": "The snapshot may not be what ran: start the run again if the weights are worth keeping.",
        }
        yield _said(CODE_CHANGED, where, words, files=stale[:_MOST])


def _not_carried(manifest: Manifest, where: Where, limit: int, is_asked: bool) -> Iterator[Finding]:
    """Where git keeps the sources at least, they are not lost."""
    source, ref = manifest["source"], manifest["tree"].get("ref")
    if source.get("carried"):
        return
    kept = (
        f"restore gets them back from {ref}, in this repository only" if ref else "Keep the sources: nothing else does"
    )
    evidence: dict[str, Any] = {"files": len(manifest.files)}
    if not source.get("present"):
        reason = str(source.get("reason"))
        todo = f"Raise timeout if it was too short. {kept}."
    elif int(source.get("packed", 0)) > limit:
        evidence |= {"packed": source["packed"], "max_bundle": limit}
        reason = f"packed it takes {source['packed']:,} bytes, and max_bundle is {limit:,}"
        todo = f"Raise max_bundle above {source['packed']}. {kept}."
    else:
        reason, ref = "it lies in no file, such as what is typed into a shell", "nowhere"
        todo = "Put the model into a file or a notebook."
    severity = Severity.INFO if ref or not is_asked else Severity.WARNING
    yield _said(NOT_CARRIED, where, {"reason": reason, "todo": todo}, severity=severity, **evidence)


def of_model(model: str, missing: Mapping[str, Any], where: Where) -> Finding | None:
    """Return what to say of a model that its checkpoints do not suffice to build.

    Args:
        model: Name of its class, as its module knows it.
        missing: Its arguments that are not among its hyper-parameters, with their defaults.
    """
    if "<locals>" in model:
        words = {
            "told": f"load_model cannot rebuild {model} from a checkpoint alone: the class was made within a function, "
            "and its module has no name for it",
            "todo": "Define or name it at the top level of its file. The sources are kept all the same.",
        }
        return _said(NOT_LOADABLE, where, words)
    required = [name for name, default in missing.items() if default is REQUIRED]
    if required:
        names = f"argument{'s' if len(required) > 1 else ''} {listed(required, _SHOWN)}"
        words = {
            "told": f"load_model cannot rebuild {model} from a checkpoint alone: its hyper-parameters lack the {names}",
            "todo": f"Call self.save_hyperparameters() in its __init__, or give load_model {required[0]}=....",
        }
        return _said(NOT_LOADABLE, where, words, arguments=list(missing))
    if missing:
        pairs = [f"{name}={default!r:.40}" for name, default in missing.items()]
        words = {
            "told": f"load_model rebuilds {model} with its default {listed(pairs, _SHOWN)}: its hyper-parameters "
            "do not say what this run used",
            "todo": "Call self.save_hyperparameters() in its __init__ if the run may have used another value.",
        }
        return _said(NOT_LOADABLE, where, words, arguments=list(missing))
    return None


def of_left_out(manifest: Manifest, where: Where) -> Finding | None:
    """Return what to say of a model some of whose code the checkpoints lack."""
    model = manifest["model"]
    code = {
        str(each["path"]): each for each in left_out(skipped_of(manifest)) if each["kind"] not in ("data", "config")
    }
    lacking = [path for path in manifest.model_files if path in code]
    if not lacking:
        return None
    shown = [f"{path} ({code[path].get('reason')})" for path in lacking]
    helps = {
        "holds": "keep the token out of the code, in an environment variable",
        "too large": "raise max_file",
        "system": "give the file another name",
    }
    todo = ", and ".join(help for word, help in helps.items() if any(word in each for each in shown))
    words = {
        "told": f"load_model cannot rebuild {model.get('qualname')} from a checkpoint alone: its code is left out of "
        f"the snapshot in {listed(shown, _SHOWN)}",
        "todo": f"{begun(todo)}. Where the same file lies on the import path, it is taken from there.",
    }
    return _said(NOT_LOADABLE, where, words, files=lacking[:_MOST])


def drifted(paths: Sequence[str], mixed: Sequence[str], where: Where) -> Finding | None:
    """Return what to say of files that changed after they were captured.

    Args:
        mixed: Those of them that the run imported after they had changed.
    """
    if mixed:
        words = {
            "told": "imported during the run, after it had been changed on disk",
            "paths": listed(mixed, _SHOWN),
            "todo": "The run has mixed old and new code: run it again from one state, or import these at the start.",
        }
        return _said(CODE_CHANGED, where, words, files=list(mixed[:_MOST]))
    if paths:
        words = {
            "told": "changed on disk during the run, which went on with the code it had",
            "paths": listed(paths, _SHOWN),
            "todo": "Nothing to mend: the checkpoints hold the code that ran, not what is on disk now.",
        }
        return _said(CODE_CHANGED, where, words, severity=Severity.INFO, files=list(paths[:_MOST]))
    return None


def differing(comparison: CodeComparison, checkpoint: str, where: Where) -> Finding | None:
    """Return what to say of a checkpoint whose code is not the one that is about to run, ``None`` if it is."""
    unlike = [each for each in comparison.files if each.verdict != "identical"]
    for_model = [f"{each.path} ({each.verdict})" for each in unlike if each.is_model]
    others = [f"{each.path} ({each.verdict})" for each in unlike if not each.is_model]
    severity, shown = Severity.INFO, for_model + others
    if comparison.model == "changed":
        told, severity, shown = "the model's code has changed since", Severity.WARNING, for_model
    elif comparison.model == "cosmetic":
        told = "the code has changed, in comments and docstrings only, since"
    elif comparison.others == "changed":
        told = "the code has changed, outside of the model only, since"
    else:
        return None
    evidence = {"checkpoint": checkpoint, "files": shown[:_MOST]}
    return _said(CODE_DIFFERS, where, {"told": told, "paths": listed(shown, _SHOWN)}, severity=severity, **evidence)


def _said(
    rule: Rule, where: Where, words: dict[str, str], *, severity: Severity | None = None, **evidence: Any
) -> Finding:
    """Return a finding whose ``words`` stand in its sentences and not, once more, in its evidence."""
    finding = rule.found(where, severity=severity, **words, **evidence)
    return replace(finding, evidence=evidence)
