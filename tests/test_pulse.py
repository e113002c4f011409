"""Processes that fall silent are missed, and nobody else is."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from torch.distributed import HashStore

from digan.pulse import ERROR_KEY, Pulse

SILENCE = 1.0  # seconds; far more than a beat takes


class Deaf(HashStore):
    """A store whose machine has lost its network."""

    def add(self, key: str, number: int) -> int:
        threading.Event().wait()
        return number


@pytest.fixture
def started() -> Iterator[list[Pulse]]:
    pulses: list[Pulse] = []
    yield pulses
    for pulse in pulses:
        pulse.notice()
        pulse.end()


def never() -> bool:
    return False


def test_two_that_live_do_not_miss_each_other(started):
    store = HashStore()
    started += [Pulse(store, rank, 2, SILENCE) for rank in range(2)]
    assert [pulse.neighbour for pulse in started] == [1, 0]
    end = time.monotonic() + 3 * SILENCE
    for pulse in started:
        assert pulse.wait(lambda: time.monotonic() > end)
        assert pulse.words == ""


def test_one_that_never_beats_is_missed_and_all_are_told(started):
    store = HashStore()
    started += [Pulse(store, rank, 3, SILENCE) for rank in (0, 1)]  # 1 watches 2
    for pulse in started:
        assert not pulse.wait(never)
    missed = "process 2 of 3 gives no sign of life since 1 s: its machine or network may be down"
    assert [pulse.words for pulse in started] == [missed, missed]
    assert store.get(ERROR_KEY).decode() == missed


def test_one_that_ended_in_peace_is_not_missed(started):
    store = HashStore()
    started += [Pulse(store, 0, 2, SILENCE)]
    Pulse(store, 1, 2, SILENCE).end()
    end = time.monotonic() + 3 * SILENCE
    assert started[0].wait(lambda: time.monotonic() > end)


def test_last_words_end_a_wait_at_once(started):
    store = HashStore()
    started += [Pulse(store, rank, 2, SILENCE) for rank in range(2)]
    store.set(ERROR_KEY, "process 1 of 2 failed: a damaged record")
    begin = time.monotonic()
    assert not started[0].wait(never)
    assert time.monotonic() - begin < SILENCE
    assert started[0].words == "process 1 of 2 failed: a damaged record"


def test_a_store_that_does_not_answer_is_given_up(started):
    started += [Pulse(Deaf(), 0, 2, SILENCE)]
    assert not started[0].wait(never)
    assert started[0].words.startswith("the job's store, on the first process's machine, does not")
    started[0]._store = HashStore()  # or `end` would wait too


def test_a_process_that_slept_itself_misses_nobody(started, monkeypatch):
    """The clock goes on while a machine sleeps; the others slept with it, or are there."""
    clock = time.monotonic
    started += [Pulse(HashStore(), 0, 2, SILENCE)]
    for asleep in (100, 200, 300):  # seconds in all
        time.sleep(SILENCE * 0.6)
        monkeypatch.setattr(time, "monotonic", lambda asleep=asleep: clock() + asleep)
    assert started[0].words == ""


STUCK = """
import time
from unittest import mock
from torch.distributed import HashStore
from digan.pulse import Pulse
with mock.patch("digan.pulse._AFTER_SILENCE", 0.2):
    pulse = Pulse(HashStore(), 0, 2, 0.3)
    time.sleep(60)
print("came through")
"""


def test_a_process_that_cannot_end_is_ended():
    """One that waits for a GPU looks at no message."""
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("digan: error: process 1 of 2 gives no sign of life")
