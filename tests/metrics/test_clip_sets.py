"""Which clips are taken of a set, and how they are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from digan.data.images import square
from digan.data.prepare import prepare
from digan.data.store import Store
from digan.errors import DiganError
from digan.metrics import FolderVideos, StoreVideos, VideoSet, choose_clips, clip_batches
from digan.metrics.clip_sets import ChosenClips, open_videos
from tests.data.clips import picture, write_clip


class Numbers(VideoSet):
    """Videos of one pixel, whose grey says video and frame."""

    def __init__(self, lengths, labels=None, splits=None):
        self.path, self.fps = "numbers", 0.0
        self.lengths = np.array(lengths, dtype=np.int64)
        self.names = [str(n) for n in range(len(lengths))]
        self.labels = np.array(labels if labels is not None else [-1] * len(lengths))
        self.splits = np.array(splits if splits is not None else [-1] * len(lengths))
        self.classes, self.split_names = ("a", "b"), ("test", "train")

    def read(self, video, frames):
        return np.array([[[[video, t, 0]]] for t in frames], dtype=np.uint8)

    def content_sha256(self):
        return "numbers"

    def to_json(self):
        return {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of three lossless videos of 8 or 9 frames."""
    root = tmp_path_factory.mktemp("set") / "videos"
    for n in range(6):
        path = root / ("dusk", "noon")[n // 3] / f"{n}.mkv"
        write_clip(path, 8 + n % 2, shade=n, codec="ffv1")
    return root


class TestChoice:
    @given(
        st.lists(st.integers(1, 30), min_size=1, max_size=9),
        st.integers(1, 12),
        st.integers(1, 80),
        st.sampled_from(["windows", "per-video", "start"]),
        st.integers(0, 99),
    )
    def test_clips_lie_inside_and_none_comes_twice(self, lengths, span, count, rule, seed):
        videos = Numbers(lengths)
        fits = [n for n in lengths if n >= span]
        if not fits:
            with pytest.raises(DiganError, match=f"no video of {span} frames"):
                choose_clips(videos, span=span, count=count, rule=rule, seed=seed)
            return
        chosen = choose_clips(videos, span=span, count=count, rule=rule, seed=seed)
        assert len(set(chosen.picks)) == len(chosen.picks)
        assert all(0 <= start <= lengths[video] - span for video, start in chosen.picks)
        assert chosen.too_short == len(lengths) - len(fits)
        windows = sum(n - span + 1 for n in fits) if rule == "windows" else len(fits)
        assert chosen.available == windows
        assert len(chosen.picks) == min(count, windows)
        if rule != "windows":
            assert len({video for video, _ in chosen.picks}) == len(chosen.picks)
        if rule == "start":
            assert all(start == 0 for _, start in chosen.picks)
        first, second = chosen.halves()
        assert sorted(first + second) == list(range(len(chosen.picks)))
        both = [{chosen.picks[place][0] for place in half} for half in (first, second)]
        assert not both[0] & both[1]

    def test_all_windows_are_reached_and_long_videos_weigh_more(self):
        chosen = choose_clips(Numbers([4, 10]), span=3, count=99, rule="windows", seed=1)
        assert sorted(chosen.picks) == [(0, 0), (0, 1), *((1, t) for t in range(8))]

    def test_offsets_are_even(self):
        chosen = choose_clips(Numbers([11] * 400), span=8, count=400, rule="per-video", seed=2)
        counts = np.bincount([start for _, start in chosen.picks], minlength=4)
        assert counts.min() > 70

    def test_seed_and_repeat_decide(self):
        def picks(**options):
            return choose_clips(
                Numbers([20] * 50), span=5, count=20, rule="per-video", **options
            ).picks

        assert picks(seed=1) == picks(seed=1)
        assert picks(seed=1) != picks(seed=2)
        assert picks(seed=1) != picks(seed=1, repeat=1)

    def test_split_and_class(self):
        videos = Numbers([5] * 6, labels=[0, 1, 0, 1, 0, 1], splits=[0, 0, 0, 1, 1, 1])
        common = {"span": 5, "count": 9, "rule": "start", "seed": 0}
        found = choose_clips(videos, split="train", label=1, **common)
        assert {video for video, _ in found.picks} == {3, 5}
        assert len(choose_clips(videos, split="all", **common).picks) == 6
        with pytest.raises(
            DiganError, match=r"split must be one of numbers's \(test, train\) or all"
        ):
            choose_clips(videos, split="val", **common)
        with pytest.raises(DiganError, match="its 0 videos have none"):
            choose_clips(videos, label=7, **common)


class TestReading:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_order_frames_and_stride(self, workers):
        chosen = ChosenClips(((3, 1), (0, 0), (2, 4)), 0, 3)
        found = list(clip_batches(Numbers([9] * 4), chosen, 3, 2, batch=2, workers=workers))
        assert [len(videos) for videos in found] == [2, 1]
        flat = torch.cat(found)[:, :, 0, 0]
        assert flat[..., 0].tolist() == [[3] * 3, [0] * 3, [2] * 3]
        assert flat[..., 1].tolist() == [[1, 3, 5], [0, 2, 4], [4, 6, 8]]

    def test_folder_equals_the_files(self, folder):
        videos = FolderVideos(folder)
        assert videos.lengths.tolist() == [8, 9, 8, 9, 8, 9]
        assert videos.classes == ("dusk", "noon")
        assert videos.labels.tolist() == [0, 0, 0, 1, 1, 1]
        got = videos.read(4, range(2, 7, 2))
        assert np.array_equal(got, np.stack([picture(t, shade=4) for t in (2, 4, 6)]))
        small = FolderVideos(folder, 32).read(4, [3])
        assert np.array_equal(small[0], square(picture(3, shade=4), 32))

    def test_store_equals_the_folder_at_its_resolution(self, folder, tmp_path):
        prepare(folder, tmp_path / "store", resolution=32, workers=1, progress=False)
        store, files = StoreVideos(Store(tmp_path / "store")), FolderVideos(folder, 32)
        assert isinstance(open_videos(tmp_path / "store"), StoreVideos)
        for video in range(6):
            assert store.names[video] == files.names[video]
            assert np.array_equal(store.read(video, range(8)), files.read(video, range(8)))
        with pytest.raises(DiganError, match="must be the store's 32, got 64"):
            open_videos(tmp_path / "store", 64)

    def test_checksums_follow_the_content(self, folder, tmp_path):
        first = FolderVideos(folder).content_sha256()
        assert FolderVideos(folder).content_sha256() == first
        assert FolderVideos(folder, 32).content_sha256() != first
        prepare(folder, tmp_path / "a", resolution=32, workers=1, progress=False)
        prepare(folder, tmp_path / "b", resolution=32, stride=2, workers=1, progress=False)
        sums = [StoreVideos(Store(tmp_path / name)).content_sha256() for name in "ab"]
        assert sums[0] != sums[1]

    def test_frame_folders_and_npz(self, tmp_path):
        from digan.data.sinks import open_sink

        frames = np.stack([picture(t) for t in range(5)])
        for kind, name in (("png", "pictures/one"), ("npz", "arrays/one.npz")):
            with open_sink(tmp_path / name, 8.0, 5) as sink:
                for frame in frames:
                    sink.write(frame)
            videos = FolderVideos(tmp_path / name.split("/")[0])
            assert videos.lengths.tolist() == [5], kind
            assert np.array_equal(videos.read(0, range(5)), frames)

    def test_mixed_resolutions(self, tmp_path):
        write_clip(tmp_path / "a.mkv", 4, codec="ffv1")
        write_clip(tmp_path / "b.mkv", 4, height=32, width=32, codec="ffv1")
        chosen = ChosenClips(((0, 0), (1, 0)), 0, 2)
        for batch in (1, 2):
            with pytest.raises(DiganError) as told:
                list(clip_batches(FolderVideos(tmp_path), chosen, 4, batch=batch))
            assert "one height and width, got [48, 64] in a.mkv and [32, 32] in b.mkv" in str(
                told.value
            )
            assert "--resolution" in str(told.value)
        both = list(clip_batches(FolderVideos(tmp_path, 32), chosen, 4, batch=2))
        assert list(both[0].shape) == [2, 4, 32, 32, 3]

    def test_bad_arrays(self, tmp_path):
        np.savez(tmp_path / "x.npz", frames=np.zeros((4, 8, 8, 3), np.float32))
        with pytest.raises(DiganError, match=r"must hold uint8 \[T, H, W, 3\], got float32"):
            FolderVideos(tmp_path)
        (tmp_path / "x.npz").write_bytes(b"damaged")
        with pytest.raises(DiganError, match=r"x.npz cannot be read"):
            FolderVideos(tmp_path)
        with pytest.raises(DiganError, match="does not exist"):
            open_videos(tmp_path / "nowhere")

    def test_a_damaged_store_is_said_from_a_worker_too(self, folder, tmp_path):
        prepare(folder, tmp_path / "store", resolution=32, workers=1, progress=False)
        shard = next((tmp_path / "store").glob("frames-*.bin"))
        data = bytearray(shard.read_bytes())
        data[200] ^= 255
        shard.write_bytes(bytes(data))
        videos = StoreVideos(Store(tmp_path / "store"))
        chosen = ChosenClips(((0, 0), (1, 0)), 0, 2)
        for workers in (0, 1):
            with pytest.raises(DiganError, match="is damaged: the record of video"):
                list(clip_batches(videos, chosen, 8, workers=workers))
