"""A bad sample is named so that its owner can go and look at it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from monitors.breaking import fit, make
from torch.utils.data import DataLoader, TensorDataset

from lightning_debugkit import Finding, GradientAnomalyDetector, TrainingAnomaly

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::UserWarning:lightning")]


def told(folder: Path, bad: list[int], shuffle: bool = True) -> tuple[Finding, str]:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(3))
    x[bad, 2] = math.nan
    loader = DataLoader(TensorDataset(x, x.nan_to_num().sum(1, keepdim=True)), batch_size=8, shuffle=shuffle)
    with pytest.raises(TrainingAnomaly) as caught:
        fit(make(), folder, GradientAnomalyDetector(), train=loader)
    return caught.value.finding, str(caught.value)


def test_the_entry_of_the_dataset_is_in_the_advice_and_in_the_exception(tmp_path: Path) -> None:
    finding, text = told(tmp_path, [21])
    assert finding.rule == "nonfinite-input"
    assert f"batch[0] holds nan, sample {finding.evidence['samples'][0]} of the batch" in finding.message
    assert finding.advice == "Clean or drop entry 21 of the dataset."
    assert "entry 21 of the dataset" in text


def test_several_entries_are_all_named(tmp_path: Path) -> None:
    finding, _ = told(tmp_path, [17, 20], shuffle=False)
    assert finding.advice == "Clean or drop entries 17, 20 of the dataset."
