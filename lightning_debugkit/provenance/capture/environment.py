"""What a run stood on: Python, packages, devices; and what is different from another run."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from lightning_debugkit.core.secrets import HIDDEN, is_secret_name, scrub_text


def environment(arguments: Sequence[str], editable: Mapping[str, str], module: str | None = None) -> dict[str, Any]:
    """Return what this process runs on, as plain types.

    Args:
        arguments: The command line, secrets already taken out.
        editable: Folders of distributions that are installed from their source, by name.
        module: What runs, if it was started as ``python -m module``.
    """
    import torch  # late: the manifest is read without

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())] if cuda else [],
        "threads": torch.get_num_threads(),
        "packages": dict(_packages()),
        "editable": dict(editable),
        "arguments": list(arguments),
        "module": module,
    }


@functools.cache
def _packages() -> tuple[tuple[str, str], ...]:
    """Return names and versions of what is installed; it takes a quarter of a second, so once a process."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            found.setdefault(distribution.metadata["Name"], distribution.version)
        except Exception:  # a broken installation is not ours to mend
            continue
    return tuple(sorted((name, version) for name, version in found.items() if name and version))


def without_secrets(value: Any) -> Any:
    """Return ``value`` without what goes by the name of a secret, tokens, and credentials in URLs.

    >>> without_secrets({"lr": 0.1, "db": {"password": "hunter2", "host": "h"}})
    {'lr': 0.1, 'db': {'password': '***', 'host': 'h'}}
    """
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if _is_something(item) and is_secret_name(str(key)) else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return scrub_text(value) if isinstance(value, str) else value


def _is_something(value: Any) -> bool:
    """Whether there is a secret, or none, is no secret."""
    return value is not None and not isinstance(value, bool)


def environment_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what differs between two environments: name, then, now; empty text for what was not there.

    >>> then, now = {"packages": {"torch": "2.5"}}, {"packages": {"a": "1"}}
    >>> environment_difference(then, now)
    [('a', '', '1'), ('torch', '2.5', '')]
    """
    before, after = _flat(then), _flat(now)
    names = sorted(before.keys() | after.keys(), key=lambda name: (name not in _FACTS, name.lower()))
    return [
        (name, before.get(name, ""), after.get(name, ""))
        for name in names
        if before.get(name, "") != after.get(name, "")
    ]


_FACTS = ("python", "platform", "cuda", "devices")


def _flat(environment: Mapping[str, Any]) -> dict[str, str]:
    facts = {name: environment.get(name) for name in _FACTS}
    told = {name: ", ".join(map(str, fact)) if isinstance(fact, list) else str(fact) for name, fact in facts.items()}
    packages = environment.get("packages")
    listed = packages.items() if isinstance(packages, Mapping) else ()
    return {name: text for name, text in told.items() if text not in ("", "None")} | {
        str(name): str(version) for name, version in listed
    }
