"""The discriminators' own laws: groups, splits of a batch, layouts, precision, errors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from digan.config import DiscriminatorConfig
from digan.nn import Discriminator, PairDiscriminator, pair_input
from digan.nn.discriminator import minibatch_std
from tests.golden_numbers import relative
from tests.nn.tiny import noise, tiny_discriminators

LABEL = torch.tensor([2, 0, 1, 2])


def pairs(
    batch: int = 4, resolution: int = 32, dtype: torch.dtype = torch.float32, seed: int = 1
) -> tuple[Tensor, Tensor]:
    """Frames [B, 2, 3, H, W] and time differences [B]."""
    frames = 0.5 * noise(batch, 2, 3, resolution, resolution, seed=seed, dtype=dtype)
    return frames, noise(batch, seed=seed + 1, dtype=dtype).abs()


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("channels", [3, 7])
def test_official_parameter_counts(channels):
    """28.4 million each at 128."""
    with torch.device("meta"):
        network = Discriminator(channels, DiscriminatorConfig())
    count = sum(p.numel() for p in network.parameters())
    assert count / 1e6 == pytest.approx(28.4, abs=0.05)


@pytest.mark.parametrize(("resolution", "blocks"), [(32, 3), (64, 4), (128, 5), (256, 6)])
def test_resolutions(resolution, blocks):
    """One block a halving down to 4x4; a logit a pair and a logit a frame."""
    network = tiny_discriminators(resolution)
    assert len(network.video.blocks) == len(network.image.blocks) == blocks
    with torch.no_grad():
        video, image = network(*pairs(2, resolution))
    assert (video.shape, image.shape) == ((2,), (4,))
    assert torch.isfinite(torch.cat([video, image])).all()


def test_frames_are_judged_in_the_order_of_pairs():
    """Image logit 2b + t belongs to frame t of pair b: a group of one frame shows it."""
    network = tiny_discriminators()
    network.image.epilogue.group_size = 1
    frames, dt = pairs()
    with torch.no_grad():
        _, image = network(frames, dt)
        for b in range(4):
            for t in range(2):
                alone = network.image(frames[b, t][None])
                assert relative(alone[0], image[2 * b + t]) < 1e-5


def test_time_difference_matters():
    """To the video network, and to it alone."""
    network = tiny_discriminators()
    frames, dt = pairs()
    with torch.no_grad():
        video, image = network(frames, dt)
        other, same = network(frames, dt + 0.5)
    assert relative(other, video) > 1e-3
    assert torch.equal(same, image)


# ---------------------------------------------------------------- groups


def test_groups_are_strided():
    """Sample i belongs to group i mod (N/G); written out with loops."""
    x = noise(8, 3, 4, 4, seed=1, dtype=torch.float64)
    out = minibatch_std(x, 4)
    assert torch.equal(out[:, :3], x)
    for group in range(2):
        members = x[group::2]
        deviation = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        for i in range(group, 8, 2):
            assert relative(out[i, 3], deviation.expand(4, 4)) < 1e-14
    assert float(out[0, 3, 0, 0]) != float(out[1, 3, 0, 0])


def test_a_small_batch_is_one_group():
    """G = min(group size, N)."""
    x = noise(3, 2, 4, 4, seed=1, dtype=torch.float64)
    assert torch.equal(minibatch_std(x, 4), minibatch_std(x, 3))
    alone = minibatch_std(x[:1], 4)
    assert torch.allclose(alone[:, 2], torch.full((1, 4, 4), 1e-4, dtype=torch.float64))


@pytest.mark.parametrize("batch", [5, 6])
def test_groups_must_divide_the_batch(batch):
    message = f"the batch must be a multiple of the group of 4, got {batch}"
    with pytest.raises(ValueError, match=message):
        minibatch_std(torch.zeros(batch, 2, 4, 4), 4)
    with pytest.raises(ValueError, match=message):
        tiny_discriminators()(*pairs(batch))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("parts", [[[0], [1], [2], [3]], [[0, 1], [2, 3]], [[3, 0], [1], [2]]])
def test_micro_batches_that_keep_groups_whole(parts, classes):
    """Sample b in the part that owns b mod (B/4): both networks' logits are the batch's.

    B = 16 has 4 groups of pairs and 8 of frames; a part of one or more residues holds whole
    groups of both, because (2b + t) mod 8 follows from b mod 4 and t.
    """
    network = tiny_discriminators(wide=True, classes=classes)
    frames, dt = pairs(16, dtype=torch.float64)
    label = torch.arange(16) % classes if classes else None
    with torch.no_grad():
        video, image = network(frames, dt, label)
        for part in parts:
            own = torch.tensor([b for b in range(16) if b % 4 in part])
            some = network(frames[own], dt[own], None if label is None else label[own])
            assert relative(some[0], video[own]) < 1e-12
            assert relative(some[1], image.view(16, 2)[own].flatten()) < 1e-12


def test_other_micro_batches_differ():
    """Cut into consecutive samples, groups break and logits move: the rule is needed."""
    network = tiny_discriminators(wide=True)
    frames, dt = pairs(16, dtype=torch.float64)
    frames = frames * torch.linspace(0.1, 2, 16)[:, None, None, None, None]
    with torch.no_grad():
        video, image = network(frames, dt)
        some = network(frames[:4], dt[:4])
    assert relative(some[0], video[:4]) > 1e-5
    assert relative(some[1], image[:8]) > 1e-5


# ---------------------------------------------------------------- classes


def test_classes():
    """Index and one-hot agree, both frames of a pair carry its class, and classes matter."""
    network = tiny_discriminators(classes=3)
    frames, dt = pairs()
    with torch.no_grad():
        video, image = network(frames, dt, LABEL)
        hot = network(frames, dt, torch.eye(3)[LABEL])
        assert torch.equal(hot[0], video)
        assert torch.equal(hot[1], image)
        both = network.image(frames.flatten(0, 1), LABEL.repeat_interleave(2))
        assert torch.equal(both, image)
        moved = network(frames, dt, (LABEL + 1) % 3)
    assert relative(moved[0], video) > 1e-2
    assert relative(moved[1], image) > 1e-2


def test_conditional_logit_is_a_scaled_product():
    """logit = sum(out * mapped label) / sqrt(width)."""
    network = tiny_discriminators(wide=True, classes=3).video
    frames, dt = pairs(dtype=torch.float64)
    outputs: list[Tensor] = []
    network.epilogue.out.register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad():
        logits = network(pair_input(frames, dt), LABEL)
        code = network.mapping(None, LABEL)
    assert code.shape == outputs[0].shape == (4, 8)
    assert relative((outputs[0] * code).sum(dim=1) / 8**0.5, logits) < 1e-14


@pytest.mark.parametrize(
    ("classes", "label", "message"),
    [
        (3, None, "label must be one of 3 classes for every sample, got None"),
        (3, LABEL + 1, r"label must be from 0 to 2, got \[3, 1, 2, 3\]"),
        (0, LABEL, "label must be None for an unconditional network"),
    ],
)
def test_labels_that_do_not_fit(classes, label, message):
    """An unconditional network that ignored a label would hide a mistake."""
    with pytest.raises(ValueError, match=message):
        tiny_discriminators(classes=classes)(*pairs(), label)


# ---------------------------------------------------------------- input


def test_pair_input():
    """Frame 1, frame 2, plane; a time difference per pair or a ready plane."""
    frames, dt = pairs()
    joined = pair_input(frames, dt)
    assert joined.shape == (4, 7, 32, 32)
    assert torch.equal(joined[:, :3], frames[:, 0])
    assert torch.equal(joined[:, 3:6], frames[:, 1])
    assert torch.equal(joined[:, 6], dt[:, None, None].expand(4, 32, 32))
    assert torch.equal(pair_input(frames, joined[:, 6:]), joined)
    assert pair_input(frames, dt.double()).dtype == torch.float32


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_of_the_input_decides_nothing(layout):
    """Contiguous, channels-last and strided views: the same logits and gradients."""
    network = tiny_discriminators(wide=True).video
    x = pair_input(*pairs(dtype=torch.float64))
    plain = x.clone(memory_format=layout).requires_grad_()
    strided = torch.stack([x, torch.full_like(x, torch.nan)], dim=-1)[..., 0].requires_grad_()
    results = []
    for leaf in (plain, strided):
        logits = network(leaf)
        (gradient,) = torch.autograd.grad(logits.square().sum(), leaf)
        results.append((logits, gradient))
    reference = network(x.contiguous())
    for logits, gradient in results:
        assert relative(logits, reference) < 1e-13
        assert relative(gradient, results[0][1]) < 1e-13


@pytest.mark.parametrize("shape", [(4, 6, 32, 32), (4, 7, 64, 64), (4, 7, 32, 31), (7, 32, 32)])
def test_shapes_that_do_not_fit(shape):
    message = rf"x must be \[N, 7, 32, 32\], got \[{', '.join(map(str, shape))}\]"
    with pytest.raises(ValueError, match=message):
        tiny_discriminators().video(torch.zeros(shape))


# ---------------------------------------------------------------- paths and precision


def r1(network: PairDiscriminator, frames: Tensor, dt: Tensor) -> Tensor:
    """Half the mean squared input gradient of both networks."""
    video, image = pair_input(frames, dt).requires_grad_(), frames.flatten(0, 1).requires_grad_()
    total = frames.new_zeros(())
    for net, x in ((network.video, video), (network.image, image)):
        (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        total = total + gradient.square().sum(dim=(1, 2, 3)).mean() / 2
    return total


@pytest.mark.parametrize("clamp", [256.0, 1.0, None])
def test_formula_and_ops_agree(clamp):
    """impl='reference' and 'auto': logits, gradients, and R1 with its double backward."""
    results = []
    for impl in ("reference", "auto"):
        network = tiny_discriminators(wide=True, clamp=clamp, impl=impl)
        frames, dt = pairs(dtype=torch.float64)
        parameters = list(network.parameters())
        video, image = network(frames, dt)
        first = torch.autograd.grad(video.square().sum() + image.sum(), parameters)
        penalty = r1(network, frames, dt)
        second = torch.autograd.grad(penalty, parameters, materialize_grads=True)
        results.append([video, image, penalty, *first, *second])
    for ours, theirs in zip(*results, strict=True):
        assert relative(ours, theirs) < 1e-12
    assert float(results[0][2].detach()) > 0


def test_double_backward_is_the_derivative_of_the_penalty():
    """R1's parameter gradient against a central difference, in a random direction.

    The direction is short enough that no unit changes the side of its kink.
    """
    network = tiny_discriminators(wide=True)
    frames, dt = pairs(dtype=torch.float64)
    parameters = list(network.parameters())
    gradient = torch.autograd.grad(r1(network, frames, dt), parameters, materialize_grads=True)
    direction = [noise(*p.shape, seed=i, dtype=p.dtype) for i, p in enumerate(parameters)]
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    step, found = 1e-7, []
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += sign * step * d
        found.append(float(r1(network, frames, dt).detach()))
    assert (found[0] - found[1]) / (2 * step) == pytest.approx(slope, rel=1e-5)


def test_float16():
    """Narrow blocks, wide tail: the 8x8 block, the epilogue and the logits stay float32."""
    dtype = torch.float16
    frames, dt = pairs(4, 64)
    truth = tiny_discriminators(64, wide=True)(frames.double(), dt.double())
    network = tiny_discriminators(64, dtype=dtype)
    seen: dict[str, torch.dtype] = {}
    for name, module in network.video.named_modules():
        if module is not network.video:
            module.register_forward_hook(
                lambda _, args, out, name=name: seen.update({name: args[0].dtype})
            )
    logits = network(frames, dt)
    for ours, golden in zip(logits, truth, strict=True):
        assert ours.dtype == torch.float32
        assert 1e-6 < relative(ours, golden) < 2e-3
    narrow = {name for name, found in seen.items() if found == dtype}
    wide = {name for name, found in seen.items() if found == torch.float32}
    assert {"from_rgb", "blocks.0", "blocks.1.conv0", "blocks.2.skip"} <= narrow
    assert {"blocks.3", "blocks.3.conv0", "epilogue", "epilogue.conv", "epilogue.out"} <= wide
    assert narrow | wide == set(seen)
    sum(x.square().mean() for x in logits).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.dtype == torch.float32, name
        assert torch.isfinite(parameter.grad).all(), name


def test_bfloat16():
    """The forward pass is that of float32, the backward pass through every block is narrow."""
    frames, dt = pairs(4, 64)
    exact, network = tiny_discriminators(64), tiny_discriminators(64, dtype=torch.bfloat16)
    for ours, theirs in zip(network(frames, dt), exact(frames, dt), strict=True):
        assert torch.equal(ours, theirs)
    gradients = []
    for discriminators in (network, exact):
        r1(discriminators, frames, dt).backward()
        gradients.append({n: p.grad for n, p in discriminators.named_parameters()})
    ours, theirs = gradients
    for name in ours:
        assert ours[name] is theirs[name] is None or ours[name].dtype == torch.float32
    for block in range(4):
        for layer in ("conv0", "conv1"):
            name = f"video.blocks.{block}.{layer}.weight"
            assert 1e-4 < relative(ours[name], theirs[name]) < 2e-2, name


def test_clamp_bounds_the_blocks_but_not_the_skip():
    """|conv1| <= clamp * sqrt(1/2); the skip beside it is free."""
    network = tiny_discriminators(clamp=0.1).video
    block = network.blocks[0]
    seen: dict[str, Tensor] = {}
    for name in ("conv0", "conv1", "skip"):
        layer = getattr(block, name)
        layer.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out}))
    with torch.no_grad():
        network(50 * pair_input(*pairs()))
    assert float(seen["conv0"].abs().max()) == pytest.approx(0.1)
    assert float(seen["conv1"].abs().max()) == pytest.approx(0.1 * 0.5**0.5)
    assert float(seen["skip"].abs().max()) > 0.1


def test_forward_draws_nothing():
    """Logits are a function of the input; the global random state stays where it was."""
    network = tiny_discriminators()
    frames, dt = pairs()
    before = torch.get_rng_state()
    with torch.no_grad():
        first, again = network(frames, dt), network(frames, dt)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat(first), torch.cat(again))
