"""Files of one video and of several at once: the same files, and nothing left open or broken."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from digan.data import sinks
from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.generate import Request, Stopped, files, stoppable
from digan.generate.cells import chunk_of
from digan.generate.videos import Video
from digan.generate.writing import FilesAtOnce, encoders_for
from digan.grid import frame_times
from digan.nn import Generator
from tests.tiny_runs import tiny_network

FRAMES = 12
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def network() -> Generator:
    return tiny_network()


def videos(count: int) -> list[Video]:
    return [Video(seed, seed, None, f"seed{seed}") for seed in range(count)]


def request_to(folder: Path, *formats: str) -> Request:
    return Request(frame_times(FRAMES, 5), 8.0, chunk=4, formats=formats, outdir=folder)


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def test_several_at_once_are_the_same_files(network, tmp_path):
    found = {}
    for most in (1, 3, 9):
        request = request_to(tmp_path / str(most), "npz", "mp4")
        paths = files.render_files(network, videos(5), request, progress=False, encoders=most)
        assert [path.name for path in paths] == [
            f"seed{i}.{ending}" for i in range(5) for ending in ("npz", "mp4")
        ]
        found[most] = [np.load(path)["frames"] for path in paths if path.suffix == ".npz"]
        assert all(len(list(decode_frames(p))) == FRAMES for p in paths if p.suffix == ".mp4")
    for one, some, all_ in zip(*found.values(), strict=True):
        assert one.shape == (FRAMES, 32, 32, 3)
        assert np.array_equal(one, some)
        assert np.array_equal(one, all_)
    assert not np.array_equal(found[1][0], found[1][1])
    assert "encoder" not in threads()


def test_no_more_are_open_than_asked(tmp_path):
    """The oldest is finished before one more begins."""
    frames, told = np.zeros((2, 16, 16, 3), np.uint8), []
    with FilesAtOnce(2, lambda: told.append(1)) as at_once:
        made = []
        for i in range(4):
            made.append(at_once.begin([tmp_path / f"{i}.npz"], 8.0, 2))
            assert sum(files._encoder._thread.is_alive() for files in made) <= 2
            made[-1].put(frames)
            assert all(files.done == 2 for files in made[: i - 1])
    assert len(told) == 8
    assert [np.load(tmp_path / f"{i}.npz")["frames"].shape for i in range(4)] == [frames.shape] * 4


def fails_at(which: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full at a frame of one array; the others take theirs."""
    write = sinks.NpzFile.write

    def full(self: sinks.NpzFile, frame: np.ndarray) -> None:
        if self.path.name == which and self.frames == number:
            raise DiganError(f"{self.path} cannot be written: No space left on device")
        write(self, frame)

    monkeypatch.setattr(sinks.NpzFile, "write", full)


@pytest.mark.parametrize("encoders", [1, 3])
@pytest.mark.parametrize("which", [0, 2])
def test_a_full_disk_is_one_line_and_leaves_no_broken_array(
    network, tmp_path, monkeypatch, encoders, which
):
    fails_at(f"seed{which}.npz", 5, monkeypatch)
    request = request_to(tmp_path, "png", "npz")
    with pytest.raises(DiganError, match=rf"seed{which}.npz cannot be written: No space left on d"):
        files.render_files(network, videos(3), request, progress=False, encoders=encoders)
    assert "encoder" not in threads()
    assert not (tmp_path / f"seed{which}.npz").exists()
    assert len(list((tmp_path / f"seed{which}").iterdir())) == 6
    for path in tmp_path.glob("*.npz"):  # what is there is whole
        assert np.load(path)["frames"].shape == (FRAMES, 32, 32, 3)


def test_a_signal_leaves_files_of_every_video_that_play(network, tmp_path, monkeypatch):
    write = sinks.PngFolder.write

    def asks(self: sinks.PngFolder, frame: np.ndarray) -> None:
        if self.path.name == "seed3" and self.frames == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        write(self, frame)

    monkeypatch.setattr(sinks.PngFolder, "write", asks)
    request = request_to(tmp_path, "mp4", "png", "npz")

    def work() -> None:
        with stoppable():
            files.render_files(network, videos(9), request, progress=False, encoders=4)

    with pytest.raises(Stopped) as stopped:
        work()
    assert "encoder" not in threads()
    told = stopped.value.done.split("; ")
    assert any(str(tmp_path / "seed3.mp4") in part for part in told)
    for part in told:
        path, count = (
            Path(part.split(".mp4 ")[0] + ".mp4"),
            int(part.split(" frames")[0].split()[-1]),
        )
        if count:
            assert len(list(decode_frames(path))) == count
        assert len(list(path.with_suffix("").iterdir())) == count
        assert part.endswith(f" of {count} frames, of {FRAMES}")
        assert path.with_suffix(".npz").exists() == (count == FRAMES)


def test_chunks_by_the_device(network):
    """Short videos in four parts on a CPU; on a GPU places of a grid share its large chunks."""

    def chunk(of: Any, frames: int, places: int = 1, density: int = 1) -> int:
        return chunk_of(of, places, Request(frame_times(frames, 5), 8.0, density))

    assert [chunk(network, n) for n in (1, 16, 128, 10_000)] == [8, 8, 32, 128]
    assert chunk(network, 10_000, density=32) == 1
    assert chunk_of(network, 1, Request(frame_times(9, 5), 8.0, chunk=5)) == 5
    on_gpu = SimpleNamespace(config=network.config, w_avg=SimpleNamespace(device=CUDA))
    assert [chunk(on_gpu, 10_000, places, 4) for places in (1, 4, 36)] == [128, 32, 8]
    assert chunk(on_gpu, 10_000, 36, 64) == 1


def test_how_many_by_the_device(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert encoders_for(torch.device("cpu"), 1) == 1
    assert encoders_for(CUDA, 128 * 128) == 8
    assert encoders_for(CUDA, 16384 * 16384) == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert encoders_for(CUDA, 128 * 128) == 1
