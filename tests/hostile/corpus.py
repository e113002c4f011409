"""Broken videos and pictures, made from real ones and from nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
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


def _patched(path: Path, patches: Iterable[tuple[bytes, int, bytes]]) -> Iterator[Broken]:
    """A file with other bytes so far behind the first place of a mark, for each that it has."""
    content = path.read_bytes()
    for number, (mark, offset, value) in enumerate(patches):
        place = content.find(mark)
        if place >= 0:
            at = place + len(mark) + offset
            damaged = content[:at] + value + content[at + len(value) :]
            yield f"{path.stem}-absurd{number}{path.suffix}", damaged


def absurd_avi(path: Path) -> Iterator[Broken]:
    """An AVI whose chunks claim absurd sizes, rates and counts."""
    most = b"\xff\xff\xff\x7f"
    yield from _patched(
        path,
        [
            (b"avih", 4 + 32, most * 2),  # width and height of the file
            (b"avih", 4 + 16, most),  # frames
            (b"strf", 4 + 4, struct.pack("<ii", 65535, -65535)),  # of the stream
            (b"strf", 4 + 4, most * 2),
            (b"strf", 4 + 4, bytes(8)),
            (b"strh", 4 + 20, bytes(8)),  # a rate of 0/0
            (b"strh", 4 + 20, b"\1\0\0\0" + most),
            (b"strh", 0, most),  # length of a chunk
            (b"movi", -8, most),  # and of the list of packets
            (b"idx1", 0, most),
            (b"RIFF", 0, bytes(4)),
        ],
    )


def absurd_mkv(path: Path) -> Iterator[Broken]:
    """A Matroska file whose elements claim absurd sizes and times."""
    unknown = b"\x01" + b"\xff" * 7
    yield from _patched(
        path,
        [
            (b"\xb0\x81", 0, b"\xff"), (b"\xba\x81", 0, b"\xff"),  # width and height
            (b"\xb0\x81", -1, b"\x88" + b"\x7f" * 8), (b"\xb0\x81", 0, b"\0"),
            (b"\x2a\xd7\xb1", 1, b"\0\0\0"),  # nanoseconds a tick
            (b"\x44\x89", 1, b"\x7f\xef" + b"\xff" * 6),  # duration
            (b"\x18\x53\x80\x67", 0, unknown), (b"\x16\x54\xae\x6b", 0, unknown),
            (b"\x1f\x43\xb6\x75", 0, unknown), (b"\x63\xa2", 0, unknown),
            (b"\xa3", 0, b"\x08" + b"\xff" * 7),  # a block
            (b"\x1a\x45\xdf\xa3", 0, b"\x08" + b"\xff" * 7),
        ],
    )  # fmt: skip


def bombs() -> Iterator[Broken]:
    """Small files whose headers unpack to much."""
    packed = zlib.compress(bytes(200 << 20), 9)

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body) + 8) + kind + body

    for size in (200 << 20, 0x7FFFFFFF, 0xFFFFFFFF, 0):
        data = box(b"cmvd", struct.pack(">I", size) + packed)
        movie = box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + data))
        yield f"movie{size}.mov", box(b"ftyp", b"qt  " + bytes(4)) + movie
    control = struct.pack(">II", 0x7FFFFFFF, 0)
    frame = struct.pack(">IIIIIHHBB", 0, 8000, 8000, 0, 0, 1, 100, 0, 0)
    head = struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(8000 * 24001), 9)
    yield "frames.apng", b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, body)
        for kind, body in [
            (b"IHDR", head), (b"acTL", control), (b"fcTL", frame), (b"IDAT", pixels),
            *[(b"fcTL", frame), (b"fdAT", b"\0\0\0\1" + pixels)] * 3, (b"IEND", b""),
        ]
    )  # fmt: skip
    yield "tables.avi", b"RIFF\xff\xff\xff\x7fAVI " + b"LIST\xff\xff\xff\x7fhdrl" * 20_000
    yield "tables.mkv", b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + (
        b"\x16\x54\xae\x6b\x01" + b"\xff" * 7) * 20_000  # fmt: skip


def gif(width: int, height: int, frames: int, frame_size: tuple[int, int] = (1, 1)) -> bytes:
    """An animation of one colour; every frame has a few bytes, whatever size it claims."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = (
        b"\x21\xf9\x04\0\x05\0\0\0\x2c"
        + struct.pack("<HHHHB", 0, 0, *frame_size, 0)
        + b"\x02\x02\x44\x01\x00"
    )
    return head + frame * frames + b"\x3b"


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, data: bytes) -> bytes:
    """A picture that claims a size."""
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
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100 << 20), 9))
    small = png(8, 8, zlib.compress(bytes(8 * 25)))
    yield "text.png", small[:33] + text + small[33:]
    yield "profile.png", small[:33] + profile + small[33:]
    yield "huge.ppm", b"P6\n100000 100000\n255\n" + bytes(1000)
    head = struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "huge.bmp", b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head
    entries = [(256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 8), (259, 3, 1, 1),
               (262, 3, 1, 1), (273, 4, 0x0FFFFFFF, 8), (279, 4, 0x0FFFFFFF, 8)]  # fmt: skip
    yield (
        "huge.tif",
        (
            b"II*\0\x08\0\0\0"
            + struct.pack("<H", len(entries))
            + b"".join(struct.pack("<HHII", *entry) for entry in entries)
            + bytes(4)
        ),
    )
    canvas = struct.pack("<I", 0x10) + (0xFFFFFF).to_bytes(3, "little") * 2
    yield (
        "huge.webp",
        b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + canvas,
    )
