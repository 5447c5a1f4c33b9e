"""What the command line says of itself."""

from __future__ import annotations

import pytest

from lightning_debugkit.cli import COMMANDS, main


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("report", "report.run_folder"),
        ("rules --format foo", "'foo' (choose from "),
        ("refs prune --keep abc", "abc"),
        ("frob", "'frob' (choose from "),
        ("rules --nope", "--nope"),
        ("", "subcommand"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line(words: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    told = capsys.readouterr().err
    asked = " ".join(["lightning-debugkit", *(word for word in words.split()[:1] if word in COMMANDS)])
    assert told.startswith("lightning-debugkit: ")
    assert named in told
    assert told.endswith(f"; {asked} --help lists what it takes.\n")
    assert told.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_what_users_have(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "parser" not in capsys.readouterr().out
