"""The pair of discriminators and R1 against numbers of the original implementation.

Every test runs on the full golden set, where it is at hand, and on the committed subset.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from digan.nn import PairDiscriminator, pair_input
from tests.golden_numbers import Numbers, Source, load, moments_error
from tests.nn.original import (
    EXACT,
    FLOAT32,
    gradient_errors,
    original_discriminators,
    spatial_error,
    tensor,
)

NAME = "d1_discriminator_64_group4"
RESOLUTION = 64
R1_FLOAT32 = 1e-3  # second derivatives of a piecewise linear network: sums of few large terms


@dataclass
class Run:
    """Logits, first-order gradients and block outputs; then R1 with its gradients."""

    numbers: Numbers
    network: PairDiscriminator
    logits: dict[str, Tensor]  # videoD [B], imageD [2B]
    loss: Tensor
    gradients: dict[str, Tensor]
    input_gradient: Tensor  # [B, 7, H, W]
    blocks: dict[str, list[Tensor]]  # of both networks, from 64 to 8
    statistic: dict[str, Tensor]  # the appended channel, [N, 4, 4]
    penalty: dict[str, Tensor]  # video [B], image [2B]
    penalty_input_gradient: dict[str, Tensor]
    total: Tensor
    penalty_gradients: dict[str, Tensor]


def watch(network: PairDiscriminator, blocks: dict, statistic: dict) -> list:
    hooks = []
    for name in ("video", "image"):
        net, key = getattr(network, name), f"{name}D"
        blocks[key] = []
        hooks += [
            block.register_forward_hook(
                lambda _, __, out, key=key: blocks[key].append(out.detach())
            )
            for block in net.blocks
        ]
        hooks.append(
            net.epilogue.conv.register_forward_pre_hook(
                lambda _, args, key=key: statistic.__setitem__(key, args[0][:, -1].detach())
            )
        )
    return hooks


@functools.lru_cache(maxsize=4)
def run(source: Source, dtype: torch.dtype) -> Run:
    numbers = load(NAME, source)
    network = original_discriminators(numbers, dtype)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def split(video: Tensor) -> Tensor:
        return video[:, :6].unflatten(1, (2, 3))

    blocks: dict[str, list[Tensor]] = {}
    statistic: dict[str, Tensor] = {}
    hooks = watch(network, blocks, statistic)
    vid = tensor(numbers, "in/vid", dtype)
    video, image = network(split(vid), vid[:, 6:7])
    for hook in hooks:
        hook.remove()
    weights = {k: tensor(numbers, f"in/loss_w_{k}", dtype).view(-1) for k in ("video", "image")}
    loss = (video * weights["video"]).sum() + (image * weights["image"]).sum()
    *found, of_input = torch.autograd.grad(loss, [*parameters, vid])

    seen = tensor(numbers, "in/vid", dtype)
    single = split(seen.detach()).flatten(0, 1).requires_grad_()
    inner = {
        "video": torch.autograd.grad(network.video(seen).sum(), seen, create_graph=True)[0],
        "image": torch.autograd.grad(network.image(single).sum(), single, create_graph=True)[0],
    }
    penalty = {key: value.square().sum(dim=(1, 2, 3)) for key, value in inner.items()}
    total = (penalty["video"].mean() + penalty["image"].mean()) / 2
    second = torch.autograd.grad(total, parameters, allow_unused=True)
    return Run(
        numbers,
        network,
        {"videoD": video.detach(), "imageD": image.detach()},
        loss.detach(),
        dict(zip(names, found, strict=True)),
        of_input,
        blocks,
        statistic,
        {key: value.detach() for key, value in penalty.items()},
        {key: value.detach() for key, value in inner.items()},
        total.detach(),
        {
            name: torch.zeros_like(p) if g is None else g
            for name, p, g in zip(names, parameters, second, strict=True)
        },
    )


@pytest.fixture(params=["full", "subset"])
def source(request) -> Source:
    return request.param


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param


@pytest.fixture
def made(source, dtype) -> Run:
    return run(source, dtype)


@pytest.fixture
def bound(dtype) -> float:
    return EXACT if dtype == torch.float64 else FLOAT32


def test_logits(made, bound):
    """Of pairs and of frames, the frames in the order (b t)."""
    for key, name in (("videoD", "video"), ("imageD", "image")):
        ours = made.logits[key][:, None]
        assert made.numbers.error(f"f64/{name}_logits", ours) < bound, name


def test_loss(made, bound):
    """The scalar that the gradients belong to: -0.02, a sum of terms of size 4 in all.

    The error is measured against the terms, since the sum cancels them.
    """
    terms = [
        made.numbers[f"f64/{name}_logits"] * made.numbers[f"in/loss_w_{name}"]
        for name in ("video", "image")
    ]
    size = sum(abs(term).sum() for term in terms)
    assert abs(float(made.loss) - float(made.numbers["f64/loss"])) < bound * size


def test_the_seven_channels(made, bound):
    """`pair_input` of frames and a time difference per pair is the original's input."""
    vid = tensor(made.numbers, "in/vid", made.loss.dtype).detach()
    frames, dt = vid[:, :6].unflatten(1, (2, 3)), vid[:, 6, 0, 0].clone()
    assert torch.equal(pair_input(frames, dt)[:, :6], vid[:, :6])
    assert torch.equal(pair_input(frames, vid[:, 6:7]), vid)
    assert torch.equal(pair_input(frames, dt)[:, 6, 5, 9], dt)
    assert list(made.numbers["f64/image_input_shape"]) == list(frames.flatten(0, 1).shape)


@pytest.mark.parametrize("net", ["videoD", "imageD"])
def test_every_block(made, bound, net):
    """Outputs of the residual blocks and the minibatch statistic."""
    for i, out in enumerate(made.blocks[net]):
        resolution = RESOLUTION >> i
        stride = int(made.numbers["sub_stride"]) if out.shape[-1] > 8 else 1
        name = f"f64/{net}/b{resolution}"
        assert made.numbers.error(name, out[..., ::stride, ::stride]) < bound, name
    assert len(made.blocks[net]) == 4
    appended = made.statistic[net]
    assert torch.equal(appended, appended[:, :1, :1].expand_as(appended))
    assert made.numbers.error(f"f64/{net}/mbstd", appended[:, :1, 0]) < bound


def test_gradients(made, bound):
    """The gradient of every parameter and of the input, all 7 channels of it."""
    errors = gradient_errors(made.numbers, "f64/grad/", made.gradients, RESOLUTION)
    assert len(errors) == len(list(made.network.parameters()))
    assert max(errors.values()) < bound, errors
    name = "f64/grad_in/vid"
    assert spatial_error(made.numbers, name, made.input_gradient) < bound


def test_r1_penalties(made, bound):
    """|d logit / d input|^2 of pairs over 7 channels and of frames; gamma 1, factor 1/2."""
    assert made.numbers.error("f64/r1/video_penalty", made.penalty["video"]) < bound
    assert made.numbers.error("f64/r1/image_penalty", made.penalty["image"]) < bound
    assert made.numbers.error("f64/r1/total_gamma1", made.total) < bound


@pytest.mark.parametrize("net", ["video", "image"])
def test_r1_input_gradients(made, bound, net):
    """The inner gradient of R1, whose plane of time differences counts too."""
    found = made.penalty_input_gradient[net]
    assert spatial_error(made.numbers, f"f64/r1/{net}_input_grad", found) < bound
    sums = made.numbers[f"f64/r1/{net}_input_grad_moments"]
    if net == "video":
        assert moments_error(found[:, :6], sums) > 1e-3


def test_r1_parameter_gradients(made, dtype):
    """The double backward, through convolutions, FIR, lrelu, clamp and minibatch statistic."""
    errors = gradient_errors(made.numbers, "f64/r1/grad/", made.penalty_gradients, RESOLUTION)
    limit = EXACT if dtype == torch.float64 else R1_FLOAT32
    assert max(errors.values()) < limit, errors
    alive = [name for name, grad in made.penalty_gradients.items() if grad.abs().max() > 0]
    assert len(alive) >= 40
