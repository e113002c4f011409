"""How large a store will be, from a look into a few of its sources."""

from __future__ import annotations

import math
from dataclasses import dataclass

from digan.data.images import encode_record, square
from digan.data.reading import Settings, SourceFrames
from digan.data.sources import Source
from digan.data.video import probe

_SOURCES = 12  # looked into
_FRAMES = 17  # read from each
_EVERY = 8  # of these are packed


@dataclass(frozen=True)
class Estimate:
    """About how many frames and bytes of records; zeros if no sample could be read."""

    frames: int
    bytes: int


def estimate(sources: list[Source], settings: Settings) -> Estimate:
    """Estimate the records of `sources` from at most 12 of them, spread evenly."""
    frames, record_bytes, packed, read_bytes = 0.0, 0, 0, 0
    step = max(1, len(sources) // _SOURCES)
    for source in sources[::step][:_SOURCES]:
        consumed = [0]

        def progress(count: int, consumed: list[int] = consumed) -> None:
            consumed[0] += count

        taken = 0
        try:
            for taken, frame in enumerate(SourceFrames(source, settings, progress), 1):
                if taken % _EVERY == 1:
                    image = square(frame.image, settings.resolution)
                    record_bytes += len(encode_record(image, settings.codec))
                    packed += 1
                if taken == _FRAMES:
                    break
            frames += _length(source, settings, taken, consumed[0])
            read_bytes += source.bytes
        except Exception:  # bad files are reported when their turn comes
            continue
    if not packed or not read_bytes:
        return Estimate(0, 0)
    total = math.ceil(frames * sum(source.bytes for source in sources) / read_bytes)
    return Estimate(total, math.ceil(total * record_bytes / packed))


def _length(source: Source, settings: Settings, taken: int, consumed: int) -> float:
    """Frames a source will give: what its header claims, if its bytes agree roughly."""
    if taken < _FRAMES:
        return taken
    if source.pictures:
        return source.pictures / settings.stride
    by_bytes = taken * source.bytes / max(consumed, 1)
    info = probe(source.path)
    if info.frames is None:
        return by_bytes
    claimed = info.frames / settings.stride
    if settings.fps is not None and info.fps:
        claimed *= settings.fps / info.fps
    return claimed if 1 / 3 < claimed / by_bytes < 3 else by_bytes
