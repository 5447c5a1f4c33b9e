"""What is kept of a sample against its probabilities."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_debugkit.stats.sample_records import Records, sample_record


def drawn(n: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    make = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, classes, generator=make), torch.randint(classes, (n,), generator=make)


def recorded(scores: torch.Tensor, target: torch.Tensor, batch: int = 64, first: int | None = None) -> Records:
    records = Records()
    index = None if first is None else torch.arange(first, first + len(target))
    for part in torch.arange(len(target)).split(batch):
        records.update(scores[part], target[part], None if index is None else index[part])
    return records


@pytest.mark.parametrize("classes", [1, 2, 3, 10, 300])
def test_a_record_has_all_probabilities_or_the_likeliest_and_the_labels(classes: int) -> None:
    logits, target = drawn(500, classes)
    truth, table = logits.double().softmax(dim=1), recorded(logits, target).table()
    names = truth.argsort(dim=1, descending=True).numpy()
    kept = np.arange(classes)[None].repeat(500, 0) if classes <= 10 else names[:, :3]
    assert np.array_equal(table.label, target)
    assert np.array_equal(table.classes, names[:, : table.classes.shape[1]])
    assert table.probability == pytest.approx(truth[torch.arange(500), target].numpy(), rel=1e-5)
    assert table.probabilities == pytest.approx(np.take_along_axis(truth.numpy(), kept, 1), rel=1e-5)
    assert table.confidence == pytest.approx(truth.amax(1).numpy(), rel=1e-5)
    assert table.is_whole == (classes <= 10)


@pytest.mark.parametrize(("classes", "size"), [(2, 16), (10, 48), (11, 24), (65_535, 24), (65_536, 32)])
def test_a_sample_takes_24_bytes_and_more_where_all_classes_are_kept(classes: int, size: int) -> None:
    logits = torch.zeros(4, classes)
    logits[:, -1], logits[:, -2] = 2.0, 1.0
    records = Records()
    records.update(logits, torch.full((4,), classes - 1))
    columns = records.state()["columns"]
    assert sum(column[0].nelement() * column.element_size() for column in columns) == size
    assert records.table().label.tolist() == [classes - 1] * 4
    table = records.table()
    named = table.probabilities[0].argsort()[::-1] if table.is_whole else table.classes[0]
    assert named[:2].tolist() == [classes - 1, classes - 2]
    assert table.predicted.tolist() == [classes - 1] * 4


@settings(deadline=None)
@given(
    scores=st.lists(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=12, max_size=12), min_size=1, max_size=8).map(
        torch.tensor
    )
)
def test_among_equals_the_prediction_is_argmaxs(scores: torch.Tensor) -> None:
    found = sample_record(scores, torch.zeros(len(scores), dtype=torch.int64))
    assert torch.equal(found.predicted, scores.argmax(dim=1))
    assert all(len(set(row)) == 3 for row in found.classes.tolist())
    assert torch.equal(scores.gather(1, found.classes), scores.sort(dim=1, descending=True).values[:, :3])


def test_the_loss_is_the_cross_entropy() -> None:
    logits, target = drawn(200, 7)
    truth = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    assert sample_record(logits, target).loss.tolist() == pytest.approx(truth.tolist(), rel=1e-4, abs=1e-6)
    assert sample_record(logits.softmax(1), target, is_logits=False).loss.tolist() == pytest.approx(
        truth.tolist(), rel=1e-4, abs=1e-6
    )


def test_half_precision_is_widened_before_it_is_summed() -> None:
    logits, target = drawn(100, 400)
    assert sample_record(logits.bfloat16(), target).probability.tolist() == pytest.approx(
        sample_record(logits.bfloat16().float(), target).probability.tolist()
    )


def test_what_has_no_label_or_no_numbers_is_left_out_and_the_others_keep_their_place() -> None:
    logits, target = drawn(5, 4)
    logits[1, 2], target[3], target[4] = torch.nan, -100, 4
    records = recorded(logits, target)
    assert records.table().index.tolist() == [0, 2]
    assert (records.broken, len(records)) == (3, 5)


def test_parts_that_are_merged_are_the_whole() -> None:
    logits, target = drawn(1_000, 5)
    whole = recorded(logits, target, first=0)
    part, other = recorded(logits[:300], target[:300], first=0), recorded(logits[300:], target[300:], first=300)
    empty = Records()
    for records in (part, other):
        empty.merge(Records.of(records.state()))
    part.merge(other)
    for found in (part, empty, copy.deepcopy(part)):
        for name in ("index", "label", "probability", "classes", "probabilities"):
            assert np.array_equal(getattr(found.table(), name), getattr(whole.table(), name))


def test_more_samples_than_are_staged_are_all_kept() -> None:
    logits, target = drawn(70_000, 3)
    assert np.array_equal(recorded(logits, target, batch=999).table().label, target)


def test_an_index_is_given_always_or_never() -> None:
    logits, target = drawn(4, 3)
    records = recorded(logits, target)
    with pytest.raises(ValueError, match="Records needs an index with every batch or with none"):
        records.update(logits, target, torch.arange(4))


def test_no_sample_is_an_empty_table() -> None:
    assert len(Records().table()) == 0
    assert len(Records.of(Records().state()).table()) == 0


def test_soft_targets_are_refused_with_what_was_seen() -> None:
    with pytest.raises(ValueError, match=r"Records needs .* got \[2, 3\] and \[2, 3\] torch.float32"):
        sample_record(torch.ones(2, 3), torch.ones(2, 3))
