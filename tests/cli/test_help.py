"""What the command line says of itself."""

from __future__ import annotations

import re

import pytest

from lightning_debugkit.cli import COMMANDS, main


def test_a_report_needs_one_run_and_no_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report"])
    said = capsys.readouterr().err
    assert "required" in said
    assert re.findall(r"report\.\w+", said) == ["report.run_folder"]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_what_users_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "parser" not in capsys.readouterr().out
