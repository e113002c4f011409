"""The random 3-D network: weights for ever, what it sees, what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.metrics.features import Random3d, as_videos, video_batches

# Sha256 of the weights. A change here changes every fd-random3d ever written down.
FINGERPRINTS = {
    0: "2034398ef2a37e80b1cd537ba9fbfad81cd41377ab9045997e96b4b984231fd6",
    1: "05f22bf1145830ca248ff9c3fa14d34e1b320474f96b336fca3f58650757e406",
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, size=(*shape, 3), dtype=np.uint8))


class TestWeights:
    @pytest.mark.parametrize("seed", sorted(FINGERPRINTS))
    def test_are_the_same_for_ever(self, seed):
        assert Random3d(seed=seed).fingerprint() == FINGERPRINTS[seed]

    def test_touch_no_global_generator(self):
        torch.manual_seed(5)
        torch_state = torch.random.get_rng_state()
        numpy_state = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
        Random3d(seed=3)(noise(1, 2, 16, 16))
        assert torch.equal(torch_state, torch.random.get_rng_state())
        after = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002
        assert np.array_equal(numpy_state, after)

    def test_filters(self):
        for level in Random3d().levels:
            weight = level.weight.double()
            assert torch.allclose(weight.square().sum((1, 2, 3, 4)), torch.tensor(1.0).double())
            free, edge, motion = weight.split(list(level.counts))
            assert edge.sum((3, 4)).abs().max() < 1e-6
            assert motion.sum(2).abs().max() < 1e-6
            assert free.sum((3, 4)).abs().max() > 0.1
        assert not list(Random3d().parameters())


class TestFeatures:
    @pytest.mark.parametrize("width", [16, 32, 48, 64])
    def test_shape_and_dtype(self, width):
        got = Random3d(width)(noise(3, 5, 16, 32))
        assert got.shape == (3, width)
        assert got.dtype == torch.float32
        assert torch.isfinite(got).all()
        assert not got.requires_grad

    @pytest.mark.parametrize("frames", [2, 3, 16, 17])
    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_flat_video_is_finite(self, frames, value):
        got = Random3d()(np.full((1, frames, 16, 16, 3), value, np.uint8))
        assert torch.isfinite(got).all()

    def test_a_video_does_not_depend_on_its_batch(self, monkeypatch):
        network, videos = Random3d(), noise(7, 4, 16, 16)
        whole = network(videos)
        assert torch.allclose(network(videos[2:3])[0], whole[2], atol=1e-5)
        monkeypatch.setattr("digan.metrics.features._CHUNK_PIXELS", 4 * 16 * 16 * 2)
        assert torch.allclose(network(videos), whole, atol=1e-5)

    def test_repeats_exactly(self):
        videos = noise(4, 4, 16, 16)
        assert torch.equal(Random3d(seed=2)(videos), Random3d(seed=2)(videos))
        assert not torch.allclose(Random3d(seed=2)(videos), Random3d(seed=3)(videos))

    def test_a_still_video_has_no_motion_energy(self):
        still = noise(2, 1, 32, 32).expand(-1, 8, -1, -1, -1)
        got = Random3d()(still)[:, :48].view(2, 3, 16)
        assert torch.allclose(got[:, :, 8:], torch.tensor(0.02).log(), atol=1e-3)
        assert (got[:, :, :8] > -2).all()

    def test_a_flat_video_has_no_energy_at_all(self):
        got = Random3d()(np.full((1, 4, 16, 16, 3), 77, np.uint8))[:, :48]
        assert torch.allclose(got, torch.tensor(0.02).log(), atol=1e-3)

    def test_sees_the_order_of_frames(self, make_clouds):
        clouds = torch.from_numpy(make_clouds(8, seed=0))
        network = Random3d()
        plain = network(clouds)
        mixed = network(clouds[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))])
        motion = torch.arange(48).view(3, 16)[:, 8:].flatten()
        assert (mixed - plain)[:, motion].mean() > 0.3

    def test_autocast_and_training_mode_change_nothing(self):
        network, videos = Random3d(), noise(2, 4, 16, 16)
        expected = network(videos)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(network.train()(videos), expected)

    def test_leaves_the_settings_of_cudnn(self):
        before = (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)
        Random3d()(noise(1, 2, 16, 16))
        assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic)

    def test_empty_batch(self):
        assert Random3d(32)(noise(0, 4, 16, 16)).shape == (0, 32)

    @pytest.mark.gpu
    def test_cuda_agrees(self):
        videos = noise(4, 8, 32, 32)
        on_gpu = Random3d().cuda()(videos).cpu()
        assert torch.allclose(on_gpu, Random3d()(videos), atol=1e-4)


class TestErrors:
    @pytest.mark.parametrize("width", [0, 8, 17, 80])
    def test_width(self, width):
        with pytest.raises(DiganError, match=f"16, 32, 48 or 64, got {width}"):
            Random3d(width)

    @pytest.mark.parametrize("seed", [-1, 1 << 32])
    def test_seed(self, seed):
        with pytest.raises(DiganError, match="seed of Random3d"):
            Random3d(seed=seed)

    def test_one_frame(self):
        with pytest.raises(DiganError, match="at least 2 frames, got 1"):
            Random3d()(noise(1, 1, 16, 16))

    @pytest.mark.parametrize(("height", "width"), [(8, 16), (24, 16), (16, 40), (0, 16)])
    def test_size(self, height, width):
        with pytest.raises(DiganError, match=f"multiples of 16, got {height}x{width}"):
            Random3d()(noise(1, 2, height, width))

    def test_dtype_and_shape(self):
        with pytest.raises(DiganError, match=r"uint8 \[B, T, H, W, 3\], got float32 \[1, 2,"):
            Random3d()(torch.zeros(1, 2, 16, 16, 3))
        with pytest.raises(DiganError, match=r"got float64 \[1, 2, 16, 16, 3\]"):
            Random3d()(np.zeros((1, 2, 16, 16, 3)))
        with pytest.raises(DiganError, match=r"got uint8 \[2, 16, 16, 3\]"):
            Random3d()(noise(2, 16, 16))
        with pytest.raises(DiganError, match=r"got uint8 \[1, 3, 2, 16, 16\]"):
            Random3d()(noise(1, 2, 16, 16).permute(0, 4, 1, 2, 3))
        with pytest.raises(DiganError, match="a tensor or a numpy array, got list"):
            as_videos([noise(1, 2, 16, 16)])  # type: ignore[arg-type]


class TestBatches:
    def test_an_array_is_cut(self):
        videos = noise(5, 2, 4, 4)
        for whole in (videos, videos.numpy()):
            batches = list(video_batches(whole, size=2))
            assert [len(batch) for batch in batches] == [2, 2, 1]
            assert torch.equal(torch.cat(batches), videos)

    def test_an_iterable_is_passed_on(self):
        videos = noise(5, 2, 4, 4)
        batches = list(video_batches(part for part in (videos[:3], videos[3:].numpy())))
        assert [len(batch) for batch in batches] == [3, 2]

    def test_arrays_that_torch_cannot_share(self):
        videos = noise(2, 3, 4, 4).numpy()
        readonly = videos.view()
        readonly.flags.writeable = False
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert np.array_equal(as_videos(readonly).numpy(), videos)
            assert np.array_equal(as_videos(videos[:, ::-1]).numpy(), videos[:, ::-1])
            held = np.broadcast_to(videos[:, :1], videos.shape)
            assert np.array_equal(as_videos(held).numpy(), held)
