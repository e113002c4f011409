"""A long video that is interrupted leaves files that play."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digan.data.video import decode_frames, probe
from digan.generate import Stopped, stoppable
from digan.generate.stopping import whole
from tests.conftest import ROOT
from tests.tiny_runs import network_file, tiny_network

TEN_MINUTES = 10 * 60 * 30


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return network_file(tmp_path_factory.mktemp("net") / "net.safetensors", tiny_network())


def interrupted(
    network: Path, outdir: Path, number: int, *flags: object, after: int = 40
) -> subprocess.CompletedProcess[str]:
    """A ten-minute video that gets a signal once it has some frames."""
    words = [sys.executable, "-m", "digan", "generate", "--network", network, "--outdir", outdir,
             "--frames", TEN_MINUTES, "--fps", 30, *flags]  # fmt: skip
    process = subprocess.Popen(
        [str(word) for word in words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    said = b""
    while True:  # the bar tells how far it is
        byte = process.stderr.read(1)
        assert byte, said.decode()
        said += byte
        found = re.findall(rf"(\d+)/{TEN_MINUTES}".encode(), said)
        if found and int(found[-1]) >= after:
            break
    process.send_signal(number)
    out, rest = process.communicate(timeout=120)
    error = (said + rest).decode()
    return subprocess.CompletedProcess(words, process.returncode, out.decode(), error)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_written_plays(network, tmp_path, number):
    done = interrupted(network, tmp_path, number, "--format", "mp4,gif,png,npz,sheet")
    assert done.returncode == 128 + number
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = re.findall(r"digan: stopped by .*", done.stderr)
    assert line.startswith(f"digan: stopped by {signal.Signals(number).name}; what plays: ")
    count = int(re.search(rf" of (\d+) frames, of {TEN_MINUTES}$", line)[1])
    assert 40 <= count < TEN_MINUTES
    movie = tmp_path / "seed0000.mp4"
    frames = [frame.image for frame in decode_frames(movie)]
    assert len(frames) == count
    assert probe(movie).fps == 30
    assert not (tmp_path / "seed0000.npz").exists()  # it promises frames that did not come
    assert str(movie) in line
    assert "npz" not in line
    pictures = sorted((tmp_path / "seed0000").iterdir())
    assert len(pictures) == count
    assert np.array(Image.open(pictures[-1])).shape == (32, 32, 3)
    assert np.abs(frames[7].astype(int) - np.array(Image.open(pictures[7]))).mean() < 8
    with Image.open(tmp_path / "seed0000.gif") as movie_gif:
        assert movie_gif.n_frames > 10


def test_a_stopped_grid_plays_too(network, tmp_path):
    done = interrupted(network, tmp_path, signal.SIGINT, "--seeds", "0-3", "--grid", "2x2")
    assert done.returncode == 130
    frames = [frame.image for frame in decode_frames(tmp_path / "gridseed0000-seed0003.mp4")]
    assert len(frames) >= 40
    assert frames[0].shape == (64, 64, 3)


def test_the_first_signal_stops_and_the_second_is_the_systems():
    before = signal.getsignal(signal.SIGTERM)
    handlers = []

    def work() -> None:
        with stoppable():
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                handlers.extend([signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)])

    with pytest.raises(Stopped, match="SIGTERM") as stopped:
        work()
    assert stopped.value.number == signal.SIGTERM
    assert handlers == [signal.SIG_DFL, signal.SIG_DFL]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_being_written_is_finished_first():
    steps = []

    def work() -> None:
        with stoppable():
            with whole():
                signal.raise_signal(signal.SIGINT)
                steps.append("written")
            steps.append("never")

    with pytest.raises(Stopped, match="SIGINT"):
        work()
    assert steps == ["written"]
    with whole():  # and nothing is left over for the next
        steps.append("again")
    assert steps == ["written", "again"]


def test_an_error_while_writing_is_not_lost():
    def work() -> None:
        with stoppable(), whole():
            signal.raise_signal(signal.SIGINT)
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        work()
    with whole():
        pass


def test_other_threads_change_nothing():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with stoppable():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
