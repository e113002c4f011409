"""Coordinate networks as other projects train them: `digan.ops.CoordMLP` beside nn.Sequential.

Both have the same weights and give the same numbers. The plain networks are what a careful
user writes (`digan.bench.plain_mlp`): coordinates are made once, outside of what is timed, and
stay float32 under autocast; no tensor is copied that need not be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digan.bench.counting import count_flops
from digan.bench.plain_mlp import plain_layers, plain_modulated
from digan.ops import CoordMLP

Work = Callable[[], Tensor]

OURS, PLAIN = "CoordMLP", "nn.Sequential"


@dataclass(frozen=True)
class Comparison:
    """One workload, done by several providers with the same weights on the same data.

    Attributes:
        name: of the workload. sizes: what it depends on.
        training: by provider, one step: forward and backward, gradients in `.grad`, no
            optimiser; returns the loss.
        forward: by provider, the forward pass without gradients; returns the values.
        flops: floating-point operations of the matrix products of one forward pass.
    """

    name: str
    sizes: dict[str, int]
    training: dict[str, Work]
    forward: dict[str, Work]
    flops: int


def _axes(device: torch.device, size: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    x = 2 * torch.arange(size, device=device) / size - 1
    return x.flip(0), x, torch.linspace(0, 1, frames, device=device)


def _points(*axes: Tensor) -> Tensor:
    """[..., d] in the order (x, y, t) from the axes in the order (t, y, x)."""
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)


def _compare(
    name: str,
    sizes: dict[str, int],
    dtype: torch.dtype,
    device: torch.device,
    networks: dict[str, nn.Module],
    losses: dict[str, Work],
    values: dict[str, Work],
) -> Comparison:
    low = dtype in (torch.bfloat16, torch.float16)

    def step(network: nn.Module, loss_of: Work) -> Work:
        def run() -> Tensor:
            network.zero_grad(set_to_none=True)
            with torch.autocast(device.type, dtype if low else None, enabled=low):
                loss = loss_of()
            loss.backward()
            return loss.detach()

        return run

    def forward(values_of: Work) -> Work:
        def run() -> Tensor:
            with (
                torch.no_grad(),
                torch.autocast(device.type, dtype if low else None, enabled=low),
            ):
                return values_of()

        return run

    forwards = {key: forward(work) for key, work in values.items()}
    _check_agreement(name, {key: run() for key, run in forwards.items()}, dtype)
    return Comparison(
        name,
        sizes,
        {key: step(networks[key], work) for key, work in losses.items()},
        forwards,
        count_flops(forwards[PLAIN]),
    )


def _check_agreement(name: str, found: dict[str, Tensor], dtype: torch.dtype) -> None:
    """A comparison of networks that compute different things would say nothing."""
    truth = found[PLAIN].float()
    # On a GPU float32 products may run in TF32.
    exact = dtype == torch.float32 and truth.device.type == "cpu"
    limit = 1e-5 if exact else 2e-3 if dtype == torch.float32 else 0.1
    for key, values in found.items():
        error = ((values.float() - truth).norm() / truth.norm()).item()
        if not error <= limit:
            raise RuntimeError(f"{name}: {key} must agree with {PLAIN} to {limit}, got {error:.1e}")


def clip_fitting(
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    frames: int = 8,
    size: int = 64,
    width: int = 256,
    layers: int = 4,
    frequencies: int = 0,
) -> Comparison:
    """Fitting whole frames of a clip, on a grid: a SIREN, or sine layers on Fourier features.

    With `frequencies`, which are fixed, there is a third provider: nn.Sequential behind features
    that are made once and kept, 2F numbers for every point of the clip.

    Args:
        device: where. dtype: float32, or that of autocast: bfloat16, float16.
        frames, size: T, and H = W. width, layers, frequencies: of the network.
    """
    device = torch.device(device)
    draw = torch.Generator().manual_seed(0)
    mlp = CoordMLP(
        3, 3, width=width, layers=layers, frequencies=frequencies, frequency_scale=15.0,
        generator=draw,
    ).to(device)  # fmt: skip
    plain = plain_layers(mlp)
    y, x, t = _axes(device, size, frames)
    coords = _points(t, y, x).flatten(0, 2)
    video = torch.rand(frames, size, size, 3, generator=draw).to(device)
    target = video.flatten(0, 2)
    networks: dict[str, nn.Module] = {OURS: mlp, PLAIN: plain}
    values: dict[str, Work] = {
        OURS: lambda: mlp.on_grid(y, x, t)[0],
        PLAIN: lambda: plain(coords).view(video.shape),
    }
    losses: dict[str, Work] = {
        OURS: lambda: (mlp.on_grid(y, x, t)[0] - video).square().mean(),
        PLAIN: lambda: (plain(coords) - target).square().mean(),
    }
    if frequencies:
        kept = f"{PLAIN}, features kept"
        networks[kept] = tail = plain[1:]
        features = plain[0](coords)
        values[kept] = lambda: tail(features).view(video.shape)
        losses[kept] = lambda: (tail(features) - target).square().mean()
    sizes = {"frames": frames, "size": size, "width": width, "layers": layers}
    return _compare(
        "clip, Fourier features" if frequencies else "clip, SIREN",
        sizes | ({"frequencies": frequencies} if frequencies else {}),
        dtype,
        device,
        networks,
        losses,
        values,
    )


def scattered_points(
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    points: int = 1 << 18,
    width: int = 256,
    layers: int = 4,
    frequencies: int = 0,
) -> Comparison:
    """Fitting a clip at points drawn all over it: a SIREN, or sine layers on Fourier features.

    Args:
        device, dtype: as in `clip_fitting`. points: N of a step.
        width, layers, frequencies: of the network.
    """
    device = torch.device(device)
    draw = torch.Generator().manual_seed(0)
    mlp = CoordMLP(
        3, 3, width=width, layers=layers, frequencies=frequencies, frequency_scale=15.0,
        generator=draw,
    ).to(device)  # fmt: skip
    plain = plain_layers(mlp)
    coords = (2 * torch.rand(points, 3, generator=draw) - 1).to(device)
    target = torch.rand(points, 3, generator=draw).to(device)
    sizes = {"points": points, "width": width, "layers": layers}
    return _compare(
        "points, Fourier features" if frequencies else "points, SIREN",
        sizes | ({"frequencies": frequencies} if frequencies else {}),
        dtype,
        device,
        {OURS: mlp, PLAIN: plain},
        {
            OURS: lambda: (mlp(coords) - target).square().mean(),
            PLAIN: lambda: (plain(coords) - target).square().mean(),
        },
        {OURS: lambda: mlp(coords), PLAIN: lambda: plain(coords)},
    )


def modulated_points(
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    signals: int = 8,
    points: int = 512,
    width: int = 256,
    layers: int = 4,
    code_features: int = 64,
) -> Comparison:
    """A modulated SIREN at scattered points under an eikonal loss, by second derivatives.

    Args:
        device, dtype: as in `clip_fitting`. signals, points: B, and N of each.
        width, layers, code_features: of the network.
    """
    device = torch.device(device)
    draw = torch.Generator().manual_seed(0)
    mlp = CoordMLP(
        3, 1, width=width, layers=layers, code_features=code_features, first_alpha=5.0,
        generator=draw,
    ).to(device)  # fmt: skip
    plain = plain_modulated(mlp)
    coords = (2 * torch.rand(signals, points, 3, generator=draw) - 1).to(device).requires_grad_()
    codes = torch.randn(signals, code_features, generator=draw).to(device)

    def eikonal(values: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(values.float().sum(), coords, create_graph=True)
        loss: Tensor = (gradient.norm(dim=-1) - 1).square().mean() + values.float().abs().mean()
        return loss

    fixed = coords.detach()
    sizes = {"signals": signals, "points": points, "width": width, "layers": layers}
    return _compare(
        "shapes, eikonal loss",
        sizes | {"code_features": code_features},
        dtype,
        device,
        {OURS: mlp, PLAIN: plain},
        {
            OURS: lambda: eikonal(mlp(coords, codes)),
            PLAIN: lambda: eikonal(plain((coords, codes))[0]),
        },
        {OURS: lambda: mlp(fixed, codes), PLAIN: lambda: plain((fixed, codes))[0]},
    )


def many_images(
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    signals: int = 64,
    size: int = 32,
    width: int = 64,
    layers: int = 3,
) -> Comparison:
    """Many small images, each with a SIREN of its own, against as many nn.Sequential.

    Args:
        device, dtype: as in `clip_fitting`. signals: B. size: H = W.
        width, layers: of each network.
    """
    device = torch.device(device)
    draw = torch.Generator().manual_seed(0)
    mlp = CoordMLP(2, 3, width=width, layers=layers, signals=signals, generator=draw).to(device)
    plain = nn.ModuleList(plain_layers(mlp, signal) for signal in range(signals))
    y, x, _ = _axes(device, size, 1)
    coords = _points(y, x).flatten(0, 1)
    images = torch.rand(signals, size * size, 3, generator=draw).to(device)

    def all_plain() -> Tensor:
        return torch.stack([network(coords) for network in plain])

    def all_ours() -> Tensor:
        return mlp.on_grid(y, x).flatten(1, 3)

    return _compare(
        "many images, SIREN",
        {"signals": signals, "size": size, "width": width, "layers": layers},
        dtype,
        device,
        {OURS: mlp, PLAIN: plain},
        {
            OURS: lambda: (all_ours() - images).square().mean(),
            PLAIN: lambda: (all_plain() - images).square().mean(),
        },
        {OURS: all_ours, PLAIN: all_plain},
    )


WORKLOADS: tuple[Callable[..., Comparison], ...] = (
    clip_fitting, scattered_points, modulated_points, many_images,
)  # fmt: skip
