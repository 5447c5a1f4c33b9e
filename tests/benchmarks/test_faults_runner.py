"""The scoring of the fault corpus, on a journal that is written here and on programs that state themselves."""

import json
from dataclasses import replace
from multiprocessing import get_all_start_methods
from pathlib import Path

import pytest

from benchmarks.faults import peers, processes
from benchmarks.faults.__main__ import main, written
from benchmarks.faults.corpus import FOLDER, Case, cases, read_case
from benchmarks.faults.page import verdict
from benchmarks.faults.scoring import findings_under, score, share
from lightning_debugkit import Finding


def finding(rule: str, severity: str, message: str = "", **evidence: object) -> Finding:
    event = {
        "kind": "finding",
        "rule": rule,
        "severity": severity,
        "message": message,
        "where": {"epoch": 0, "step": 3, "rank": 0, "module": ""},
        "evidence": evidence,
        "advice": "",
        "section": "",
    }
    return Finding.from_event(event)


def test_an_information_is_no_detection():
    judged = score([finding("loss-reduction", "info")], ["nonfinite-loss"], "log")
    assert (judged.detected, judged.diagnosed, judged.placed) == (False, False, False)


def test_the_first_and_the_gravest_are_both_accepted():
    told = [finding("vanishing-gradient", "warning"), finding("dead-units", "warning"), finding("no-loss", "error")]
    assert score(told, ["vanishing-gradient"], None).diagnosed
    assert score(told, ["no-loss"], None).diagnosed
    assert not score(told, ["dead-units"], None).diagnosed


def test_what_the_report_puts_first_is_accepted_before_its_consequence():
    effect = replace(finding("step-raised", "error"), can_follow=("label-out-of-range",))
    told = [finding("loss-at-init", "warning"), effect, finding("label-out-of-range", "error")]
    assert score(told, ["label-out-of-range"], None).diagnosed
    assert not score(told, ["step-raised"], None).diagnosed


def test_the_place_is_sought_in_the_right_finding_alone():
    told = [finding("no-gradient", "warning", "head.weight"), finding("no-loss", "error", "body", line="head")]
    assert score(told, ["no-loss"], "head").placed
    assert not score(told, ["no-gradient"], "body").placed


def test_a_journal_anywhere_below_the_folder_is_read(tmp_path: Path):
    run = tmp_path / "lightning_logs" / "version_0" / "debugkit"
    run.mkdir(parents=True)
    (run / "journal-0.jsonl").write_text(
        json.dumps({**finding("no-loss", "error", "none").to_event(), "v": 1}) + "\n", encoding="utf-8"
    )
    assert [f.rule for f in findings_under(tmp_path)] == ["no-loss"]


def test_shares_have_wilson_intervals():
    part = share(19, 20)
    assert part["low"] == pytest.approx(0.764, abs=1e-3)
    assert part["high"] == pytest.approx(0.991, abs=1e-3)
    assert "share" not in share(0, 0)


def test_peers_that_accuse_nothing_count_together_and_a_run_that_was_not_possible_does_not(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", {"one": {"a": "json"}, "two": {"b": "json", "c": "json", "absent": "no_such"}})
    runs = {
        "one": {"detected": [{"a"}, set(), set()], "accused": [set(), set(), None]},
        "two": {"detected": [{"a", "c"}, {"b"}, set()], "accused": [{"c"}, set(), None]},
    }
    rows = peers.counted(runs)
    found = {name: [(part["hits"], part["of"]) for part in forms.values()] for name, forms in rows.items()}
    together = found.pop("those that accuse nothing, together")
    assert found == {"a": [(1, 3), (0, 2)], "b": [(1, 3), (0, 2)], "c": [(1, 3), (1, 2)]}
    assert together == [(2, 3), (0, 2)]


def test_a_program_that_does_not_state_itself_is_refused(tmp_path: Path):
    path = tmp_path / "half.py"
    path.write_text("DIAGNOSES = ()\nPLACE = None\n", encoding="utf-8")
    with pytest.raises(ValueError, match="PRESET"):
        read_case(path)


RUN = {"case": "log_of_zero_price", "seed": 0, "expected": ["nonfinite-loss"], "place": None, "ended": "well"}
BLIND = {"detected": False, "diagnosed": False, "placed": None, "said": [], "output": "much"}


def test_results_that_were_written_make_the_page(tmp_path: Path):
    parts = []
    for i, detected in enumerate((True, False)):
        mended = {**RUN, **BLIND, "form": "mended", "detected": detected, "said": [["no-loss", "none"]] * detected}
        results = {"machine": {"python": "3"}, "runs": [mended, {**RUN, **BLIND, "form": "fault"}], "peers": {}}
        parts.append(tmp_path / f"{i}.json")
        parts[-1].write_text(written(results), encoding="utf-8")
    made = tmp_path / "page.md"
    assert main(["--from", str(parts[0]), "--page", str(made)]) == 1
    assert "- `log_of_zero_price` (mended): none" in made.read_text(encoding="utf-8")
    assert main(["--from", *map(str, parts), "--page", str(made)]) == 0  # a program that ran again counts once
    assert "| `log_of_zero_price` | `nonfinite-loss` | nothing |" in made.read_text(encoding="utf-8")


def test_programs_that_were_written_again_are_counted_apart(tmp_path: Path):
    second = {**RUN, "case": "decibels_of_a_silent_clip", "again": "validation_percentage_of_zero", "place": "x"}
    found = {**second, **BLIND, "form": "fault", "detected": True, "diagnosed": True, "placed": False}
    results = {"machine": {}, "runs": [{**RUN, **BLIND, "form": "fault"}, found], "peers": {}}
    path, made = tmp_path / "results.json", tmp_path / "page.md"
    path.write_text(written(results), encoding="utf-8")
    stored = json.loads(path.read_text(encoding="utf-8"))["totals"]
    assert (stored["corpus"]["detected"]["hits"], stored["again"]["detected"]["hits"]) == (0, 1)
    assert main(["--from", str(path), "--page", str(made)]) == 0
    lines = made.read_text(encoding="utf-8").splitlines()
    assert "| detected | 0 of 1 | 0 % | 0 % to 79.3 % | 1 of 1 | 100 % | 20.7 % to 100 % |" in lines
    assert "| placed | - | - | - | 0 of 1 | 0 % | 0 % to 79.3 % |" in lines
    rule = "nonfinite-validation (infinite metrics)"
    assert f"| `{second['again']}` | {rule} | `{second['case']}` | detected, diagnosed |" in lines


def test_what_came_of_a_program_is_said_in_words():
    fault, healthy = (read_case(FOLDER / f"{name}.py") for name in ("log_of_zero_price", "healthy_swa"))
    run = {**RUN, **BLIND, "form": "fault", "place": "log"}
    told = {"detected": True, "diagnosed": True, "placed": True}
    assert verdict(fault, [{**run, **told}]) == "detected, diagnosed, placed"
    assert verdict(fault, [{**run, **told}, {**run, **told, "placed": False}]) == "detected, diagnosed"  # of two seeds
    assert verdict(fault, [run, {**run, "form": "mended", "detected": True}]) == "missed, its mended twin accused"
    sound = {**run, "case": "healthy_swa", "form": "healthy"}
    assert [verdict(healthy, [{**sound, "detected": said}]) for said in (False, True)] == ["silent", "accused"]
    assert verdict(healthy, [run]) == verdict(healthy, [{**sound, "ended": "skipped"}]) == "not run"


def test_each_changed_rule_has_a_program_that_was_written_again():
    every = {case.name: case for case in cases()}
    assert {case.again for case in every.values()} - {None} == {case.name for case in every.values() if case.changed}
    for case in every.values():
        if case.again:
            assert not case.changed  # what it finds must not have been made to find it
            assert case.healthy == every[case.again].healthy
            assert set(every[case.again].diagnoses) <= set(case.diagnoses)


def test_a_program_runs_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", "light")
    processes.begin_with(())
    script = "import multiprocessing as m, os, sys\nprint(os.environ.get('LIGHTNING_DEBUGKIT'), m.get_start_method())\n"
    code, printed = processes.execute(tmp_path, script + "sys.exit('skipped: it')", {}, 60)
    assert (code, printed) == (1, f"None {get_all_start_methods()[0]}\nskipped: it\n")
    assert processes.execute(tmp_path, "while True: pass", {}, 1)[0] is None


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_every_program_says_where_it_comes_from(case: Case):
    assert "Added: " in case.story
    assert case.healthy or "Source: " in case.story
    assert case.preset in ("standard", "thorough")
