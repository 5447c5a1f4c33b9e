"""A program exported beside a checkpoint runs as the checkpoint does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from provenance.packages import MODEL, fit, journal, model

from lightning_debugkit import CodeSnapshot

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


def test_an_exported_program_runs_as_the_checkpoint_does(project: Path) -> None:
    saver = ModelCheckpoint(project.parent / "ckpt", monitor="val_loss", save_last=True)
    fit(project, CodeSnapshot(export=True), saver)
    net = model(project)
    inputs = torch.randn(5, 4)
    for path in {saver.best_model_path, saver.last_model_path}:
        net.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
        program = torch.export.load(Path(path).with_suffix(".pt2")).module()
        assert torch.equal(program(inputs), net.eval()(inputs))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        self.layers =", "        self.example_input_array = torch.zeros(1, 4)\n        self.layers ="),
        ("    def forward(self, x):", "    def forward(self, x, *, scale=None, shift=0.0):"),
        ("        return self.layers(x)", "        self.log('seen', x.mean())\n        return self.layers(x)"),
    ],
)
def test_the_program_takes_a_batch_of_any_size(project: Path, old: str, new: str) -> None:
    text = MODEL.replace(old, new)
    if "scale" in new:
        text = text.replace("self(batch[0]).square()", "self(batch[0], scale=batch[0], shift=1.0).square()")
    (project / "model.py").write_text(text)
    fit(project, CodeSnapshot(export=True), enable_checkpointing=False)
    (event,) = [event for event in journal(project).of_kind("artifact") if event["name"] == "export"]
    assert (event.get("reason"), event.get("fixed")) == (None, [])
    program = torch.export.load(event["path"]).module()
    further = {"scale": torch.zeros(7, 4), "shift": 1.0} if "scale" in new else {}
    assert program(torch.randn(7, 4), **further).shape == (7, 1)


def test_a_batch_that_must_keep_its_size_is_told(project: Path) -> None:
    (project / "model.py").write_text(MODEL.replace("return self.layers(x)", "return self.layers(x).view(2, 1)"))
    (project / "model.py").write_text(
        (project / "model.py")
        .read_text()
        .replace(", 8)", ", 2)")
        .replace("self.layers =", "self.example_input_array = torch.zeros(2, 4)\n        self.layers =")
    )
    fit(project, CodeSnapshot(export=True), enable_checkpointing=False)
    (event,) = [event for event in journal(project).of_kind("artifact") if event["name"] == "export"]
    assert event["fixed"] == [2]


def test_a_model_that_cannot_be_exported_says_why(project: Path) -> None:
    (project / "model.py").write_text(
        MODEL.replace("return self.layers(x)", "return self.layers(x) if float(x.sum()) > -1e9 else x")
    )
    fit(project, CodeSnapshot(export=True))
    (event,) = [event for event in journal(project).of_kind("artifact") if event["name"] == "export"]
    assert event["path"] is None
    assert "torch.export cannot trace forward()" in event["reason"]
    assert journal(project).of_kind("trouble") == []
