"""A corpus of broken videos: no crash, no hang, bounded memory, and the store is made of the rest.

Every file is decoded in a process of its own, which may take ten seconds of processor time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from digan.data.images import read_image
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.data.video import decode_frames
from digan.errors import DiganError
from tests.conftest import ROOT
from tests.data.clips import write_raw
from tests.hostile import corpus
from tests.hostile.children import in_child
from tests.hostile.strategies import damages, rounds
from tests.hostile.verdict import refused_or_read

MOST_MEGABYTES = 1000


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Whole videos, from which broken ones are made."""
    real = ROOT.parent / "shared" / "data" / "tree.avi"
    return corpus.whole_videos(tmp_path_factory.mktemp("whole"), real if real.is_file() else None)


def decoded(path: Path) -> Any:
    """Frames of a file and its first problem, or the error of one line."""
    try:
        decoding = decode_frames(path)
        count = sum(1 for _ in decoding)
    except DiganError as error:
        return str(error)
    return [count, *decoding.problems[:1]]


def check(folder: Path, broken: Iterator[corpus.Broken], read: Callable[[Path], Any]) -> int:
    """Reads every file in a process of its own; complains of crashes, hangs, memory, tracebacks."""
    complaints, count = [], 0
    for name, content in broken:
        path = folder / name
        path.write_bytes(content)
        end = in_child(lambda path=path: read(path))
        path.unlink()
        count += 1
        result = end.result
        one_line = isinstance(result, list) or (
            isinstance(result, str) and "\n" not in result and not result.startswith("raised")
        )
        if end.signal or not one_line or end.megabytes > MOST_MEGABYTES:
            complaints.append(f"{name}: {end}")
    assert complaints == []
    return count


def test_videos_cut_off_anywhere(tmp_path, videos, soak):
    every = 1 if soak else 10
    broken = chain(*(corpus.truncated(path, every) for path in videos))
    assert check(tmp_path, broken, decoded) >= len(videos) * 100 // every


def test_videos_with_changed_bytes(tmp_path, videos, soak):
    count = 300 if soak else 12
    broken = chain(*(corpus.flipped(p, count, seed) for seed, p in enumerate(videos)))
    assert check(tmp_path, broken, decoded) == len(videos) * count


def test_videos_that_claim_the_absurd(tmp_path, videos):
    mp4 = next(path for path in videos if path.suffix == ".mp4")
    assert check(tmp_path, corpus.absurd(mp4), decoded) == 9
    mkv = next(path for path in videos if path.suffix == ".mkv")
    assert check(tmp_path, corpus.absurd_mkv(mkv), decoded) >= 8


def test_avi_files_that_claim_the_absurd(tmp_path, videos):
    noise = [
        np.random.default_rng(t).integers(0, 256, (48, 64, 3), dtype=np.uint8) for t in range(6)
    ]
    made = write_raw(tmp_path / "made.avi", "mpeg4", "yuv420p", [*range(6)], noise)
    for path in [made, *(path for path in videos if path.suffix == ".avi")]:
        assert sum(1 for _ in decode_frames(path)) >= 6
        assert check(tmp_path, corpus.absurd_avi(path), decoded) == 11


def test_headers_that_unpack_to_much(tmp_path):
    assert check(tmp_path, corpus.bombs(), decoded) == 7


def test_files_that_were_never_videos(tmp_path):
    assert check(tmp_path, corpus.from_nothing(), decoded) == 12


def test_endings_that_lie(tmp_path, videos):
    """The content decides, not the name."""
    for path in videos:
        for suffix in (".mp4", ".avi", ".gif", ".mkv"):
            renamed = tmp_path / f"{path.stem}{suffix}"
            renamed.write_bytes(path.read_bytes())
            assert sum(1 for _ in decode_frames(renamed)) == sum(1 for _ in decode_frames(path))


def test_pictures_that_claim_too_much(tmp_path):
    def read(path: Path) -> Any:
        try:
            return list(read_image(path).shape)
        except DiganError as error:
            return str(error)

    assert check(tmp_path, corpus.pictures(), read) == 11


def encoded(kind: str) -> bytes:
    """A small picture in a format."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, kind)
    return out.getvalue()


PICTURES = {kind: encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF")}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*", "ignore::RuntimeWarning:PIL.*")
@rounds(100)
@given(kind=st.sampled_from(sorted(PICTURES)), damage=damages)
def test_damaged_pictures(tmp_path_factory, kind, damage):
    path = tmp_path_factory.getbasetemp() / "damaged.png"  # the content decides, not the name
    path.write_bytes(damage(PICTURES[kind]))
    refused_or_read(lambda: read_image(path))


def test_sizes_that_are_not_believed(tmp_path):
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W9000 H9000 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + bytes(1000))
    with pytest.raises(DiganError, match="is no video to train on: its size is 9000x9000"):
        decode_frames(path)
    (tmp_path / "b.png").write_bytes(corpus.png(9000, 9000, b""))
    with pytest.raises(DiganError, match="is no picture: 9000x9000 pixels are too many"):
        read_image(tmp_path / "b.png")


def test_a_long_animation_is_decoded_whole(tmp_path):
    path = tmp_path / "long.gif"
    path.write_bytes(corpus.gif(32, 32, 10_000))
    assert sum(1 for _ in decode_frames(path)) == 10_000


def test_a_store_is_made_of_what_is_whole(tmp_path, videos):
    """A folder of all kinds of broken files among a few whole ones."""
    source = tmp_path / "videos"
    source.mkdir()
    for path in videos:
        (source / f"whole-{path.name}").write_bytes(path.read_bytes())
    broken = [*corpus.from_nothing(), *corpus.absurd(videos[-3]), *corpus.absurd_mkv(videos[-1])]
    broken += [next(corpus.flipped(path, 1, 3)) for path in videos]
    for name, content in broken:
        if "long" not in name:
            (source / name).write_bytes(content)
    report = prepare(source, tmp_path / "store", resolution=32, workers=1, progress=False)
    store = Store(tmp_path / "store")
    names = [str(name) for name in store.names]
    assert {f"whole-{path.name}" for path in videos} <= set(names)
    assert report.bytes == sum(store.info["shards"])
    for index in range(store.num_frames):
        assert store.frame(index).shape == (32, 32, 3)
