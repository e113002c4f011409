"""Small clips made on the fly, good ones and bad ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from digan.data.prepare import PrepareReport, prepare
from digan.data.video import VideoWriter

Image = NDArray[np.uint8]


def picture(t: int, height: int = 48, width: int = 64, shade: int = 0) -> Image:
    """A smooth picture that moves with t."""
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 90 * np.sin(x / 9 + t / 3)
    green = 128 + 90 * np.cos(y / 8 - t / 5 + shade)
    blue = 128 + 60 * np.sin((x + y) / 20 + shade)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def write_clip(
    path: Path,
    frames: int = 12,
    height: int = 48,
    width: int = 64,
    fps: float = 10,
    codec: str | None = None,
    shade: int = 0,
) -> Path:
    with VideoWriter(path, fps, codec=codec) as writer:
        for t in range(frames):
            writer.write(picture(t, height, width, shade))
    return path


def write_raw(
    path: Path,
    codec: str,
    pix_fmt: str,
    times: list[int],
    images: list[Image],
    kind: str = "rgb24",
    rotation: float = 0.0,
    time_base: Fraction = Fraction(1, 100),
    rate: int = 10,
) -> Path:
    """Write with PyAV directly: any codec and pixel format, any presentation times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = time_base
        if codec == "libx264":
            stream.options = {"crf": "10"}
        if rotation:
            stream.set_display_rotation(rotation)
        for time, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format=kind)
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def bad_files(folder: Path) -> dict[str, str]:
    """Fill a folder with files that are wrong in every way; file name -> expected status."""
    folder.mkdir(parents=True, exist_ok=True)
    good = write_clip(folder / "good.mp4", 40).read_bytes()
    (folder / "truncated.mp4").write_bytes(good[: len(good) * 2 // 3])
    (folder / "headless.mp4").write_bytes(good[len(good) // 2 :])
    (folder / "empty.avi").write_bytes(b"")
    (folder / "text.mp4").write_text("This is no video.\n" * 300)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    write_clip(folder / "single.mp4", 1)
    flipped = bytearray(good)
    for at in range(len(flipped) // 3, len(flipped), 400):
        flipped[at] ^= 0xFF
    (folder / "flipped.mp4").write_bytes(flipped)
    return {
        "good.mp4": "ok",
        "truncated.mp4": "partial",
        "headless.mp4": "skipped",
        "empty.avi": "skipped",
        "text.mp4": "skipped",
        "noise.mkv": "skipped",
        "single.mp4": "skipped",
        "flipped.mp4": "partial",
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path inside."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def tree(root: Path, *names: str) -> Path:
    """Files of these names, each with its name inside."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def quick(src: Path, dst: Path, **more: Any) -> PrepareReport:
    """`prepare` at 32 pixels, in this process, silently; `more` overrides."""
    return prepare(src, dst, **{"resolution": 32, "workers": 1, "progress": False, **more})


_SLOW_RUN = """
import json, sys, time
import digan.data.workers as workers
original = workers.make_part
def slow(*args):
    part = original(*args)
    print("done", flush=True)
    time.sleep(0.3)
    return part
workers.make_part = slow
from digan.data.prepare import prepare
source, store, options = sys.argv[1:]
prepare(source, store, resolution=32, workers=1, progress=False, **json.loads(options))
"""


def killed_preparation(
    source: Path, store: Path, root: Path, *, videos: int, **options: Any
) -> None:
    """A preparation in a process of its own, killed by -9 after so many videos."""
    command = [sys.executable, "-c", _SLOW_RUN, str(source), str(store), json.dumps(options)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for _ in range(videos):
        assert process.stdout.readline() == b"done\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
