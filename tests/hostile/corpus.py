"""Broken videos and pictures, made from real ones and from nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from digan.data.video import VideoWriter, decode_frames

Broken = tuple[str, bytes]  # name, content


def whole_videos(folder: Path, real: Path | None) -> list[Path]:
    """Short videos of three kinds; the first frames of a real clip where there is one."""
    frames = [
        np.random.default_rng(t).integers(0, 256, (48, 64, 3), dtype=np.uint8) for t in range(12)
    ]
    made = []
    if real is not None:
        clip = [
            frame.image[::2, ::2] for _, frame in zip(range(12), decode_frames(real), strict=False)
        ]
        made += [_written(folder / "real.mp4", clip), _copied(real, folder / "real.avi", 20)]
    made += [_written(folder / "noise.mp4", frames), _written(folder / "noise.gif", frames)]
    made.append(_written(folder / "noise.mkv", frames))
    return made


def _written(path: Path, frames: list[np.ndarray]) -> Path:
    with VideoWriter(path, 10) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def _copied(source: Path, path: Path, packets: int) -> Path:
    """The first packets of a file, as they are."""
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for _, packet in zip(range(packets), reader.demux(reader.streams.video[0]), strict=False):
            if packet.dts is not None:
                packet.stream = stream
                writer.mux(packet)
    return path


def truncated(path: Path, every: int = 1) -> Iterator[Broken]:
    """A file cut off at every percent of its length."""
    content = path.read_bytes()
    for percent in range(0, 100, every):
        yield f"{path.stem}-{percent:02d}{path.suffix}", content[: len(content) * percent // 100]


def flipped(path: Path, count: int, seed: int) -> Iterator[Broken]:
    """A file with up to a hundred random bytes, or a run of them, changed."""
    content = path.read_bytes()
    random = np.random.default_rng(seed)
    for number in range(count):
        damaged = bytearray(content)
        if number % 3 == 0:  # the first bytes are the header
            start = int(random.integers(min(512, len(damaged))))
        else:
            start = int(random.integers(len(damaged)))
        if number % 2:
            places = random.integers(len(damaged), size=int(random.integers(1, 100)))
        else:
            places = np.arange(start, min(start + int(random.integers(1, 64)), len(damaged)))
        for place in places:
            damaged[place] = int(random.integers(256))
        yield f"{path.stem}-flip{number}{path.suffix}", bytes(damaged)


def absurd(path: Path) -> Iterator[Broken]:
    """An mp4 whose boxes claim absurd sizes and counts."""
    content = path.read_bytes()
    for box, offset, value in (
        (b"avc1", 24, struct.pack(">HH", 65535, 65535)),  # width and height
        (b"tkhd", 76, struct.pack(">II", 0xFFFF0000, 0xFFFF0000)),
        (b"stts", 4, struct.pack(">III", 1, 0x7FFFFFFF, 1)),
        (b"stsz", 4, struct.pack(">II", 0, 0x7FFFFFFF)),
        (b"stco", 4, struct.pack(">I", 0xFFFFFFFF)),
        (b"mdhd", 12, struct.pack(">II", 1, 0xFFFFFFFF)),
        (b"moov", -4, struct.pack(">I", 0xFFFFFFF0)),
        (b"moov", -4, struct.pack(">I", 0)),
    ):
        place = content.find(box)
        if place >= 0:
            damaged = bytearray(content)
            at = place - 4 if offset == -4 else place + 4 + offset
            damaged[at : at + len(value)] = value
            yield f"absurd-{box.decode()}-{at}.mp4", bytes(damaged)
    deep = b""
    for _ in range(5000):
        deep = struct.pack(">I", len(deep) + 8) + b"moov" + deep
    yield "nested.mp4", content[:32] + deep


def gif(width: int, height: int, frames: int, frame_size: tuple[int, int] = (1, 1)) -> bytes:
    """An animation of one colour; every frame has a few bytes, whatever size it claims."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = (
        b"\x21\xf9\x04\0\x05\0\0\0\x2c"
        + struct.pack("<HHHHB", 0, 0, *frame_size, 0)
        + b"\x02\x02\x44\x01\x00"
    )
    return head + frame * frames + b"\x3b"


def png(width: int, height: int, data: bytes) -> bytes:
    """A picture that claims a size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def from_nothing() -> Iterator[Broken]:
    """Files that were never videos."""
    yield "empty.mp4", b""
    yield "zeros.mp4", bytes(100_000)
    yield "text.avi", b"hello\n" * 1000
    yield "noise.mkv", np.random.default_rng(0).bytes(100_000)
    yield "zip.mp4", b"PK\x03\x04" + bytes(1000)
    yield "html.mp4", b"<html><script>alert(1)</script></html>"
    yield "long.gif", gif(32, 32, 10_000)
    yield "wide.gif", gif(65535, 65535, 3)
    yield "growing.gif", gif(16, 16, 50, (65535, 65535))
    yield "playlist.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"
    yield "concat.mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield "rows.y4m", b"YUV4MPEG2 W99999 H99999 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(1000)


def pictures() -> Iterator[Broken]:
    """Pictures that claim too much."""
    yield "huge.png", png(200_000, 200_000, zlib.compress(b""))
    yield "bomb.png", png(30_000, 30_000, zlib.compress(bytes(1 << 24)))
    yield "cut.png", png(64, 64, zlib.compress(bytes(100)))
    yield "zero.png", png(0, 0, b"")
    yield "wide.gif", gif(65535, 65535, 1)
