"""What a run stood on is plain types, complete, and without secrets."""

from __future__ import annotations

import json
from importlib import metadata

import torch

from lightning_debugkit.provenance.capture.environment import environment, environment_difference, without_secrets


def test_versions_are_those_of_the_installation() -> None:
    told = environment(["train.py", "--lr=1"], {"mine": "/src/mine"})
    assert told["torch"] == torch.__version__
    assert told["packages"]["jinja2".capitalize()] == metadata.version("jinja2")
    assert (told["arguments"], told["editable"]) == (["train.py", "--lr=1"], {"mine": "/src/mine"})
    assert json.loads(json.dumps(told)) == told


def test_an_environment_does_not_differ_from_itself() -> None:
    told = environment([], {})
    assert environment_difference(told, told) == []


def test_facts_come_before_packages_and_packages_by_name() -> None:
    then = {"python": "3.10.1", "devices": ["H200"], "packages": {"b": "1", "A": "1", "same": "2"}}
    now = {"python": "3.11.7", "devices": [], "packages": {"b": "2", "c": "3", "same": "2"}}
    assert environment_difference(then, now) == [
        ("devices", "H200", ""),
        ("python", "3.10.1", "3.11.7"),
        ("A", "1", ""),
        ("b", "1", "2"),
        ("c", "", "3"),
    ]


def test_a_foreign_environment_is_no_error() -> None:
    assert environment_difference({"packages": 3, "devices": None}, {}) == []


def test_values_under_the_names_of_secrets_are_left_out_at_any_depth() -> None:
    held = {
        "logger": [{"api_key": "abc", "project": "p"}],
        "url": "postgres://u:hunter2@h/db",
        "HF_TOKEN": "x",
        "max_tokens": 512,
        "tokenizer": {"n": 1},
    }
    assert without_secrets(held) == {
        "logger": [{"api_key": "***", "project": "p"}],
        "HF_TOKEN": "***",
        "url": "postgres://h/db",
        "max_tokens": 512,
        "tokenizer": {"n": 1},
    }
