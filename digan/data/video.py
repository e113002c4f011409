"""Video files to frames and back, through PyAV, whose wheel carries the codecs.

`decode_frames` reads whatever plays: grey, alpha, odd sizes, rotated, variable frame rate,
truncated, with headers that lie. `VideoWriter` writes files that browsers play, or lossless
ones, and leaves a playable file when it is interrupted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from digan.data.gif import GifPalettes
from digan.data.images import MOST_PIXELS, write_frame_sheet
from digan.errors import DiganError

__all__ = ["Decoding", "Frame", "VideoInfo", "VideoWriter", "decode_frames", "probe",
           "write_frame_sheet"]  # fmt: skip

Image = NDArray[np.uint8]

# Only local files: a playlist that calls itself .mp4 must not make us open addresses.
_INPUT_OPTIONS = {"protocol_whitelist": "file"}
_NOT_VIDEO_FORMATS = {"tty", "bin", "adf", "idf", "xbin"}  # text "played" as a terminal


@dataclass(frozen=True)
class Frame:
    """One decoded frame: `image` uint8 RGB [H, W, 3], `time` in seconds after the first."""

    index: int
    time: float
    image: Image


@dataclass(frozen=True)
class VideoInfo:
    """What the headers of a video claim (they may lie; only decoding tells).

    `width` and `height` are as stored, before any rotation; `frames` is None where the
    header is silent; `fps` is 0 where it is unknown.
    """

    width: int
    height: int
    fps: float
    frames: int | None
    codec: str
    container: str


class Decoding(Iterator[Frame]):
    """The frames of one file, one at a time; `problems` says afterwards what was wrong.

    Attributes: `info` (VideoInfo), `problems` (list of short texts, complete once the
    iteration has ended), `position` (bytes of the file consumed so far).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.problems: list[str] = []
        self.position = 0
        self._container = _open(self.path)
        try:
            self.info = _info(self.path, self._container)
        except BaseException:
            self._container.close()
            raise
        self._frames = self._decode()

    def __iter__(self) -> Decoding:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file; the iteration ends."""
        self._frames.close()
        self._container.close()

    def _decode(self) -> Generator[Frame, None, None]:
        stream = self._container.streams.video[0]
        # One thread: a pool of workers decodes in parallel, and what a broken stream
        # yields must not depend on how threads were scheduled.
        stream.thread_type = "NONE"
        stream.thread_count = 1
        # A frame may be larger than the header said: the decoder is not to ask memory for it.
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}
        period = 1 / self.info.fps if self.info.fps > 0 else 1 / 25
        count, broken = 0, 0
        start: float | None = None
        last = -period
        packets = self._container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except av.FFmpegError as error:
                self.problems.append(f"the file breaks off after {count} frames ({_why(error)})")
                break
            if packet.pos is not None and packet.pos > self.position:
                self.position = packet.pos
            try:
                decoded = packet.decode()
            except av.error.EOFError:
                break
            except (av.FFmpegError, ValueError):
                broken += 1
                continue
            for raw in decoded:
                if getattr(raw, "is_corrupt", False):
                    broken += 1
                    continue
                try:
                    image = _rgb(raw)
                except (av.FFmpegError, ValueError):
                    broken += 1
                    continue
                seconds = (
                    None
                    if raw.pts is None or raw.time_base is None
                    else float(raw.pts * raw.time_base)
                )
                if seconds is None:
                    time = last + period
                else:
                    start = seconds - (last + period) if start is None else start
                    time = seconds - start
                    if time <= last:  # clocks that stand still or run back
                        time = last + period
                yield Frame(count, time, image)
                last = time
                count += 1
        self._container.close()
        if broken:
            self.problems.append(f"{broken} broken frames or packets were left out")
        claimed = self.info.frames
        if count == 0:
            self.problems.append("no frame decodes")
        elif claimed is not None and claimed - count > 2:
            self.problems.append(f"the header claims {claimed} frames, {count} decode")


def decode_frames(path: str | os.PathLike[str]) -> Decoding:
    """Decode a video from its first frame until the data ends, whatever the header says.

    Yields `Frame`s: uint8 RGB [H, W, 3] with the presentation time in seconds after the
    first frame, strictly increasing. Grey becomes three equal channels, alpha is composited
    on black, rotation metadata is applied, more than 8 bits are rounded to 8. Broken
    packets are left out and a truncated file yields what decodes; `.problems` of the
    returned iterator then says so. Raises DiganError if the file is no video at all.
    """
    return Decoding(path)


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """What the headers of `path` claim. Raises DiganError if the file is no video."""
    container = _open(Path(path))
    try:
        return _info(Path(path), container)
    finally:
        container.close()


def _open(path: Path) -> av.container.InputContainer:
    if path.is_dir():
        raise DiganError(f"{path} is no video: it is a folder")
    try:
        if path.stat().st_size == 0:
            raise DiganError(f"{path} is no video: it is empty (0 bytes)")
        # "file:" so that a name such as "a:b.mp4" is not taken for an address.
        container = av.open(f"file:{path}", "r", options=_INPUT_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DiganError(f"{path} is no video: {_why(error)}") from error
    reason = None
    if container.format.name in _NOT_VIDEO_FORMATS:
        reason = "it is text"
    elif not container.streams.video:
        reason = "it has no picture stream"
    elif container.streams.video[0].codec_context is None:
        reason = "no decoder for its codec"
    if reason:
        container.close()
        raise DiganError(f"{path} is no video: {reason}")
    return container


def _info(path: Path, container: av.container.InputContainer) -> VideoInfo:
    stream = container.streams.video[0]
    context = stream.codec_context
    if context.width < 1 or context.height < 1:
        raise DiganError(f"{path} is no video: its size is {context.width}x{context.height}")
    if context.width * context.height > MOST_PIXELS:
        raise DiganError(
            f"{path} is no video to train on: its size is {context.width}x{context.height}"
        )
    rate = stream.average_rate or stream.base_rate or stream.guessed_rate
    fps = float(rate) if rate else 0.0
    return VideoInfo(
        width=context.width,
        height=context.height,
        fps=fps if 0 < fps <= 1000 else 0.0,
        frames=stream.frames or None,
        codec=context.name,
        container=container.format.name,
    )


def _rgb(frame: av.VideoFrame) -> Image:
    if any(component.is_alpha for component in frame.format.components) or (
        frame.format.name == "pal8"
    ):
        rgba = frame.to_ndarray(format="rgba").astype(np.uint16)
        # Rounded rgb * alpha / 255: over black nothing is added.
        image = ((rgba[..., :3] * rgba[..., 3:] + 127) // 255).astype(np.uint8)
    else:
        image = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).split("\n")[0]


class VideoWriter:
    """Write frames to a video file, one by one, in memory that does not grow.

        with VideoWriter("out.mp4", fps=30) as video:
            video.write(frame)  # uint8 [H, W, 3], RGB

    The name's ending chooses the format. `.mp4`: H.264, yuv420p, crf 16, with the index in
    front: browsers play it; an odd width or height is made even by repeating the last
    column or row. `.gif`: palettes of 256 colours chosen every few dozen frames; its clock
    ticks in 1/100 s and players ignore delays below 2/100 s, so above 50 fps frames are
    dropped to keep the speed. `.mkv`: FFV1, lossless RGB. `codec="libx264rgb"` makes
    lossless H.264 (crf 0; not for browsers) in .mp4 or .mkv, `codec="ffv1"` FFV1.

    `fps` may be fractional, and is playback speed only. `size` is (height, width); by
    default that of the first frame. When the body of the `with` raises, KeyboardInterrupt
    included, the file is still closed properly and plays up to there. Raises DiganError for
    an unwritable place, an unknown ending, a missing encoder, a frame of another size.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | Fraction,
        size: tuple[int, int] | None = None,
        codec: str | None = None,
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        defaults = {".mp4": "libx264", ".gif": "gif", ".mkv": "ffv1"}
        if suffix not in defaults:
            raise DiganError(f"{self.path} must end in .mp4, .gif or .mkv to be written as video")
        self.codec = codec or defaults[suffix]
        if self.codec not in {"libx264", "libx264rgb", "ffv1", "gif"}:
            raise DiganError(f"codec must be libx264, libx264rgb, ffv1 or gif, got {self.codec}")
        if (self.codec == "gif") != (suffix == ".gif") or (suffix, self.codec) == (".mp4", "ffv1"):
            raise DiganError(f"{self.path} cannot hold {self.codec}: choose another ending")
        if not 0 < float(fps) <= 1000:
            raise DiganError(f"fps must be above 0 and at most 1000, got {float(fps):g}")
        self.fps = Fraction(fps).limit_denominator(1001)
        if self.fps == 0:
            self.fps = Fraction(1, round(1 / float(fps)))
        try:
            av.codec.Codec(self.codec, "w")
        except (av.FFmpegError, ValueError) as error:
            kind = "H.264" if self.codec.startswith("libx264") else self.codec
            raise DiganError(
                f"no {kind} encoder: this installation of PyAV (av {av.__version__}) was built "
                f"without {self.codec}; the wheel of the package index has it"
            ) from error
        self._size: tuple[int, int] | None = None
        self._container: av.container.OutputContainer | None = None
        self._stream: Any = None
        self._palettes: GifPalettes | None = None
        self._last_tick = -1
        self.frames = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "wb"):
                pass
        except OSError as error:
            raise DiganError(f"{self.path} cannot be written: {_why(error)}") from error
        if size is not None:
            self._start(size)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(DiganError):  # the error in flight matters more
            self.close()

    def write(self, frame: Image) -> None:
        """Add one frame, uint8 RGB [H, W, 3]."""
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise DiganError(
                f"frame must be uint8 [H, W, 3], got {frame.dtype} {list(frame.shape)}"
            )
        size = (frame.shape[0], frame.shape[1])
        if self._size is None:
            self._start(size)
        if size != self._size:
            raise DiganError(
                f"frames of {self.path} must be {self._size} (height, width), got {size}"
            )
        if self.codec == "gif":
            # Above 50 fps: the first frame of every 1/50 s.
            clock = min(self.fps, Fraction(50))
            slot = self.frames * clock // self.fps
            tick = round(slot * 100 / clock)
            self.frames += 1
            if tick == self._last_tick:
                return
            self._last_tick = tick
            assert self._palettes is not None
            for ready in self._palettes.add(frame, tick):
                self._encode(ready)
            return
        if self.codec == "libx264" and (size[0] % 2 or size[1] % 2):
            frame = np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
        raw = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        if self.codec == "libx264":
            raw = raw.reformat(format="yuv420p", dst_colorspace="itu709", interpolation="BICUBIC")
        elif self.codec == "ffv1":
            raw = raw.reformat(format="bgr0")
        raw.pts, raw.time_base = self.frames, 1 / self.fps
        self.frames += 1
        self._encode(raw)

    def close(self) -> None:
        """Finish the file. Raises DiganError if no frame was written (no file is left)."""
        if self._container is None:
            if self.frames == 0 and self.path.exists() and self.path.stat().st_size == 0:
                self.path.unlink()
                raise DiganError(f"{self.path} was not written: there were no frames")
            return
        try:
            if self._palettes is not None:
                for ready in self._palettes.flush():
                    self._encode(ready)
            if self.frames:
                self._encode(None)
        finally:
            container, self._container = self._container, None
            try:
                container.close()
            except (av.FFmpegError, OSError) as error:
                raise DiganError(f"{self.path} cannot be finished: {_why(error)}") from error
        if self.frames == 0:
            self.path.unlink(missing_ok=True)
            raise DiganError(f"{self.path} was not written: there were no frames")

    def _start(self, size: tuple[int, int]) -> None:
        height, width = size
        if height < 1 or width < 1:
            raise DiganError(f"size must be (height, width) of at least 1, got {size}")
        self._size = size
        suffix = self.path.suffix.lower()
        options = {"movflags": "+faststart"} if suffix == ".mp4" else {}
        if suffix == ".gif":  # no frame follows the last, from which its time would be known
            options = {"final_delay": str(min(max(round(100 / self.fps), 2), 65535))}
        try:
            container = av.open(f"file:{self.path}", "w", options=options, format=None)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DiganError(f"{self.path} cannot be written: {_why(error)}") from error
        self._container = container
        rate = self.fps if self.codec != "gif" else Fraction(100)
        stream: Any = container.add_stream(self.codec, rate=rate)
        self._stream = stream
        stream.width, stream.height = width, height
        stream.time_base = 1 / rate
        context = stream.codec_context
        context.time_base = 1 / rate
        if self.codec == "libx264":
            stream.width, stream.height = width + width % 2, height + height % 2
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "16", "preset": "medium"}
            # Said in the stream, so that players do not guess: BT.709, limited range.
            context.colorspace = context.color_primaries = context.color_trc = 1
            context.color_range = 1
        elif self.codec == "libx264rgb":
            stream.pix_fmt = "rgb24"
            stream.options = {"crf": "0", "preset": "veryfast"}
        elif self.codec == "ffv1":
            stream.pix_fmt = "bgr0"
        else:
            stream.pix_fmt = "pal8"
            self._palettes = GifPalettes(height, width)

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise DiganError(f"{self.path} cannot be written: {_why(error)}") from error
