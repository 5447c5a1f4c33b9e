"""Ready lists of callbacks."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch import Callback
from monitors.breaking import fit, make

from lightning_debugkit import (
    ActivationMonitor,
    BiasVarianceReport,
    CodeSnapshot,
    DataCheck,
    ErrorAnalysis,
    GradientAnomalyDetector,
    GradientClippingMonitor,
    PreflightCheck,
    Preset,
    debugkit,
)
from lightning_debugkit.presets import PRESETS


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("light", [GradientAnomalyDetector(wiring=False, bundle=False), GradientClippingMonitor()]),
        (
            "standard",
            [
                GradientAnomalyDetector(),
                PreflightCheck(),
                DataCheck(),
                GradientClippingMonitor(),
                ActivationMonitor(),
                CodeSnapshot(side_ref=False),
            ],
        ),
        (
            "thorough",
            [
                GradientAnomalyDetector(hooks="always"),
                PreflightCheck(overfit_batch=True),
                DataCheck(baseline=True),
                GradientClippingMonitor(),
                ActivationMonitor(every_n_steps=10),
                CodeSnapshot(side_ref=False),
                BiasVarianceReport(every_n_epochs="auto", train_samples=2000, on_missing="warn"),
                ErrorAnalysis(on_missing="warn"),
            ],
        ),
    ],
)
def test_a_preset_is_a_list_of_callbacks(preset: str, expected: list[Callback]) -> None:
    assert list(map(repr, debugkit(preset))) == list(map(repr, expected))


def test_the_default_is_standard() -> None:
    assert repr(debugkit()) == repr(debugkit("standard"))


def test_an_option_overrides_the_preset() -> None:
    callback = debugkit("light", action="skip", wiring=True)[0]
    assert (callback.action, callback.wiring, callback.bundle) == ("skip", True, False)


def test_an_option_goes_to_all_callbacks_that_have_it() -> None:
    _, _, _, clipping, activations, _ = debugkit("standard", every_n_steps=25)
    assert (clipping.every_n_steps, activations.every_n_steps) == (25, 25)


def test_a_commit_on_a_side_reference_is_asked_for() -> None:
    assert [kit.side_ref for kit in debugkit(side_ref=True) if isinstance(kit, CodeSnapshot)] == [True]
    assert CodeSnapshot().side_ref


def test_a_preset_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(ValueError) as caught:
        debugkit("heavy")
    assert str(caught.value) == (
        "debugkit needs a preset of light, standard, thorough, got 'heavy'; standard is the default."
    )


def test_an_option_that_is_none_is_told_in_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"debugkit needs options among action, .*, got 'acton'; the closest is '"):
        debugkit(acton="skip")


def test_the_page_has_a_row_for_each_callback_and_a_mark_for_each_preset_that_holds_it() -> None:
    page = (Path(__file__).parents[1] / "docs" / "presets.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| [`")]
    told = {preset: [row[0].split("`")[1] for row in rows if row[column]] for column, preset in enumerate(PRESETS, 2)}
    held = {preset: [type(callback).__name__ for callback in debugkit(preset)] for preset in PRESETS}
    assert {preset: set(names) for preset, names in told.items()} == {preset: set(held[preset]) for preset in PRESETS}


@pytest.mark.filterwarnings("ignore")
def test_the_variable_turns_presets_off_and_no_callback_that_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", "off")
    assert debugkit() == debugkit("thorough", ignore=["constant-input"]) == []
    with pytest.raises(TypeError, match="got 'acton'"):
        debugkit(acton="warn")
    for name, callback in (("preset", Preset()), ("alone", GradientAnomalyDetector())):
        fit(make(), tmp_path / name, callback)
    assert not (tmp_path / "preset").exists()
    assert (tmp_path / "alone" / "debugkit").exists()
    monkeypatch.setenv("LIGHTNING_DEBUGKIT", "standard")
    assert debugkit() != []
