"""A report as an object, in a notebook, and several runs on one page."""

import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from report.conftest import END, LOSS, RUN, SEED

from lightning_debugkit import Report, read_journal, read_report
from lightning_debugkit.cli import main
from lightning_debugkit.core.finding import Finding, Severity, Where
from lightning_debugkit.report import summarize
from lightning_debugkit.report.compared_runs import compare_runs, run_names
from lightning_debugkit.report.read_report import show_in_notebook
from lightning_debugkit.report.sections.logged_metrics import logged

Writer = Callable[..., Path]
BROKE = {"status": "exception", "exception": {"type": "TrainingAnomaly", "message": f"nonfinite-loss: {LOSS.message}"}}


def test_a_report_has_the_findings_and_figures_of_the_run(rich: Path) -> None:
    report = read_report(rich)
    assert (report.findings[0].rule, report.findings[0].message) == (LOSS.rule, LOSS.message)
    assert report.start_here == LOSS.advice
    assert set(report.figures) == {"loss", "gradient-norms", "learning-rate"}
    assert all(isinstance(figure, Figure) for figure in report.figures.values())


def test_findings_are_a_table_where_pandas_is_installed(rich: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = read_report(rich).to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert table.loc[table["rule"] == "nonfinite-loss", "step"].tolist() == [24]


def test_without_pandas_the_error_says_what_to_do(rich: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"needs pandas; pip install pandas, or use Report\.findings"):
        read_report(rich).to_pandas()


def test_a_notebook_shows_the_verdict_once_and_escapes_it(journal: Writer) -> None:
    hostile = Finding("dead-units", Severity.WARNING, "<script>alert(1)</script> is dead", Where(0, 12))
    shown = Report(journal(LOSS, hostile, {**END, **BROKE}))._repr_html_()
    assert shown.count("log(0) in training_step") == 1
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt; is dead" in shown


def test_the_end_of_a_fit_is_shown_in_a_notebook_and_not_in_a_terminal(
    journal: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, shown = Report(journal(END)), list[Any]()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not show_in_notebook(report)
    shell = types.SimpleNamespace(kernel=None)
    python, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    python.get_ipython = lambda: shell
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert not show_in_notebook(report)
    shell.kernel = object()
    assert show_in_notebook(report)
    assert show_in_notebook(report)
    assert shown == [report], "the same is not shown twice"


@pytest.fixture
def two(journal: Writer, tmp_path: Path) -> tuple[Path, Path]:
    """A run that broke, and its mended twin with another rate."""
    folders = tmp_path / "logs/version_0/debugkit", tmp_path / "logs/version_1/debugkit"
    for count, (folder, *said) in enumerate(((folders[0], LOSS, {**END, **BROKE}), (folders[1], SEED, END))):
        folder.mkdir(parents=True)
        points = [
            {"kind": "measure", "name": name, "epoch": 0, "step": step, "rank": 0, "value": value}
            for step in range(5)
            for name, value in (
                ("loss", 2.0 / (step + 1 + count)),
                ("gradient-norms", {"a": 3.0, "b": 4.0}),
                ("learning-rate", {"Adam": 0.1 / (step + 1)}),
                ("logged", {"val/loss": 1.0 + step, "val/acc": 0.1 * step}),
            )
        ]
        run = {**RUN, "config": {**RUN["config"], "max_epochs": 3 + count}}
        journal(run, *points, *said, folder=folder)
    return folders


def test_runs_side_by_side_are_one_page(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "both.html"
    assert main(["report", str(two[0]), str(two[1] / "journal-0.jsonl"), "--to", str(page)]) == 0
    assert "2 runs side by side: version_0 (1 finding), version_1." in capsys.readouterr().out
    text = page.read_text()
    assert '<header class="info">' in text, "a page on what went wrong is not green"
    for title in ("Loss of each step", "val/loss", "val/acc", "Norm of the whole gradient", "Learning rate"):
        assert f"<strong>{title}</strong>" in text, title
    assert text.count(">version_0</text>") == 5  # a legend in each figure
    assert "error, step 24" in text
    assert "max_epochs" in text
    assert "accumulate_grad_batches" not in text, "what is the same is no difference"


def test_a_run_has_one_colour_in_all_figures_and_two_that_share_a_metric_show_it(
    two: tuple[Path, Path], journal: Writer, tmp_path: Path
) -> None:
    """The run between them broke before it logged anything."""
    broke = tmp_path / "logs/version_2/debugkit"
    broke.mkdir(parents=True)
    points = [
        {"kind": "measure", "name": "loss", "epoch": 0, "step": step, "rank": 0, "value": 1.0 + step}
        for step in range(5)
    ]
    journal(RUN, *points, LOSS, {**END, **BROKE}, folder=broke)
    page = tmp_path / "all.html"
    assert main(["report", *map(str, (two[0], broke, two[1])), "--to", str(page)]) == 0
    drawn = dict(_figures(page.read_text()))
    assert [f"--series-{number}" in drawn["Loss of each step"] for number in (1, 2, 3)] == [True, True, True]
    assert [f"--series-{number}" in drawn["val/acc"] for number in (1, 2, 3)] == [True, False, True]


def _figures(page: str) -> list[tuple[str, str]]:
    return re.findall(r'<figure class="plot">\s*<figcaption><strong>(.*?)</strong>(.*?)</figure>', page, re.DOTALL)


def test_runs_side_by_side_are_called_as_they_were_asked_for(
    two: tuple[Path, Path], journal: Writer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest below a folder bears the folder's name, and the older ones are told of."""
    last = tmp_path / "wide/version_0/debugkit"
    last.mkdir(parents=True)
    journal(RUN, SEED, END, folder=last)
    assert main(["report", str(tmp_path / "logs"), str(tmp_path / "wide"), "--to", str(tmp_path / "both.html")]) == 0
    told = capsys.readouterr().out
    assert "2 runs side by side: logs" in told
    assert f"The newest of 2 runs; lightning-debugkit log {tmp_path / 'logs'} lists them." in told
    assert '<header class="well">' in (tmp_path / "both.html").read_text()


def test_a_folder_that_is_not_there_is_called_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "gone")]) == 2
    assert f"got '{tmp_path / 'gone'}', which does not exist" in capsys.readouterr().err


def test_a_page_for_several_runs_is_not_written_of_one(
    two: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "one.html"
    assert main(["report", str(two[0]), "--to", str(page)]) == 2
    assert f"report needs two runs or more for --to, got '{page}' for one" in capsys.readouterr().err
    assert not page.exists()


@pytest.mark.parametrize(
    ("held", "told", "untold"),
    [
        ({"drop": (0.1, 0.7), "batch": (8, 64)}, ("hyper_parameters.drop", "0.7", "batch size", "64"), "Not on record"),
        ({"drop": (0.1, 0.1), "batch": (8, 8)}, ("What is on record of these runs is the same.",), "Not on record"),
        (
            {"drop": (None, None), "batch": (None, 8)},
            ("Not on record of each, and perhaps not the same: batch size, hyper-parameters; save_hyperparameters()",),
            "hyper_parameters.drop",
        ),
    ],
)
def test_a_comparison_tells_what_differs_and_what_it_does_not_know(
    held: dict[str, Any], told: tuple[str, ...], untold: str, journal: Writer, tmp_path: Path
) -> None:
    folders = []
    for count, (drop, batch) in enumerate(zip(held["drop"], held["batch"], strict=True)):
        config = {**RUN["config"], **({} if drop is None else {"hyper_parameters": {"drop": drop, "depth": 2}})}
        facts = [] if batch is None else [{"kind": "facts", "rank": 0, "batch_size": batch}]
        folder = tmp_path / f"version_{count}"
        folder.mkdir()
        folders.append(journal({**RUN, "dirty": False, "config": config}, *facts, END, folder=folder))
    compare_runs([Report(folder) for folder in folders], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    assert [words for words in told if words not in text] == []
    assert untold not in text
    assert "hyper_parameters.depth" not in text


def test_code_with_changes_that_no_commit_has_is_not_called_the_same(journal: Writer, tmp_path: Path) -> None:
    run = Report(journal(RUN, END))
    compare_runs([run, run], tmp_path / "both.html")
    assert "perhaps not the same: state of the code, batch size" in (tmp_path / "both.html").read_text()


def test_a_comparison_of_one_run_says_what_it_needs(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *[str(two[0])] * 7]) == 2
    assert "A comparison needs two to 6 runs, got 7" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a/debugkit", "b/debugkit"], ["a", "b"]),
        (["a/debugkit", "a/debugkit-1"], ["a", "debugkit-1"]),
        (["a/x", "b/x"], ["a", "b"]),
        (["a/1/debugkit", "b/1/debugkit"], ["a", "b"]),
        (["a", "a"], ["a (1)", "a (2)"]),
    ],
)
def test_runs_are_called_by_what_tells_them_apart(folders: list[str], names: list[str]) -> None:
    assert run_names([Path("/" + folder) for folder in folders]) == names


def test_a_report_is_found_from_its_page_and_from_above(
    two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (two[0] / "report.html").exists()
    for given in (two[0] / "report.html", two[0], two[0] / "report.html", two[0].parent):  # drawn by the first
        assert main(["report", str(given)]) == 0
    assert capsys.readouterr().out.count("The run broke: loss is inf at step 24") == 4
    assert main(["report", str(two[0].parent.parent)]) == 0
    assert "No fault found" in capsys.readouterr().out, "the newest"
    assert main(["report", str(two[0].parent / "nowhere")]) == 2
    assert "usually LOG_DIR/debugkit" in capsys.readouterr().err


def test_a_bundle_that_is_not_there_is_said_at_once() -> None:
    code = (
        "import sys; from lightning_debugkit.cli import main; status = main(['replay', 'nowhere']);"
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n"
    assert "replay needs the folder of a bundle, got 'nowhere'" in done.stderr


def test_the_log_has_the_last_of_what_was_logged(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", str(two[0].parent.parent)]) == 0
    assert capsys.readouterr().out.count("val/loss 5 (last)") == 2


def test_a_metric_that_stayed_as_it_was_is_drawn_to_the_last_step(journal: Writer) -> None:
    """The journal has what changed."""
    said = [(0, {"val_acc": 0.5, "once": 1.0}), (5, {"val_acc": 0.9}), (9, {"val_loss": 0.1})]
    points = [{"kind": "measure", "name": "logged", "step": step, "rank": 0, "value": value} for step, value in said]
    summary = summarize(read_journal(journal(RUN, *points, END)))
    found = {curve.label: (curve.steps.tolist(), curve.values.tolist()) for curve in logged(summary)}
    assert found == {"val_acc": ([0, 5, 9], [0.5, 0.9, 0.9]), "once": ([0], [1.0]), "val_loss": ([9], [0.1])}
