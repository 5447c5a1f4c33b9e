"""Calls for later: each at its time, in a thread of its own; one thread waits for all, as long as there are any."""

from __future__ import annotations

import os
import threading
import time

import pytest

from lightning_debugkit.core.background_task import BackgroundTask
from lightning_debugkit.core.call_later import call_later, waiting_calls


def waiters() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "debugkit-later"]


def test_calls_run_at_their_times_whatever_the_order_they_were_asked_for_in() -> None:
    told: list[str] = []
    over = threading.Event()
    others = waiting_calls()  # those of fits that other tests left open

    def last() -> None:
        told.append("last")
        over.set()

    call_later(0.3, last)
    call_later(0.1, lambda: told.append("first"))
    cancelled = call_later(0.2, lambda: told.append("cancelled"))
    assert len(waiters()) == 1
    cancelled.cancel()
    assert over.wait(10)
    assert told == ["first", "last"]
    assert not set(waiting_calls()) - set(others)


def test_a_call_that_takes_long_holds_no_other_up() -> None:
    gate, over = threading.Event(), threading.Event()
    call_later(0.0, lambda: gate.wait(10) and None)
    call_later(0.05, over.set)
    assert over.wait(5)
    gate.set()


def test_a_call_that_was_cancelled_holds_nothing_and_the_thread_ends_with_the_last() -> None:
    call = call_later(0.1, lambda: None)
    call.cancel()
    call.cancel()
    assert not call.waits
    for thread in waiters():
        thread.join(15)  # fits of other tests may have left calls that were cancelled
    assert waiters() == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_waits_for_its_own_calls() -> None:
    held = call_later(5, lambda: None)
    child = os.fork()
    if child == 0:
        over = threading.Event()
        call_later(0.0, over.set)
        os._exit(0 if over.wait(10) and waiting_calls() == [] else 1)
    held.cancel()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_task_is_done_once_whoever_asks_first() -> None:
    told: list[int] = []
    task = BackgroundTask(lambda: told.append(1), 0.1)
    task.now()
    task.now()
    time.sleep(0.3)
    assert told == [1]
    dropped = BackgroundTask(lambda: told.append(2), 0.1)
    dropped.drop()
    time.sleep(0.3)
    assert (told, dropped.is_begun) == ([1], False)
