"""I3D: equal to a public implementation on named weights, and its input to the original's."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from digan.metrics.i3d import I3D, i3d_input, pad_same, pool_same
from tests.metrics.networks import named_weights, numbers

# Names and shapes of the state dict of videogpt/fvd/pytorch_i3d.py, wilson1yan/VideoGPT at
# c6655e8, and every 50th logit that it gave in float64, once, for the weights and videos below.
NAMES_SHA256 = "9a978292544f8c40059987b44655a8ee8da15766148970d26fe8fecad8f1a55e"
LOGITS = [
    [-25.111742971720663, 14.377170782973998, -50.258234418795126, 11.529850980691542,
     75.13114484782822, 7.891719367310877, -32.12833367171933, -48.27446088325219],
    [-7.174007660040755, 4.253024932951825, -12.52704999546264, 0.7399328560139367,
     19.018114341648566, -0.5263150587952728, -7.108029157558104, -12.550208395246214],
]  # fmt: skip


def shapes_of(network: I3D) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_names_and_shapes_are_the_public_ones():
    found = sorted((name, list(shape)) for name, shape in shapes_of(I3D()).items())
    assert len(found) == 344
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest() == NAMES_SHA256


def test_outputs_are_those_of_a_public_implementation():
    network = I3D().eval()
    network.load_state_dict(named_weights(shapes_of(network)))
    # 10 frames, so that sizes are odd on the way: the zeros at the ends are uneven.
    videos = torch.from_numpy(numbers("video", (2, 3, 10, 224, 224)) * 2 - 1)
    across = torch.linspace(-1, 1, 224, dtype=torch.float64)
    along = torch.linspace(-1, 1, 10, dtype=torch.float64)
    videos[1] = across[None, None, None, :] * along[None, :, None, None]
    with torch.no_grad():
        got = network.double()(videos)
    assert got.shape == (2, 400)
    assert torch.allclose(
        got[:, ::50], torch.tensor(LOGITS, dtype=torch.float64), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize(
    ("video", "expected", "size"),
    [
        ("pre_video_uint8", "preprocess_target_10", 10),
        ("pre_video2_uint8", "preprocess2_target_4", 4),
    ],
)
def test_input_is_the_originals(golden_dir, video, expected, size):
    with np.load(golden_dir / "h_fvd_kvd_f64.npz", allow_pickle=False) as golden:
        got = i3d_input(torch.from_numpy(golden[video]), size).numpy()
        assert got.dtype == np.float32
        error = np.linalg.norm(got - golden[expected]) / np.linalg.norm(golden[expected])
    assert error <= 1e-6


@pytest.mark.parametrize(("height", "width"), [(6, 6), (6, 13), (13, 6), (7, 224), (9, 8)])
def test_input_is_a_centre_square(height, width):
    flat = torch.full((1, 2, height, width, 3), 200, dtype=torch.uint8)
    got = i3d_input(flat, 8)
    assert got.shape == (1, 3, 2, 8, 8)
    assert torch.allclose(got, torch.tensor(200 / 127.5 - 1), atol=1e-6)


def test_input_keeps_order_and_channels():
    videos = torch.zeros(2, 3, 4, 4, 3, dtype=torch.uint8)
    videos[1, 2, ..., 0] = 255
    got = i3d_input(videos, 4)
    assert (got[1, 0, 2] == 1).all()
    assert int((got == 1).sum()) == 16


@pytest.mark.parametrize("size", [1, 2, 5, 8, 31, 32, 33])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (3, 2), (7, 2), (2, 2)])
def test_same_padding_rounds_sizes_up(size, window, stride):
    x = torch.rand(1, 2, size, size + 1, size + 2)
    pooled = pool_same(x, (window,) * 3, (stride,) * 3)
    assert list(pooled.shape[2:]) == [-(-n // stride) for n in x.shape[2:]]
    padded = pad_same(x, (window,) * 3, (stride,) * 3)
    before = [(p - n) // 2 for p, n in zip(padded.shape[2:], x.shape[2:], strict=True)]
    inner = tuple(slice(b, b + n) for b, n in zip(before, x.shape[2:], strict=True))
    assert torch.equal(padded[(..., *inner)], x)
    assert padded.sum() == pytest.approx(float(x.sum()), rel=1e-5)
    assert torch.equal(pooled, F.max_pool3d(padded, window, stride))
