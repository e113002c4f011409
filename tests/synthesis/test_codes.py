"""Seeds to codes, and the ways between codes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from digan.errors import DiganError
from digan.nn import Generator
from digan.synthesis import (
    Codes,
    cat_codes,
    content_latent,
    interpolate_codes,
    motion_latent,
    seed_codes,
    write_videos,
)
from tests.tiny_runs import tiny_network


@pytest.fixture(scope="module")
def network() -> Generator:
    return tiny_network()


def random_codes(count: int, seed: int, scale: float = 1.0) -> Codes:
    draw = torch.Generator().manual_seed(seed)
    ws = torch.randn(count, 4, 6, generator=draw)
    return Codes(ws, scale * torch.randn(count, 6, generator=draw))


def angle(a: Tensor, b: Tensor) -> float:
    return math.acos(min(1.0, max(-1.0, float(torch.cosine_similarity(a.double(), b.double(), 0)))))


def test_latents_are_functions_of_the_seed():
    assert torch.equal(content_latent(7, 16), content_latent(7, 16))
    assert not (content_latent(7, 16) == content_latent(8, 16)).any()
    assert not (content_latent(7, 16) == motion_latent(7, 16)).any()
    many = torch.stack([content_latent(seed, 64) for seed in range(50)]).double()
    assert abs(float(many.mean())) < 0.06
    assert abs(float(many.var()) - 1) < 0.1
    # A wider latent begins with the narrower one: numbers are drawn in order.
    assert torch.equal(content_latent(3, 32)[:16], content_latent(3, 16))


def test_codes_of_seeds_are_those_of_the_mapping(network):
    codes = seed_codes(network, [3, 8], [5, 5], truncation=0.6)
    z = torch.stack([content_latent(3, 16), content_latent(8, 16)])
    assert torch.equal(codes.ws, network.map(z, truncation=0.6))
    assert torch.equal(codes.z_motion, motion_latent(5, 16).expand(2, -1))
    assert len(codes) == 2
    assert torch.equal(seed_codes(network, [3]).z_motion[0], motion_latent(3, 16))


def test_codes_write_the_same_networks(network):
    codes = seed_codes(network, [3, 8])
    ours, expected = codes.write(network), write_videos(network, [3, 8])
    for one, other in zip(ours.blocks, expected.blocks, strict=True):
        for a, b in zip(one.layers, other.layers, strict=True):
            assert torch.equal(a, b)


def test_codes_can_be_taken_apart_and_put_together():
    codes = random_codes(5, 1)
    parts = [codes.take(slice(0, 2)), codes.take(slice(2, 5))]
    assert [len(part) for part in parts] == [2, 3]
    again = cat_codes(parts)
    assert torch.equal(again.ws, codes.ws)
    assert torch.equal(again.z_motion, codes.z_motion)


def test_content_goes_straight_and_motion_in_a_circle():
    a, b = random_codes(1, 2), random_codes(1, 3, scale=2.5)
    weights = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    between = interpolate_codes(a, b, weights)
    expected = a.ws + weights[:, None, None] * (b.ws - a.ws)
    torch.testing.assert_close(between.ws, expected, rtol=0, atol=1e-6)
    first, last = a.z_motion[0], b.z_motion[0]
    whole = angle(first, last)
    assert whole > 0.3
    for weight, z in zip(weights.tolist(), between.z_motion, strict=True):
        assert angle(first, z) == pytest.approx(weight * whole, abs=1e-3)
        assert angle(z, last) == pytest.approx((1 - weight) * whole, abs=1e-3)
        length = (1 - weight) * float(first.norm()) + weight * float(last.norm())
        assert float(z.norm()) == pytest.approx(length, rel=1e-5)


def test_the_ends_are_kept_to_the_bit():
    a, b = random_codes(1, 4), random_codes(1, 5)
    ends = interpolate_codes(a, b, torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert torch.equal(ends.ws, torch.cat([a.ws, b.ws]))
    assert torch.equal(ends.z_motion, torch.cat([a.z_motion, b.z_motion]))


def test_only_what_is_asked_for_moves():
    a, b = random_codes(1, 6), random_codes(1, 7)
    weights = torch.rand(3, generator=torch.Generator().manual_seed(1))
    content = interpolate_codes(a, b, weights, motion=False)
    assert torch.equal(content.z_motion, a.z_motion.expand(3, -1))
    assert not torch.equal(content.ws[0], content.ws[1])
    motion = interpolate_codes(a, b, weights, content=False)
    assert torch.equal(motion.ws, a.ws.expand(3, -1, -1))
    assert not torch.equal(motion.z_motion[0], motion.z_motion[1])


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, -0.5])
def test_motions_along_one_line_have_a_way_too(factor):
    """The same direction goes straight; the opposite goes round, never through zero."""
    a = random_codes(1, 8)
    b = Codes(a.ws, a.z_motion * factor)
    between = interpolate_codes(a, b, torch.linspace(0, 1, 9))
    assert torch.isfinite(between.z_motion).all()
    lengths = between.z_motion.norm(dim=1)
    expected = float(a.z_motion.norm()) * torch.linspace(1, abs(factor), 9)
    torch.testing.assert_close(lengths, expected, rtol=1e-5, atol=0)
    steps = (between.z_motion[1:] - between.z_motion[:-1]).norm(dim=1)
    assert float(steps.max()) < 0.5 * float(a.z_motion.norm())


def test_a_motion_of_zero_is_no_nan():
    a = random_codes(1, 9)
    still = Codes(a.ws, torch.zeros_like(a.z_motion))
    for first, second in ((a, still), (still, a), (still, still)):
        found = interpolate_codes(first, second, torch.linspace(0, 1, 5)).z_motion
        assert torch.isfinite(found).all()
        assert torch.equal(found[0], first.z_motion[0])
        assert torch.equal(found[-1], second.z_motion[0])


def test_what_cannot_be(network):
    a, b = random_codes(1, 1), random_codes(2, 2)
    with pytest.raises(DiganError, match="must be of one video, got 1, 2"):
        interpolate_codes(a, b, torch.zeros(1))
    for weights in ([1.1], [-0.1], [float("nan")]):
        with pytest.raises(DiganError, match="weights must be .* from 0 to 1"):
            interpolate_codes(a, a, torch.tensor(weights))
    with pytest.raises(DiganError, match="motion seeds must be as many as the seeds, 2, got 1"):
        seed_codes(network, [1, 2], [3])
    with pytest.raises(DiganError, match="seeds must be at least one"):
        seed_codes(network, [])
    with pytest.raises(ValueError, match="label must be None"):
        seed_codes(network, [1], labels=[0])
    with pytest.raises(ValueError, match=r"z_motion must be \[2, 6\], got \[1, 6\]"):
        Codes(b.ws, a.z_motion)
    with pytest.raises(ValueError, match=r"ws must be \[B, num_ws, D\], got \[4, 6\]"):
        Codes(b.ws[0], a.z_motion)
