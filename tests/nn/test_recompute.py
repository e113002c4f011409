"""Networks that make activations again in the backward pass: the same gradients, of any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from digan.grid import SpaceTimeGrid
from digan.nn import Generator, loss_over_time
from digan.nn.recompute import recomputed
from digan.training.live_memory import LiveBytes
from tests.cuda_graphs import captured
from tests.emulation.build import emulated
from tests.nn.tiny import noise, tiny_discriminators, tiny_generator
from tests.op_cases import relative_error

EXACT = 1e-12
T = 11
TIMES = torch.linspace(0, 1.3, T, dtype=torch.float64)


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of a few frames, and of a part of their rows; slices of two images."""
    monkeypatch.setattr("digan.nn.pieces._CPU_BYTES", 3 * 16 * 64 * 8)
    monkeypatch.setattr("digan.nn.pieces._SHARING_FRAMES", 3)
    monkeypatch.setattr("digan.nn.recompute._SLICE_PIXELS", 2 * 32 * 32)


def codes(network: Generator, videos: int = 2) -> tuple[Tensor, Tensor]:
    dtype = network.w_avg.dtype
    made = (noise(videos, 12, seed=s, dtype=dtype).requires_grad_() for s in (1, 2))
    z, z_motion = made
    return z, z_motion


def apart(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    assert all(e.norm() > 0 for e in expected)
    return max(relative_error(f, e) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    "grid",
    [
        SpaceTimeGrid(TIMES),
        SpaceTimeGrid(torch.stack([TIMES, 1 - TIMES])),
        SpaceTimeGrid(TIMES[:2], density=2),
        SpaceTimeGrid(TIMES[:2], zoom=1.4),
    ],
    ids=["shared times", "own times", "denser", "wider"],
)
def test_frames_and_gradients(small_pieces, grid):
    network = tiny_generator(wide=True)
    z, z_motion = codes(network)
    leaves = [z, z_motion, *network.parameters()]
    video = network.write(network.map(z), z_motion)
    kept, again = video.render(grid), video.render(grid, recompute=True)
    cotangent = noise(*kept.shape, seed=3, dtype=torch.float64)
    assert relative_error(again, kept) < EXACT
    expected = torch.autograd.grad(kept, leaves, cotangent, retain_graph=True)
    found = torch.autograd.grad(again, leaves, cotangent, retain_graph=True)
    assert apart(found, expected) < EXACT
    # Once more through the same graph, and as the network's own setting.
    assert apart(torch.autograd.grad(again, leaves, cotangent), expected) < EXACT
    network.recompute = True
    found = torch.autograd.grad(
        network.write(network.map(z), z_motion).render(grid), leaves, cotangent
    )
    assert apart(found, expected) < EXACT


def third_order(frames: Tensor, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of a squared norm of gradients of a squared norm of gradients."""
    value = frames.square().sum()
    for _ in range(2):
        value = sum(
            (g.square().sum() for g in torch.autograd.grad(value, leaves[:2], create_graph=True)),
            torch.zeros((), dtype=frames.dtype),
        )
    return torch.autograd.grad(value, leaves, allow_unused=True)


def test_higher_orders_of_the_generator(small_pieces):
    network = tiny_generator(32, wide=True)
    z, z_motion = codes(network, 1)
    leaves = [z, z_motion, *network.parameters()]
    found = []
    for recompute in (False, True):
        video = network.write(network.map(z), z_motion)
        frames = video.render(SpaceTimeGrid(TIMES[:3]), recompute=recompute)
        found.append(third_order(frames, leaves))
    pairs = [(a, b) for a, b in zip(*found, strict=True) if a is not None and a.norm() > 0]
    assert len(pairs) > len(leaves) // 2
    assert max(relative_error(b, a) for a, b in pairs) < 1e-11


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
def test_discriminators_in_every_precision(small_pieces, dtype):
    """In narrow arithmetic slices round as whole batches do, nearly always."""
    frames = noise(4, 2, 3, 32, 32, seed=5).requires_grad_()
    dt = torch.rand(4, generator=torch.Generator().manual_seed(1))
    found = []
    for recompute in (False, True):
        network = tiny_discriminators(dtype=dtype, recompute=recompute)
        loss = sum(logits.square().sum() for logits in network(frames, dt))
        found.append(torch.autograd.grad(loss, [frames, *network.parameters()]))
    limit = 1e-5 if dtype is None else 2e-2
    assert apart(found[1], found[0]) < limit


def test_without_gradients_nothing_is_different(small_pieces):
    network = tiny_discriminators(recompute=True)
    frames = noise(2, 2, 3, 32, 32, seed=5)
    with torch.no_grad():
        video, image = network(frames, torch.ones(2))
    assert not video.requires_grad
    network.requires_grad_(False)
    again = network(frames, torch.ones(2))
    assert not again[0].requires_grad
    assert relative_error(again[1], image) < 1e-6


def test_autocast_is_that_of_the_forward_pass(small_pieces):
    network = tiny_generator()
    z, z_motion = codes(network)
    leaves = [z_motion, *network.parameters()]
    found = []
    for recompute in (False, True):
        video = network.write(network.map(z), z_motion)
        with torch.autocast("cpu", torch.bfloat16):
            frames = video.render(SpaceTimeGrid(TIMES), recompute=recompute)
        found.append(torch.autograd.grad(frames.float().square().sum(), leaves))
    assert apart(found[1], found[0]) < 2e-2


# ---------------------------------------------------------------- a loss over time


class Judge(nn.Module):
    """A network that looks at frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, dtype=torch.float64)

    def forward(self, frames: Tensor) -> Tensor:  # [B, n, H, W, 3] -> [B, n]
        seen = self.conv(frames.flatten(0, 1).permute(0, 3, 1, 2)).sin()
        return seen.mean(dim=(1, 2, 3)).view(frames.shape[:2])


@pytest.mark.parametrize("frames", [1, 4, None])
@pytest.mark.parametrize("own_times", [False, True])
def test_loss_over_time(frames, own_times):
    network, judge = tiny_generator(32, wide=True), Judge()
    z, z_motion = codes(network)
    t = torch.stack([TIMES, TIMES / 2]) if own_times else TIMES
    wanted = noise(2, T, 32, 32, 3, seed=7, dtype=torch.float64)

    def loss(seen: Tensor, place: slice) -> Tensor:
        near = (seen - wanted[:, place]).square().sum() / wanted.numel()
        return near + judge(seen).square().sum() / T

    leaves = [z, z_motion, *network.parameters(), *judge.parameters()]
    video = network.write(network.map(z), z_motion)
    whole = loss(video.render(SpaceTimeGrid(t)), slice(None))
    expected = torch.autograd.grad(whole, leaves, retain_graph=True)
    parts = loss_over_time(video, t, loss, frames=frames, captured=list(judge.parameters()))
    assert relative_error(parts, whole) < EXACT
    assert apart(torch.autograd.grad(parts, leaves), expected) < EXACT


def test_a_loss_that_uses_what_was_not_named():
    network, judge = tiny_generator(32, wide=True), Judge()
    z, z_motion = codes(network)
    video = network.write(network.map(z), z_motion)
    loss = loss_over_time(video, TIMES, lambda seen, _: judge(seen).sum())
    with pytest.raises(RuntimeError, match=r"captured must name .* shape \[5"):
        loss.backward()
    judge.requires_grad_(False)
    loss_over_time(video, TIMES, lambda seen, _: judge(seen).sum()).backward()


@pytest.mark.parametrize(("t", "frames"), [(TIMES[:0], None), (TIMES, 0)])
def test_no_frames(t, frames):
    network = tiny_generator(32)
    video = network.write(network.map(codes(network)[0]), codes(network)[1])
    with pytest.raises(ValueError, match="1 frame or more"):
        loss_over_time(video, t, lambda seen, _: seen.sum(), frames=frames)


def test_parameters_that_were_changed_in_between():
    """A recomputed activation would belong to other weights."""
    weight = torch.randn(4, requires_grad=True)
    out = recomputed(lambda x: x * weight, [torch.randn(4)], [weight])
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# ---------------------------------------------------------------- memory


def held(work) -> int:
    with LiveBytes() as live:
        work()
    return live.peak


def dense_pass(network: Generator, frames: int, how: str) -> int:
    """Peak bytes of a gradient through so many frames, the frames themselves left out."""
    z, z_motion = codes(network, 1)
    t = torch.linspace(0, 1, frames, dtype=torch.float64)

    def work() -> None:
        video = network.write(network.map(z), z_motion)
        if how == "loss_over_time":
            loss = loss_over_time(video, t, lambda seen, _: seen.square().sum())
        else:
            loss = video.render(SpaceTimeGrid(t), recompute=how == "again").square().sum()
        loss.backward()

    peak = held(work)
    network.zero_grad(set_to_none=True)
    return peak


def test_memory_does_not_grow_with_time(small_pieces, monkeypatch):
    monkeypatch.setattr("digan.nn.dense._CHUNK_PIXELS", 3 * 64 * 64)
    network = tiny_generator(frequencies=16)
    picture = 64 * 64 * 3 * 4
    kept = [dense_pass(network, n, "kept") for n in (12, 48)]
    again = [dense_pass(network, n, "again") for n in (12, 48)]
    chunks = [dense_pass(network, n, "loss_over_time") for n in (12, 48)]
    assert kept[1] > 3 * kept[0]
    # All frames are there as they are, squared, and as their gradient.
    assert again[1] - again[0] < 5 * 36 * picture < (kept[1] - kept[0]) / 3
    assert chunks[1] < 1.05 * chunks[0] < kept[0]


def test_r1_keeps_nothing(small_pieces):
    """Where a gradient is differentiated, its recomputed activations are not held either."""
    frames = noise(24, 3, 32, 32, seed=5)
    found = []
    for recompute in (False, True):
        network = tiny_discriminators(recompute=recompute).image

        def work(network: nn.Module = network) -> None:
            x = frames.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
            gradient.square().sum().backward()

        found.append(held(work))
    assert found[1] < found[0] / 3


# ---------------------------------------------------------------- on the kernels


def gradients_work(recompute: bool, device: str, size: int, *, with_r1: bool):
    """A closure with the gradients of a rendering, and of R1, on leaves that stay in place."""
    generator = tiny_generator(size, recompute=recompute, frequencies=4).to(device)
    judge = tiny_discriminators(recompute=recompute).image.to(device)
    z, z_motion = (code.detach().to(device).requires_grad_() for code in codes(generator, 1))
    x = noise(2, 3, 32, 32, seed=5).to(device).requires_grad_()
    t = TIMES[:2].to(device)
    leaves = [z, z_motion, *generator.parameters()]
    weights = [p for name, p in judge.named_parameters() if "bias" not in name]

    def work() -> tuple[Tensor, ...]:
        frames = generator.write(generator.map(z), z_motion).render(SpaceTimeGrid(t))
        found = torch.autograd.grad(frames.square().sum(), leaves)
        if with_r1:
            (gradient,) = torch.autograd.grad(judge(x).sum(), x, create_graph=True)
            found += torch.autograd.grad(gradient.square().sum(), weights)
        return found

    return work


@pytest.mark.soak
def test_on_emulated_kernels(monkeypatch, soak):
    """R1 too in the long form: the emulator runs every thread."""
    monkeypatch.setattr("digan.nn.pieces._CPU_BYTES", 16 * 32 * 4)
    monkeypatch.setattr("digan.nn.pieces._SHARING_FRAMES", 1)
    monkeypatch.setattr("digan.nn.recompute._SLICE_PIXELS", 32 * 32)
    with emulated(seed=5) as controls:
        kept = gradients_work(False, "cpu", 32, with_r1=soak)()
        before = len(controls.launches())
        again = gradients_work(True, "cpu", 32, with_r1=soak)()
        launched = [launch["kernel"] for launch in controls.launches()]
    for name in ("modulated_linear_dx", "coord_linear_dphase", *(["bias_act"] if soak else [])):
        first, second = (
            sum(name in kernel for kernel in part)
            for part in (launched[:before], launched[before:])
        )
        assert second > first > 0, name  # in pieces
    assert apart(again, kept) < 1e-4


@pytest.mark.gpu
def test_in_a_graph(monkeypatch):
    """Captured once and replayed: the gradients of kept activations."""
    monkeypatch.setattr("digan.nn.pieces._GPU_KEPT_BYTES", 16 * 64 * 4)
    monkeypatch.setattr("digan.nn.recompute._SLICE_PIXELS", 32 * 32)
    expected = gradients_work(False, "cuda", 64, with_r1=True)()
    graph, found = captured(gradients_work(True, "cuda", 64, with_r1=True))
    for _ in range(2):
        for tensor in found:
            tensor.fill_(float("nan"))
        graph.replay()
        assert apart(found, expected) < 1e-4
