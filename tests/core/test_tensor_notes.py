"""A note is of one tensor, for as long as that is there."""

from __future__ import annotations

import gc
import weakref

import torch

from lightning_debugkit.core.tensor_notes import TensorNotes


def test_a_tensor_has_its_own_note_though_others_equal_it() -> None:
    notes: TensorNotes[str] = TensorNotes()
    one, other = torch.zeros(3), torch.zeros(3)
    notes[one] = "first"
    assert (notes.get(one), notes.get(other), notes.get(one.view(3)), notes.get(0)) == ("first", None, None, None)


def test_nothing_is_kept_alive() -> None:
    notes: TensorNotes[str] = TensorNotes()
    tensor = torch.zeros(3)
    notes[tensor] = "seen"
    held = weakref.ref(tensor)
    del tensor
    gc.collect()
    assert held() is None


def test_a_tensor_in_the_place_of_a_dead_one_has_no_note() -> None:
    notes: TensorNotes[str] = TensorNotes()
    places = set()
    for _ in range(50):
        tensor = torch.zeros(3)
        assert notes.get(tensor) is None
        notes[tensor] = "seen"
        places.add(id(tensor))
        del tensor
    assert len(places) < 50  # some stood where an earlier one did
