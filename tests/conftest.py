"""What tests that train share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny nets run best on one thread, when other tests run beside; forks need it."""
    import torch  # late: the tests of finding and journal do without

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_process_left() -> Iterator[None]:
    """A rank that hangs is ended with its test."""
    yield
    for child in multiprocessing.active_children():
        child.kill()
