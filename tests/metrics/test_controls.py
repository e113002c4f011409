"""fd-random3d with its controls, on drifting clouds: are faults seen, and in what order?"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.metrics import RealReference, evaluate_random3d
from digan.metrics.controls import freeze, shuffle_in_time

N = 96  # clips a side


def to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def blurred(videos: np.ndarray, times: int) -> np.ndarray:
    """Binomial blur [1 2 1] / 4 of height and width, that many times."""
    wide = videos.astype(np.float64)
    for _ in range(times):
        for axis in (2, 3):
            wide = (np.roll(wide, 1, axis) + 2 * wide + np.roll(wide, -1, axis)) / 4
    return to_uint8(wide)


def noisy(videos: np.ndarray, deviation: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return to_uint8(videos + rng.normal(0, deviation, videos.shape))


@pytest.fixture(scope="module")
def real(make_clouds):
    return make_clouds(2 * N, seed=1)


@pytest.fixture(scope="module")
def other(make_clouds):
    """Clips of the same kind as `real`, none of them the same."""
    return make_clouds(N, seed=2)


@pytest.fixture(scope="module")
def reference(real):
    return RealReference.from_clips(real)


class TestControls:
    def test_order(self, reference):
        controls = reference.controls
        assert controls.floor > 0
        assert 10 * controls.floor < min(controls.shuffled, controls.frozen)
        assert max(controls.shuffled, controls.frozen) < controls.mean_frame

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_order_under_other_weights(self, real, seed):
        controls = RealReference.from_clips(real[: 2 * 48], seed=seed).controls
        assert 5 * controls.floor < min(controls.shuffled, controls.frozen)
        assert max(controls.shuffled, controls.frozen) < controls.mean_frame

    @pytest.mark.parametrize("speed", [0.15, 1.2])
    def test_order_for_slow_and_fast_clouds(self, make_clouds, speed):
        controls = RealReference.from_clips(make_clouds(2 * 48, seed=3, speed=speed)).controls
        assert 5 * controls.floor < min(controls.shuffled, controls.frozen)
        assert max(controls.shuffled, controls.frozen) < controls.mean_frame

    def test_motion_does_not_outweigh_all_else(self, reference, other):
        # Perfect pictures that stand still are bad, but not worse than pictures of nothing.
        nothing = np.random.default_rng(0).integers(0, 256, other.shape, dtype=np.uint8)
        assert reference.controls.frozen < reference.evaluate(nothing).fd
        assert reference.controls.frozen < 3 * reference.evaluate(blurred(other, 18)).fd

    def test_other_sizes_and_lengths(self, make_clouds):
        for frames, size in ((2, 16), (5, 48)):
            clouds = make_clouds(24, seed=4, frames=frames, size=size)
            controls = RealReference.from_clips(clouds, width=16).controls
            assert controls.floor < controls.frozen < controls.mean_frame


class TestFakes:
    def test_good_fakes_are_at_the_floor(self, reference, other):
        result = reference.evaluate(other)
        assert result.fd < 2 * result.floor
        assert result.pairwise_ratio == pytest.approx(1, abs=0.1)
        assert result.change_ratio == pytest.approx(1, abs=0.15)

    def test_the_controls_are_what_they_say(self, reference, real):
        odd = torch.from_numpy(real)[1::2]
        assert reference.evaluate(odd).fd == pytest.approx(reference.controls.floor, rel=1e-4)
        frozen = reference.evaluate(freeze(odd))
        assert frozen.fd == pytest.approx(frozen.frozen, rel=1e-4)
        assert frozen.change_ratio == 0
        shuffled = reference.evaluate(shuffle_in_time(odd, seed=0))
        assert shuffled.fd == pytest.approx(shuffled.shuffled, rel=1e-4)
        mean = to_uint8(real.mean((0, 1)))
        held = reference.evaluate(np.broadcast_to(mean, odd.shape))
        assert held.fd == pytest.approx(held.mean_frame, rel=1e-3)
        assert held.pairwise_ratio == 0

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda videos, step: blurred(videos, 2**step),
            lambda videos, step: noisy(videos, 4.0**step),
            lambda videos, step: to_uint8(videos + 15.0 * step),
            lambda videos, step: to_uint8(128 + (videos - 128.0) * 0.75**step),
            lambda videos, step: videos[:, np.arange(16) // (4**step // 2) * (4**step // 2)],
            lambda videos, step: np.tile(videos[: N // 3**step], (3**step, 1, 1, 1, 1)),
        ],
        ids=["blur", "noise", "brightness", "contrast", "stutter", "collapse"],
    )
    def test_faults_grow(self, reference, other, spoil):
        values = [reference.evaluate(other).fd]
        values += [reference.evaluate(spoil(other, step)).fd for step in (1, 2, 3)]
        assert values == sorted(values)
        assert values[-1] > 4 * reference.controls.floor

    def test_wrong_speed_and_wrong_colours_are_seen(self, reference, make_clouds, other):
        floor = reference.controls.floor
        assert reference.evaluate(make_clouds(N, seed=2, speed=0.25)).fd > 5 * floor
        assert reference.evaluate(make_clouds(N, seed=2, speed=1.0)).fd > 5 * floor
        assert reference.evaluate(other[..., [1, 2, 0]].copy()).fd > 5 * floor

    def test_collapse_shows_in_the_pairwise_ratio(self, reference, other):
        result = reference.evaluate(np.repeat(other[:1], N, axis=0))
        assert result.pairwise_ratio == 0
        assert result.change_ratio > 0


class TestStreaming:
    @pytest.mark.parametrize("sizes", [[1, 1, 3, 5], [7, 2, 11], [0, 20]])
    def test_batches_equal_the_whole(self, real, other, sizes):
        whole = evaluate_random3d(real[:24], other[:9])
        parts = np.split(real[:24], np.cumsum(sizes))
        streamed = evaluate_random3d(
            (torch.from_numpy(part) for part in parts), [other[:4], other[4:9]]
        )
        assert streamed.protocol == whole.protocol
        assert streamed.fd == pytest.approx(whole.fd, rel=1e-4)
        for name in ("floor", "mean_frame", "frozen", "shuffled"):
            assert getattr(streamed, name) == pytest.approx(getattr(whole, name), rel=1e-4)
        assert streamed.pairwise_ratio == whole.pairwise_ratio
        assert streamed.change_ratio == whole.change_ratio

    def test_repeats(self, real, other):
        first, second = (evaluate_random3d(real[:16], other[:8]) for _ in range(2))
        assert first == second

    def test_a_reference_serves_many_sets(self, real, other):
        reference = RealReference.from_clips(real[:16])
        first = reference.evaluate(other[:8])
        reference.evaluate(noisy(other[:8], 50.0))
        assert reference.evaluate(other[:8]) == first
        assert evaluate_random3d(real[:16], other[:8]) == first


class TestShuffle:
    def test_is_another_order_of_the_same_frames(self):
        videos = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1).expand(9, 6, 2, 2, 3)
        shuffled = shuffle_in_time(videos, seed=4)
        assert torch.equal(shuffled.sort(dim=1).values, videos)
        orders = shuffled[:, :, 0, 0, 0]
        assert not (orders == torch.arange(6)).all(dim=1).any()
        assert len({tuple(order.tolist()) for order in orders}) > 5

    def test_depends_on_seed_and_number_only(self):
        videos = torch.arange(6, dtype=torch.uint8).view(1, 6, 1, 1, 1).expand(9, 6, 2, 2, 3)
        whole = shuffle_in_time(videos, seed=4)
        assert torch.equal(shuffle_in_time(videos[3:], seed=4, first_index=3), whole[3:])
        assert not torch.equal(shuffle_in_time(videos, seed=5), whole)

    def test_two_frames_are_swapped(self):
        videos = torch.tensor([1, 2], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(5, 2, 1, 1, 3)
        assert torch.equal(shuffle_in_time(videos, seed=0), videos.flip(1))

    def test_one_frame_has_no_order(self):
        with pytest.raises(DiganError, match="at least 2 frames, got 1"):
            shuffle_in_time(torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8), seed=0)


class TestReport:
    def test_json_holds_the_whole_protocol(self, real, other):
        result = evaluate_random3d(real[:9], other[:5], seed=7, width=32, data={"split": "test"})
        line = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert line["metric"] == "fd-random3d"
        assert line["results"]["fd-random3d"] == result.fd
        assert line["results"]["floor"] == result.floor
        assert line["results"]["change_ratio"] == result.change_ratio
        protocol = line["protocol"]
        assert protocol["split"] == "test"
        assert (protocol["frames"], protocol["resolution"]) == (16, [32, 32])
        assert (protocol["width"], protocol["seed"]) == (32, 7)
        counts = [protocol[n] for n in ("n_real", "n_reference", "n_control", "n_fake")]
        assert counts == [9, 5, 4, 5]
        assert set(protocol["versions"]) == {"digan", "torch", "numpy", "python"}
        assert len(protocol["network_sha256"]) == len(protocol["real_sha256"]) == 64

    def test_real_sha256_tells_sets_apart(self, real):
        first = RealReference.from_clips(real[:8]).protocol.real_sha256
        assert first == RealReference.from_clips([real[:3], real[3:8]]).protocol.real_sha256
        assert first != RealReference.from_clips(real[8:16]).protocol.real_sha256

    def test_still_data_have_no_change_ratio(self, real, other):
        result = evaluate_random3d(np.repeat(real[:8, :1], 4, axis=1), other[:4, :4])
        line = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert line["results"]["change_ratio"] is None
        assert "none of the data's" in result.format()

    def test_format_names_every_control(self, reference, other):
        text = reference.evaluate(other).format()
        for word in ("not FVD", "fakes", "floor", "shuffled", "frozen", "mean frame", "of 255"):
            assert word in text
        assert max(len(line) for line in text.splitlines()) <= 100
        assert len(text.splitlines()) == 8


class TestErrors:
    def test_too_few(self, real, other):
        with pytest.raises(DiganError, match="at least 4 real clips, got 3"):
            RealReference.from_clips(real[:3])
        with pytest.raises(DiganError, match="at least 4 real clips, got 0"):
            RealReference.from_clips([])
        with pytest.raises(DiganError, match="at least 2 fakes, got 1"):
            evaluate_random3d(real[:8], other[:1])

    def test_shapes_differ(self, real, other):
        with pytest.raises(DiganError, match=r"\[16, 32, 32\], got \[8, 32, 32\]"):
            evaluate_random3d(real[:8], other[:8, :8])
        with pytest.raises(DiganError, match="of one shape"):
            RealReference.from_clips([real[:4], real[:4, :8]])

    def test_not_uint8(self, real):
        with pytest.raises(DiganError, match="uint8"):
            RealReference.from_clips(real[:8] / 127.5 - 1)
