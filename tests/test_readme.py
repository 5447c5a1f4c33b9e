"""What the README shows is what there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm_process
import yaml
from packaging.requirements import Requirement

from lightning_debugkit import GradientAnomalyDetector
from lightning_debugkit.cli import main, parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_help_text_is_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shown = re.search(r"<!-- help -->\n```text\n(.*?)```\n<!-- /help -->", README, re.DOTALL)
    assert shown is not None
    assert shown[1] == parser().format_help()


def test_help_answers_without_torch() -> None:
    code = (
        "import sys; from lightning_debugkit.cli import parser; parser().format_help(); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_what_it_tells_pip_to_install_pip_can_read() -> None:
    asked = re.findall(r'pip install (?:-\w+ )*"([^"]+)"', README)
    assert len(asked) >= 3
    for each in asked:
        place = re.fullmatch(r"\.(\[[\w,]+\])?", each)
        assert place or Requirement(each).name  # raises at what is neither


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_what_it_costs_is_what_was_measured(page: str) -> None:
    row = next(line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if "does it cost?" in line)
    said = re.findall(r"(\d+) % of (?:a step|one) of (\d+) ms", row)
    steps = [line.split("|") for line in (ROOT / "docs/cost.md").read_text(encoding="utf-8").splitlines()]
    measured = {
        (f"{(float(cells[5]) - 1) * 100:.0f}", f"{float(cells[2]):.0f}")
        for cells in steps
        if len(cells) == 15 and re.fullmatch(r"[\d.]+", cells[2].strip())
    }
    assert said
    assert set(said) <= measured


def test_the_yaml_names_a_callback_and_its_arguments() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    (callback,) = yaml.safe_load(block[1])["trainer"]["callbacks+"]
    assert callback["class_path"] == "lightning_debugkit.GradientAnomalyDetector"
    assert GradientAnomalyDetector(**callback["init_args"]).action == "raise"


def test_the_demo_ends_as_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm_process.python())
    assert main(["demo", str(tmp_path / "demo")]) == 0
    printed = capsys.readouterr().out
    for line in ("t = torch.log(wh)", "dataset entries 777", "log(0) in training_step"):
        assert line in printed
        assert line in README
    bundles = list((tmp_path / "demo" / "debugkit" / "bundles").iterdir())
    again = subprocess.run(
        [warm_process.python(), "-m", "lightning_debugkit", "replay", "--trust-code", str(bundles[0])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert "The step broke again, in the same place." in again.stdout
    assert main(["report", str(tmp_path / "demo")]) == 0
    assert "report.html" in capsys.readouterr().out


def test_a_wrong_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "needs a run folder" in capsys.readouterr().err
    assert main(["replay", str(tmp_path)]) == 2
    assert "needs a bundle folder" in capsys.readouterr().err
