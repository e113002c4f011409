"""One network for a family of shapes: signed distances, learnt from surface points alone.

Every shape has a code, and the code writes the shape's own network (`digan.ops.CoordMLP` with
`code_features`). Codes and network are learnt together (an auto-decoder: Park et al. 2019,
DeepSDF) from points on the outlines and their normals. Everywhere else the eikonal equation
|gradient| = 1 makes the values distances (Gropp et al. 2020, IGR). That loss is made of
derivatives by the coordinates, so training differentiates the network twice.

    python examples/modulated_sdf.py
    python examples/modulated_sdf.py --shapes 64 --steps 4000 --outdir runs/more-shapes
    python examples/modulated_sdf.py --baseline    # beside nn.Sequential on [coords; code]

Writes to --outdir: errors.csv; shapes.png (some shapes: exact distances above, learnt ones
below); between.png (from each shape to the next by interpolating their codes).
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch
from fitting import Figures, Fit, at_least, fit_in_turns, main, new_parser, write_curves
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from digan.bench.plain_mlp import plain_layers
from digan.data.images import write_frame_sheet
from digan.files import writable_folder
from digan.ops import CoordMLP

CORNERS = 96  # of a polygon
BAND = 0.1  # how near to an outline errors are counted


class Shapes(nn.Module):
    """A distance field for every code: that of a circle plus what the network adds."""

    def __init__(
        self, network: nn.Module, count: int, size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.network = network
        self.codes = nn.Parameter(0.3 * torch.randn(count, size, generator=generator))

    def forward(self, coords: Tensor, codes: Tensor) -> Tensor:
        """Distances at coords [B, N, 2] or [N, 2] for codes [B, D]: [B, N]."""
        circle = (coords.square().sum(-1) + 1e-4).sqrt() - 0.5
        added: Tensor = self.network(coords, codes)
        return circle + added[..., 0]


class Concatenated(nn.Module):
    """The usual alternative: nn.Sequential on [coords; code]."""

    def __init__(self, mlp: CoordMLP, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = plain_layers(mlp)
        # The first layer's columns for the code: phases of half a radian, as CoordMLP begins.
        first = self.layers[0]
        spread = 0.5 / mlp.first_alpha / math.sqrt(mlp.code_features)
        columns = torch.randn(first.out_features, mlp.code_features, generator=generator)
        first.weight = nn.Parameter(torch.cat([first.weight.detach(), spread * columns], dim=1))
        first.in_features += mlp.code_features

    def forward(self, coords: Tensor, codes: Tensor) -> Tensor:
        coords = coords.expand(len(codes), -1, -1)
        codes = codes[:, None].expand(-1, coords.shape[1], -1)
        out: Tensor = self.layers(torch.cat([coords, codes], dim=-1))
        return out


def random_shapes(count: int, generator: torch.Generator) -> Tensor:
    """Outlines [B, CORNERS, 2], anticlockwise: stars with 2 to 6 tips, some round, some pointed."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, generator=generator)

    angle = torch.arange(CORNERS) * (2 * math.pi / CORNERS)
    tips = torch.randint(2, 7, (count, 1), generator=generator)
    wave = torch.cos(tips * (angle - uniform(0, 2 * math.pi)))
    depth, sharpness = uniform(0.05, 0.35), uniform(0, 1)
    wave = (1 - sharpness) * wave + sharpness * (1 - 2 * torch.arccos(wave.clamp(-1, 1)) / math.pi)
    radius = uniform(0.4, 0.6) * (1 + depth * wave)
    center = torch.stack([uniform(-0.1, 0.1), uniform(-0.1, 0.1)], dim=-1)
    return center + radius[..., None] * torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


def on_outlines(shapes: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random points of every outline and the normals there, [B, N, 2] each."""
    edges = shapes.roll(-1, dims=1) - shapes
    lengths = edges.norm(dim=-1)
    chosen = torch.multinomial(lengths, count, replacement=True, generator=generator)
    chosen = chosen[..., None].expand(-1, -1, 2)
    along = torch.rand(len(shapes), count, 1, generator=generator)
    points = shapes.gather(1, chosen) + along * edges.gather(1, chosen)
    normals = torch.stack([edges[..., 1], -edges[..., 0]], dim=-1) / lengths[..., None]
    return points, normals.gather(1, chosen)


def exact_distance(shapes: Tensor, points: Tensor) -> Tensor:
    """Signed distances [B, N] of points [N, 2] to polygons, negative inside."""
    start = shapes[:, None]
    edge = shapes.roll(-1, dims=1)[:, None] - start
    offset = points[None, :, None] - start
    along = ((offset * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    distance = (offset - along[..., None] * edge).norm(dim=-1).amin(-1)
    # A ray to the right crosses the outline an odd number of times from inside.
    straddles = (offset[..., 1] < 0) != (offset[..., 1] < edge[..., 1])
    crossing = offset[..., 1] * edge[..., 0] / edge[..., 1] > offset[..., 0]
    inside = (straddles & crossing).sum(-1) % 2 == 1
    return torch.where(inside, -distance, distance)


def derivative(values: Tensor, coords: Tensor) -> Tensor:
    """The gradient of each value by its own coordinates, differentiable again."""
    (found,) = torch.autograd.grad(values.sum(), coords, create_graph=True)
    return found


def loss_of(model: Shapes, codes: Tensor, surface: Tensor, normals: Tensor, free: Tensor) -> Tensor:
    """Zero on the outlines, the gradient their normal there; |gradient| = 1 everywhere."""
    coords = torch.cat([surface, free], dim=1).requires_grad_()
    values = model(coords, codes)
    gradient = derivative(values, coords)
    count = surface.shape[1]
    on = values[:, :count].abs().mean()
    aligned = (gradient[:, :count] - normals).norm(dim=-1).mean()
    eikonal = (gradient.norm(dim=-1) - 1).square().mean()
    return 3 * on + 0.3 * aligned + eikonal + 1e-4 * codes.square().mean()


def errors(model: Shapes, shapes: Tensor, side: int = 48) -> Figures:
    """Against the exact distances on a grid: near the outlines, of the inside, of |gradient|."""
    axis = torch.linspace(-0.95, 0.95, side)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    coords = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    truth = exact_distance(shapes, coords)
    coords = coords.expand(len(shapes), -1, -1).clone().requires_grad_()
    values = model(coords, model.codes)
    (gradient,) = torch.autograd.grad(values.sum(), coords)
    values = values.detach()
    near = truth.abs() < BAND
    both, either = (values < 0) & (truth < 0), (values < 0) | (truth < 0)
    return {
        "distance": (values - truth)[near].abs().mean().item(),
        "eikonal": (gradient.norm(dim=-1) - 1).abs().mean().item(),
        "iou": (both.sum() / either.sum()).item(),
    }


def fit(models: dict[str, Shapes], shapes: Tensor, asked: argparse.Namespace) -> dict[str, Fit]:
    """Trains each model, on the same points; measures its errors."""
    generator = torch.Generator().manual_seed(asked.seed)

    def draw() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen = torch.randperm(len(shapes), generator=generator)[: asked.batch]
        surface, normals = on_outlines(shapes[chosen], asked.points, generator)
        # Half of the other points anywhere, half close to the outline.
        anywhere = 2 * torch.rand(surface.shape, generator=generator) - 1
        close = surface + BAND * torch.randn(surface.shape, generator=generator)
        return chosen, surface, normals, torch.cat([anywhere[:, ::2], close[:, ::2]], dim=1)

    def loss(name: str, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        chosen, *points = batch
        return loss_of(models[name], models[name].codes[chosen], *points)

    def measure(name: str) -> Figures:
        return errors(models[name], shapes)

    def line(step: int, found: dict[str, Figures]) -> str:
        return "\n".join(
            f"{name:13s} step {step:5d}  distance {row['distance']:.4f}  "
            f"eikonal {row['eikonal']:.3f}  inside {100 * row['iou']:5.1f} %"
            for name, row in found.items()
        )

    schedules = {}
    for name, model in models.items():
        network = {"params": model.network.parameters(), "lr": asked.lr}
        codes = {"params": [model.codes], "lr": 5 * asked.lr}
        schedules[name] = CosineAnnealingLR(torch.optim.Adam([network, codes]), asked.steps)
    fits = fit_in_turns(schedules, asked.steps, draw, loss, measure, line)
    for name, fit in fits.items():
        wrong = fit.curve[-1]["distance"]
        print(
            f"{name}: distances near the outlines wrong by {wrong:.4f} in a square of side 2, "
            f"after {fit}"
        )
    return fits


def level_sets(values: np.ndarray) -> np.ndarray:
    """Pictures of distance fields [..., H, W]: blue inside, orange outside, lines every 0.1."""
    inside, outside = np.array([58.0, 110, 190]), np.array([232.0, 150, 60])
    color = np.where(values[..., None] < 0, inside, outside)
    color = 255 - (255 - color) * np.clip(0.35 + np.abs(values[..., None]), 0, 0.9)
    pixel = 2 / values.shape[-1]
    line = np.abs(values / 0.1 - np.round(values / 0.1)) * 0.1 < 0.35 * pixel
    color[line] *= 0.8
    color[np.abs(values) < 1.2 * pixel] = 20
    return color.round().astype(np.uint8)


def write_pictures(outdir: Path, model: Shapes, shapes: Tensor, side: int = 128) -> None:
    shown = min(8, len(shapes))
    axis = torch.linspace(-1, 1, side)
    rows, columns = torch.meshgrid(axis.flip(0), axis, indexing="ij")
    points = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
    with torch.no_grad():
        exact = exact_distance(shapes[:shown], points).view(shown, side, side)
        learnt = model(points, model.codes[:shown]).view(shown, side, side)
        sheet = level_sets(torch.stack([exact, learnt]).numpy())
        write_frame_sheet(outdir / "shapes.png", sheet)
        # Every row goes from one shape's code to the next one's.
        weights = torch.linspace(0, 1, 8)[:, None]
        pairs = [(i, (i + 1) % len(shapes)) for i in range(min(4, len(shapes)))]
        codes = torch.cat([torch.lerp(model.codes[a], model.codes[b], weights) for a, b in pairs])
        between = model(points, codes).view(len(pairs), 8, side, side)
        write_frame_sheet(outdir / "between.png", level_sets(between.numpy()))


def run(asked: argparse.Namespace) -> None:
    writable_folder(asked.outdir)
    shapes = random_shapes(asked.shapes, torch.Generator().manual_seed(asked.seed))

    def new_model(baseline: bool) -> Shapes:
        generator = torch.Generator().manual_seed(asked.seed)
        network: nn.Module = CoordMLP(
            2, 1, width=asked.width, layers=asked.layers, code_features=asked.code_size,
            # Distances are smooth: the network begins with fewer waves than for pictures.
            first_alpha=5.0, alpha=10.0, generator=generator,
        )  # fmt: skip
        if baseline:
            assert isinstance(network, CoordMLP)
            network = Concatenated(network, generator)
        return Shapes(network, len(shapes), asked.code_size, generator)

    model = new_model(baseline=False)
    count = sum(p.numel() for p in model.network.parameters())
    print(f"{len(shapes)} shapes; {count} parameters and {model.codes.numel()} numbers in codes")
    models = {"CoordMLP": model}
    if asked.baseline:
        models["nn.Sequential"] = new_model(baseline=True)
    fits = fit(models, shapes, asked)
    write_curves(asked.outdir / "errors.csv", fits)
    write_pictures(asked.outdir, model, shapes)
    print(f"open {asked.outdir / 'shapes.png'} and {asked.outdir / 'between.png'}")


def flags() -> argparse.ArgumentParser:
    parser = new_parser(__doc__, steps=2000, width=64, lr=2e-3, outdir="runs/modulated-sdf")
    add = parser.add_argument
    add("--shapes", type=at_least(1), default=32, help="number of shapes (32)")
    add("--batch", type=at_least(1), default=8, help="shapes a step (8)")
    add("--points", type=at_least(2), default=256, help="points of every outline a step (256)")
    add("--code-size", type=at_least(1), default=16, help="numbers in a code (16)")
    return parser


if __name__ == "__main__":
    sys.exit(main(flags(), run))
