"""Files are written in a thread of their own: in order, beside the network, whatever comes."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from digan.errors import DiganError
from digan.generate import Stopped, stoppable
from digan.generate.encoding import EncoderThread

PATIENCE = 60.0  # seconds until a test that hangs fails


def chunks(count: int, frames: int = 3) -> Iterator[np.ndarray]:
    """Chunks [n, 1, 1, 3] whose frames are numbered."""
    for i in range(count):
        yield np.arange(i * frames, (i + 1) * frames, dtype=np.uint8).reshape(-1, 1, 1, 1) + (
            np.zeros((1, 1, 1, 3), np.uint8)
        )


class Written(list[int]):
    """The numbers of the frames that came, and the threads that brought them."""

    def __init__(self, then: Callable[[int], None] = lambda number: None) -> None:
        super().__init__()
        self.then, self.threads = then, set[int]()

    def __call__(self, frame: np.ndarray) -> None:
        self.threads.add(threading.get_ident())
        self.then(int(frame[0, 0, 0]))
        self.append(int(frame[0, 0, 0]))


def put_all(encoder: EncoderThread, count: int) -> Iterator[int]:
    """Puts chunks, and yields how many have been taken."""
    for i, chunk in enumerate(chunks(count)):
        encoder.put(chunk)
        yield i + 1


def is_over(encoder: EncoderThread) -> bool:
    return not encoder._thread.is_alive()


def test_all_frames_in_order_by_one_other_thread():
    written = Written()
    with EncoderThread(written) as encoder:
        for chunk in chunks(9):
            encoder.put(chunk)
    assert written == list(range(27))
    assert len(written.threads) == 1
    assert threading.get_ident() not in written.threads
    assert is_over(encoder)


def test_the_next_chunk_is_computed_while_one_is_encoded():
    """The first frame is not done before the second chunk is there."""
    computed = threading.Event()

    def wait(number: int) -> None:
        assert number or computed.wait(PATIENCE)

    written = Written(wait)
    with EncoderThread(written) as encoder:
        for i, chunk in enumerate(chunks(3)):
            if i == 1:
                computed.set()
            encoder.put(chunk)
    assert written == list(range(9))


def test_no_more_than_a_few_chunks_exist():
    """One that is encoded, one that waits, one that is put, and what the loop holds."""
    alive: weakref.WeakValueDictionary[int, np.ndarray] = weakref.WeakValueDictionary()
    most = 0
    with EncoderThread(Written(lambda number: time.sleep(1e-3))) as encoder:
        for i, chunk in enumerate(chunks(40, 2)):
            alive[i] = chunk
            most = max(most, len(alive))
            encoder.put(chunk)
            del chunk
    assert 2 <= most <= 4


def test_an_encoders_error_is_the_callers():
    failure = DiganError("out.mp4 cannot be written: No space left on device")

    def fail(number: int) -> None:
        if number == 4:
            raise failure

    written, given = Written(fail), list[int]()
    with pytest.raises(DiganError) as raised, EncoderThread(written) as encoder:
        given.extend(put_all(encoder, 80))
    assert raised.value is failure
    assert written == [0, 1, 2, 3]
    assert len(given) <= 4
    assert is_over(encoder)


def test_an_error_at_the_last_frame_is_not_lost():
    def fail(number: int) -> None:
        if number == 8:
            raise DiganError("full")

    written = Written(fail)
    with pytest.raises(DiganError, match="full"), EncoderThread(written) as encoder:
        list(put_all(encoder, 3))
    assert written == list(range(8))


def test_what_waits_is_not_begun_after_an_error_of_the_network():
    """The frame in hand is finished, and `write` is not called behind the caller's back."""
    begun, may_end = threading.Event(), threading.Event()

    def wait(number: int) -> None:
        begun.set()
        assert may_end.wait(PATIENCE)

    written = Written(wait)

    def work() -> None:
        with EncoderThread(written) as encoder:
            for chunk in chunks(2):
                encoder.put(chunk)
            assert begun.wait(PATIENCE)
            threading.Timer(0.1, may_end.set).start()
            raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        work()
    assert written == [0]
    assert "encoder" not in {thread.name for thread in threading.enumerate()}


def asks_to_stop(at: int) -> Callable[[int], None]:
    """The signal comes from the encoder's thread, and reaches the main one."""

    def ask(number: int) -> None:
        if number == at:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # the frame takes its time

    return ask


@pytest.mark.parametrize("count", [40, 2], ids=["while chunks come", "while the last are written"])
def test_a_signal_ends_between_two_frames(count):
    written = Written(asks_to_stop(2))

    def work() -> None:
        with stoppable(), EncoderThread(written) as encoder:
            for chunk in chunks(count, 6):
                encoder.put(chunk)

    with pytest.raises(Stopped, match="SIGTERM"):
        work()
    assert written[:3] == [0, 1, 2]
    assert len(written) < 6 * count - 1
    assert "encoder" not in {thread.name for thread in threading.enumerate()}
    before = list(written)
    time.sleep(0.05)
    assert written == before


def test_closing_twice_or_before_it_began_is_nothing():
    EncoderThread(Written()).close()
    with EncoderThread(Written()) as encoder:
        pass
    encoder.close()
    assert is_over(encoder)
