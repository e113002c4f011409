"""Cases of coord_chain: sizes around its tiles of 8 x 16 pixels, 256 outputs and 32 inputs.

The op computes forward alone, in 16 bits alone, and has two results, so that its tests have cases
of their own beside `tests.op_cases`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from digan import ops
from tests.op_cases import LOW, generator_of, laid_out, relative_error
from tests.ops import oracles

# As tests.ops.checks has them: of one layer against float64, and the error of one rounding.
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
SLACK = {torch.bfloat16: 2**-9, torch.float16: 2**-12}
NARROW = frozenset({"weight", "hidden", "rgb_weight", "skip", "onward"})
Inputs = dict[str, Tensor | None]


@dataclass(frozen=True)
class ChainCase:
    """B videos of T frames of H x W pixels, F frequencies, C channels, one layer and L more."""

    name: str
    sizes: tuple[int, int, int, int, int, int, int]  # B, T, H, W, F, C, L
    rgb: tuple[int, ...] = (0,)
    onward: int = 0
    skip: bool = False
    image: bool = False
    alpha: float = 0.2
    clamp: float | None = None
    layout: str = "contiguous"

    def __str__(self) -> str:
        return self.name

    @property
    def options(self) -> dict[str, object]:
        """The arguments that are no tensors."""
        return {"rgb_layers": list(self.rgb), "alpha": self.alpha, "clamp": self.clamp}


CASES = (
    ChainCase("one_layer", (1, 1, 3, 5, 8, 8, 0)),
    ChainCase("below_a_slice", (2, 1, 8, 16, 8, 24, 1), (0, 1), image=True),
    ChainCase("at_a_slice", (1, 2, 7, 15, 16, 32, 1), (1,), onward=32),
    ChainCase("above_a_slice", (1, 1, 9, 17, 24, 40, 2), (0, 2), onward=24, image=True),
    ChainCase("skip_clamp", (1, 2, 10, 6, 40, 136, 1), (1,), 72, True, True, clamp=0.7),
    ChainCase("skip_alone", (2, 1, 4, 18, 8, 72, 2), (2,), skip=True),
    ChainCase("relu", (1, 1, 2, 3, 8, 16, 3), (1, 2, 3), alpha=0.0, clamp=2.0),
    ChainCase("below_a_panel", (1, 1, 3, 4, 120, 248, 1), (0, 1), image=True, layout="cut"),
    ChainCase("at_a_panel", (1, 1, 8, 16, 128, 256, 2), (2,), 256, True, True),
    ChainCase("above_a_panel", (2, 1, 2, 6, 128, 264, 2), (0, 2), 264, True, True, clamp=1.5),
    ChainCase("one_panel_of_three", (1, 1, 2, 4, 32, 128, 2), (1, 2), onward=272),
    ChainCase("three_panels", (1, 1, 8, 4, 128, 512, 2), (0, 1, 2), 256, True, True),
    ChainCase("three_panels_on", (1, 1, 2, 20, 64, 512, 1), (1,), 512, layout="shifted"),
    ChainCase("no_videos", (0, 1, 2, 2, 8, 8, 1), onward=8),
    ChainCase("no_frames", (1, 0, 2, 2, 8, 8, 1), onward=8),
    ChainCase("no_rows", (1, 1, 0, 2, 8, 8, 1), image=True),
)  # fmt: skip


def shapes_of(case: ChainCase) -> dict[str, tuple[tuple[int, ...], float]]:
    """Every input's shape and standard deviation, in the order of the op's arguments."""
    b, t, h, w, f, c, layers = case.sizes
    r, o = len(case.rgb), case.onward
    low = (b, t, h // 2, w // 2) if case.skip else (b, t, h, w)
    return {
        "freq": ((b, f, 2), 3.0),
        "phase": ((b, t, f), 2.0),
        "y": ((h,), 0.7),
        "x": ((w,), 0.7),
        "weight": ((b, c, 2 * f), f**-0.5),
        "hidden": ((b, layers, c, c), math.sqrt(2 / c)),
        "bias": ((layers + 1, c), 0.5),
        "rgb_weight": ((b, r, 3, c), c**-0.5),
        "rgb_bias": ((r, 3), 0.5),
        "skip": ((*low, c), 1.0),
        "image": ((*low, 3), 1.0),
        "onward": ((b, o, c), c**-0.5),
    }


def make_chain(case: ChainCase, dtype: torch.dtype, device: str = "cpu", seed: int = 0) -> Inputs:
    """Fresh random inputs, rounded to `dtype` where the op takes it, biases too."""
    given = {"skip": case.skip, "image": case.image, "onward": case.onward > 0}
    generator = generator_of(f"chain {case.name} {seed}")
    inputs: Inputs = {}
    for name, (shape, scale) in shapes_of(case).items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64) * scale
        rounded = values.to(dtype if name in NARROW or "bias" in name else torch.float32)
        rounded = rounded.to(device, dtype if name in NARROW else torch.float32)
        inputs[name] = laid_out(rounded, case.layout) if given.get(name, True) else None
    return inputs


def oracle(case: ChainCase, inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """Layer by layer in the plainest way, in the dtype of the inputs."""
    i = inputs
    act = {"activation": "lrelu", "alpha": case.alpha, "clamp": case.clamp}
    h = oracles.coord_linear(
        i["freq"], i["phase"], i["y"], i["x"], i["weight"], i["bias"][0], i["skip"], **act
    )
    picture = i["image"]
    if picture is not None and case.skip:
        picture = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for layer in range(case.sizes[-1] + 1):
        if layer:
            h = oracles.modulated_linear(h, i["hidden"][:, layer - 1], i["bias"][layer], **act)
        if layer in case.rgb:
            r = case.rgb.index(layer)
            rgb = oracles.modulated_linear(
                h, i["rgb_weight"][:, r], i["rgb_bias"][r], clamp=case.clamp
            ).to(i["freq"].dtype)
            picture = rgb if picture is None else picture + rgb
    assert picture is not None
    onward = i["onward"]
    return picture, None if onward is None else oracles.modulated_sum(h, onward, None)


def check_chain(
    case: ChainCase, dtype: torch.dtype, impl: ops.Impl = "auto", device: str = "cpu", seed: int = 0
) -> None:
    """Values against float64: within twice the error of plain PyTorch at the same precision.

    Raises:
        AssertionError: what is wrong, and by how much.
    """
    inputs = make_chain(case, dtype, device, seed)
    wide = {n: None if v is None else v.detach().cpu().double() for n, v in inputs.items()}
    plain = {n: None if v is None else v.detach().cpu().contiguous() for n, v in inputs.items()}
    found = ops.coord_chain(**inputs, **case.options, impl=impl)
    truth, usual = oracle(case, wide), oracle(case, plain)
    assert (found[1] is None) == (truth[1] is None)
    for name, ours, exact, theirs in zip(("picture", "next"), found, truth, usual, strict=True):
        if exact is None:
            continue
        assert ours.dtype == (torch.float32 if name == "picture" else dtype)
        layers = case.sizes[-1] + 1
        limit = 2 * relative_error(theirs, exact) + SLACK[dtype]
        limit = min(limit, TOLERANCE[dtype] * layers)
        error = relative_error(ours.cpu(), exact)
        assert error <= limit, f"{case} {name}: error {error:.2e}, limit {limit:.2e}"


DTYPES = LOW
