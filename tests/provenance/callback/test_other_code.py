"""Going on with, or testing, a checkpoint of other code is told."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
from provenance.packages import MODEL, fit, model, rules

from lightning_debugkit import CodeSnapshot, read_journal
from lightning_debugkit.core.journal import Events

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def resume(package: Path, path: Path) -> Events:
    trainer = pl.Trainer(
        max_epochs=3, logger=False, default_root_dir=package.parents[1] / "resumed", callbacks=[CodeSnapshot()],
        enable_progress_bar=False, enable_checkpointing=False, accelerator="cpu", enable_model_summary=False,
    )  # fmt: skip
    try:
        trainer.fit(model(package), ckpt_path=path)
    finally:
        events = read_journal(package.parents[1] / "resumed" / "debugkit")
    return events


def saved(package: Path) -> Path:
    trainer = fit(package, CodeSnapshot(), enable_checkpointing=False)
    path = package.parent / "x.ckpt"
    trainer.save_checkpoint(path)
    return path


def test_resuming_with_the_same_code_is_silent(project: Path) -> None:
    assert "model-code-differs" not in rules(resume(project, saved(project)))


@pytest.mark.parametrize(
    ("old", "new", "severity", "said"),
    [
        ("Dropout(0.5)", "Dropout(0.1)", "warning", "the model's code has changed since"),
        ('"""A model of a user."""', '"""The model."""', "info", "in comments and docstrings only"),
    ],
)
def test_resuming_with_other_code_is_told(project: Path, old: str, new: str, severity: str, said: str) -> None:
    path = saved(project)
    (project / "model.py").write_text(MODEL.replace(old, new))
    del sys.modules[f"{project.name}.model"]
    (finding,) = [each for each in resume(project, path).findings if each.rule == "model-code-differs"]
    assert str(finding.severity) == severity
    assert said in finding.message
    assert f"{project.name}/model.py" in finding.message
    assert str(path) in finding.message


def test_it_is_told_also_where_the_weights_do_not_fit_any_more(project: Path) -> None:
    path = saved(project)
    (project / "model.py").write_text(MODEL.replace("self.layers", "self.blocks"))
    del sys.modules[f"{project.name}.model"]
    with pytest.raises(RuntimeError, match="Missing key"):
        resume(project, path)
    assert "model-code-differs" in rules(read_journal(project.parents[1] / "resumed" / "debugkit"))


def test_testing_a_checkpoint_of_other_code_is_logged(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(project)
    (project / "model.py").write_text(MODEL.replace("Dropout(0.5)", "Dropout(0.1)"))
    del sys.modules[f"{project.name}.model"]
    trainer = pl.Trainer(
        logger=False, callbacks=[CodeSnapshot()], enable_progress_bar=False, accelerator="cpu",
        default_root_dir=project.parents[1] / "tested",
    )  # fmt: skip
    with caplog.at_level(logging.WARNING, "lightning_debugkit"):
        net = model(project)
        trainer.validate(net, net.val_dataloader(), ckpt_path=path, verbose=False)
    assert "model-code-differs" in caplog.text
