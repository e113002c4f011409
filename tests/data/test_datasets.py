"""Training pairs: pure functions of (seed, number), two records each, right distribution."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from digan.data.datasets import ClipPairs, pair_loader
from digan.data.prepare import prepare
from digan.data.store import FRAMES_FILE, Store
from digan.errors import DiganError
from tests.data.clips import write_clip
from tests.data.test_store import damage


def numbered(folder: Path, name: str, count: int, offset: int = 0) -> None:
    """A folder of pictures whose red is the frame's number and whose blue marks the left."""
    from PIL import Image

    (folder / name).mkdir(parents=True)
    for t in range(count):
        image = np.zeros((32, 32, 3), np.uint8)
        image[..., 0] = t
        image[..., 1] = offset
        image[:, :16, 2] = 255
        Image.fromarray(image).save(folder / name / f"{t}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 10 and 25 frames in class a, 40 in class b; red = frame, green = video."""
    folder = tmp_path_factory.mktemp("made")
    numbered(folder / "src", "train/a/long", 25, 1)
    numbered(folder / "src", "train/a/short", 10, 0)
    numbered(folder / "src", "test/b/longest", 40, 2)
    prepare(folder / "src", folder / "s", resolution=32, workers=1, progress=False)
    return folder / "s"


def test_a_pair_of_a_long_clip_costs_two_records(tmp_path: Path) -> None:
    write_clip(tmp_path / "src" / "a.mp4", 140)
    prepare(tmp_path / "src", tmp_path / "s", resolution=32, workers=1, progress=False)
    store = Store(tmp_path / "s")
    pairs = ClipPairs(store, 128, seed=0)
    assert pairs.num_windows == 13
    for number in range(20):
        before = store.decoded
        sample = pairs[number]
        assert store.decoded - before == (2 if sample.dt > 0 else 1)
    assert sample.frames.dtype == torch.uint8
    assert sample.frames.shape == (2, 3, 32, 32)


def test_samples_are_pure_functions_of_seed_and_number(made: Path) -> None:
    one, two = (ClipPairs(Store(made), 8, seed=3) for _ in range(2))
    backwards = {n: two[n] for n in reversed(range(200))}
    for n in range(200):
        a, b = one[n], backwards[n]
        assert torch.equal(a.frames, b.frames)
        assert a.dt == b.dt
        assert a.label == b.label
    other = ClipPairs(Store(made), 8, seed=4)
    assert sum(torch.equal(one[n].frames, other[n].frames) for n in range(50)) < 25


def test_samples_stay_the_same_across_versions(made: Path) -> None:
    """Numbers written down once: an unbroken run and one resumed later must agree."""
    pairs = ClipPairs(Store(made), 8, seed=0)
    found = [
        (int(s.frames[0, 1, 0, 0]), int(s.frames[0, 0, 0, 0]), int(s.frames[1, 0, 0, 0]),
         int(s.frames[0, 2, 0, 0]))
        for s in (pairs[n] for n in range(6))
    ]  # fmt: skip
    # Video, its first and its second frame, blue on the left.
    assert found == [
        (1, 3, 5, 255),
        (0, 3, 4, 0),
        (2, 18, 24, 0),
        (2, 17, 20, 0),
        (2, 30, 33, 0),
        (2, 22, 26, 0),
    ]


def test_every_window_once_an_epoch(made: Path) -> None:
    pairs = ClipPairs(Store(made), 8, seed=1)
    assert pairs.num_windows == 3 + 18 + 33
    assert pairs.too_short == 0
    orders = [[pairs._order(e)[i] for i in range(54)] for e in range(3)]
    assert all(sorted(order) == list(range(54)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    windows = {pairs.window(i) for i in range(54)}
    assert len(windows) == 54
    with pytest.raises(IndexError):
        pairs.window(54)


def test_the_two_frames_lie_in_the_window_as_beta(made: Path) -> None:
    n = 16
    pairs = ClipPairs(Store(made), n, seed=0, split="test")
    gaps, flipped = [], 0
    for number in range(3000):
        _video, start = pairs.window(pairs._order(number // 25)[number % 25])
        sample = pairs[number]
        early, late = (int(f[0, 0, 0]) for f in sample.frames)
        assert start <= early <= late < start + n
        assert sample.dt == (late - early) / (n - 1)
        gaps.append(late - early)
        left = [int(f[2, 0, 0]) for f in sample.frames]
        assert left in ([255, 255], [0, 0]), "both frames or none"
        flipped += left[0] == 0
    # Beta(2,1) and Beta(1,2) are a larger and a smaller of two uniforms.
    rng = np.random.default_rng(0)
    a = np.minimum((n * rng.beta(2, 1, 200_000)).astype(int), n - 1)
    b = np.minimum((n * rng.beta(1, 2, 200_000)).astype(int), n - 1)
    expected = np.abs(a - b)
    assert np.mean(gaps) == pytest.approx(expected.mean(), abs=4 * expected.std() / 3000**0.5)
    assert np.mean(np.array(gaps) == 0) == pytest.approx(np.mean(expected == 0), abs=0.02)
    assert abs(flipped / 3000 - 0.5) < 0.04


def test_no_mirror(made: Path) -> None:
    pairs = ClipPairs(Store(made), 8, seed=0, mirror=False)
    assert all(int(pairs[n].frames[0, 2, 0, 0]) == 255 for n in range(40))


def test_same_frame_twice(made: Path) -> None:
    store = Store(made)
    pairs = ClipPairs(store, 2, seed=0)
    same = [n for n in range(60) if pairs[n].dt == 0]
    assert same
    sample = pairs[same[0]]
    assert torch.equal(sample.frames[0], sample.frames[1])
    assert {pairs[n].dt for n in range(60)} == {0.0, 1.0}


def test_labels_and_splits(made: Path) -> None:
    store = Store(made)
    pairs = ClipPairs(store, 8, seed=0, use_labels=True)
    assert pairs.num_classes == 2
    for n in range(60):
        sample = pairs[n]
        assert sample.label == (1 if int(sample.frames[0, 1, 0, 0]) == 2 else 0)
    assert list(pairs.labels) == [1] * 33 + [0] * 21
    plain = ClipPairs(store, 8, seed=0)
    assert plain[0].label == -1
    assert set(plain.labels) == {-1}
    assert plain.num_classes == 0
    train = ClipPairs(store, 8, seed=0, split="train")
    assert train.num_windows == 21
    with pytest.raises(DiganError, match=r"split must be one of the store's \(test, train\)"):
        ClipPairs(store, 8, seed=0, split="val")


def test_clip(made: Path) -> None:
    pairs = ClipPairs(Store(made), 8, seed=0)
    clip = pairs.clip(5)
    _video, start = pairs.window(5)
    assert clip.shape == (8, 32, 32, 3)
    assert clip.dtype == np.uint8
    assert list(clip[:, 0, 0, 0]) == list(range(start, start + 8))


def test_short_videos(made: Path) -> None:
    store = Store(made)
    pairs = ClipPairs(store, 20, seed=0)
    assert pairs.too_short == 1
    assert list(pairs.videos) == [0, 1]
    with pytest.raises(DiganError, match=r"no video of 41 frames.* its 3 videos have 10 to 40"):
        ClipPairs(store, 41, seed=0)
    with pytest.raises(DiganError, match=r"clip_frames must be at least 2, got 1"):
        ClipPairs(store, 1, seed=0)


def test_labels_of_a_store_without(tmp_path: Path) -> None:
    write_clip(tmp_path / "src" / "a.mp4", 5)
    prepare(tmp_path / "src", tmp_path / "s", resolution=32, workers=1, progress=False)
    with pytest.raises(DiganError, match=r"has no classes"):
        ClipPairs(Store(tmp_path / "s"), 3, seed=0, use_labels=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_the_asked_samples_in_order(made: Path, workers: int) -> None:
    pairs = ClipPairs(Store(made), 8, seed=0, use_labels=True)
    batches = [[7, 3], [200, 4], [5, 6], [1000, 999]]
    before = torch.random.get_rng_state()
    loaded = list(pair_loader(pairs, iter(batches), workers))
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator is not ours"
    assert len(loaded) == 4
    for numbers, batch in zip(batches, loaded, strict=True):
        assert batch.frames.shape == (2, 2, 3, 32, 32)
        assert batch.frames.dtype == torch.uint8
        assert batch.dt.dtype == torch.float32
        assert batch.label.dtype == torch.int64
        for row, number in enumerate(numbers):
            sample = pairs[number]
            assert torch.equal(batch.frames[row], sample.frames)
            assert float(batch.dt[row]) == pytest.approx(sample.dt)
            assert int(batch.label[row]) == sample.label


def test_loader_is_endless_when_asked(made: Path) -> None:
    pairs = ClipPairs(Store(made), 8, seed=0)
    endless = ([i, i + 1] for i in itertools.count(0, 2))
    batches = pair_loader(pairs, endless, workers=1)
    assert len(list(itertools.islice(batches, 70))) == 70


@pytest.mark.parametrize("workers", [0, 1])
def test_loader_says_damage_in_one_line(made: Path, tmp_path: Path, workers: int) -> None:
    import shutil

    shutil.copytree(made, tmp_path / "s")
    for frame in range(len(np.load(made / FRAMES_FILE))):
        damage(tmp_path / "s", frame)
    pairs = ClipPairs(Store(tmp_path / "s"), 8, seed=0)
    with pytest.raises(DiganError) as error:
        list(pair_loader(pairs, [[0, 1]], workers))
    assert "is damaged: the record of video" in str(error.value)
    assert "\n" not in str(error.value)


def test_importing_the_store_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys, digan.data.prepare, digan.data.synthetic, digan.data.check\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
