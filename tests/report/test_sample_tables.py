"""Which leaves of a batch are pictures, and what is shown of the others."""

from pathlib import Path

import numpy as np
import pytest

from lightning_debugkit.report.sections.samples import as_images, batch_table, read_leaves, rescaled


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((2, 8, 8), (2, 8, 8, 1)),
        ((2, 1, 8, 9), (2, 8, 9, 1)),
        ((2, 3, 8, 9), (2, 8, 9, 3)),
        ((2, 8, 9, 3), (2, 8, 9, 3)),
        ((2, 8, 9, 1), (2, 8, 9, 1)),
        ((2, 3, 3, 3), None),
        ((2, 3, 8), None),
        ((2, 2, 8, 8), None),
        ((2, 4, 8, 8), None),
        ((2, 64), None),
        ((2,), None),
        ((2, 3, 4, 8, 8), None),
        ((0, 8, 8), None),
    ],
)
def test_pictures_are_told_from_tables_by_shape(shape: tuple[int, ...], shown: tuple[int, ...] | None) -> None:
    images = as_images(np.zeros(shape))
    assert (None if images is None else images.shape) == shown


def test_words_are_no_picture() -> None:
    assert as_images(np.full((1, 8, 8), "x")) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_red_and_do_not_stretch_the_others(bad: float) -> None:
    image = np.array([[[0.0], [bad]], [[5.0], [10.0]]])
    assert rescaled(image, bad=(1, 0, 0)).tolist() == [[[0, 0, 0], [1, 0, 0]], [[0.5] * 3, [1, 1, 1]]]


def test_a_constant_picture_is_grey_and_one_with_nothing_finite_is_red() -> None:
    assert rescaled(np.full((4, 4, 1), 7), bad=(1, 0, 0)).tolist() == np.full((4, 4, 3), 0.5).tolist()
    assert rescaled(np.full((4, 4, 3), np.nan), bad=(1, 0, 0))[0, 0].tolist() == [1, 0, 0]


def test_a_long_row_shows_first_what_is_not_finite() -> None:
    leaf = np.zeros((2, 500), dtype=np.float32)
    leaf[1, 333] = -np.inf
    table = batch_table("x", leaf, ["sample 4", "sample 9"])
    assert table.header[:3] == ("sample", "[333]", "[0]")
    assert len(table.header) == 13
    assert [(row[0].text, row[1].text, row[1].is_marked) for row in table.rows] == [
        ("sample 4", "0", False),
        ("sample 9", "-inf", True),
    ]


def test_boxes_get_a_row_each() -> None:
    table = batch_table("boxes", np.arange(16).reshape(2, 2, 4), ["a", "b"])
    assert [row[0].text for row in table.rows] == ["a, row 0", "a, row 1", "b, row 0", "b, row 1"]
    assert [cell.text for cell in table.rows[3]] == ["b, row 1", "12", "13", "14", "15"]


def test_many_rows_are_cut_but_not_the_bad_one() -> None:
    leaf = np.zeros((1, 300, 2))
    leaf[0, 250, 1] = np.nan
    table = batch_table("boxes", leaf, ["a"])
    assert len(table.rows) == 24
    assert table.rows[-1][0].text == "a, row 250"
    assert "24 of 300 rows" in table.caption


def test_nothing_outside_the_run_folder_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    np.savez(tmp_path / "secret.npz", x=np.ones(1))
    with pytest.raises(ValueError, match="outside the run folder"):
        list(read_leaves(folder, "../secret.npz"))


def test_one_torn_array_leaves_the_others(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", fine=np.ones(3), pickled=np.array([object()], dtype=object))
    told = {name: (leaf is not None, complaint[:10]) for name, leaf, complaint in read_leaves(tmp_path, "s.npz")}
    assert told == {"fine": (True, ""), "pickled": (False, "ValueError")}
