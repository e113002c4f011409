"""The one list of op cases, for the tests of every backend; the benchmark shares its shapes.

An op's entry holds its public function, the shapes of its inputs, an oracle, and named cases.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from digan import ops
from digan.bench.op_shapes import INPUTS
from tests.ops import oracles

LOW = (torch.bfloat16, torch.float16)
Inputs = dict[str, Tensor | None]


@dataclass(frozen=True)
class Case:
    """Sizes and arguments of one call; the name says what is odd about it."""

    name: str
    sizes: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()  # optional inputs that are left out
    layout: str = "contiguous"  # or one of `laid_out`
    low: bool = True  # tried in bfloat16 and float16 too

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Op:
    """One op: its public function, inputs, oracle, and cases."""

    function: Callable[..., Tensor]
    shapes: Callable[[dict[str, Any]], dict[str, tuple[int, ...]]]
    oracle: Callable[..., Tensor]
    cases: tuple[Case, ...]
    wide: frozenset[str] = frozenset()  # float32 beside bfloat16 and float16 inputs
    constant: frozenset[str] = frozenset()  # no gradient
    scale: Callable[[str, tuple[int, ...]], float] = lambda name, shape: 1.0
    has_dtype: bool = False  # takes the output's dtype as an argument
    low: bool = True  # has a 16-bit form
    # Before the activation, to know how far a value is from a kink; None without activation.
    pre_activation: Callable[..., Tensor] | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    def takes(self, case: Case, dtype: torch.dtype) -> bool:
        """True if a case is tried in a dtype."""
        return dtype not in LOW or (self.low and case.low)


def relative_error(out: Tensor, ref: Tensor) -> float:
    """norm(out - ref) / norm(ref) in float64.

    Infinite where anything is not finite, so that NaN never passes, and where ref is zero but
    out is not. Two empty tensors agree.
    """
    if out.shape != ref.shape:
        raise AssertionError(f"shape {list(out.shape)} against {list(ref.shape)}")
    out, ref = out.detach().double().cpu(), ref.detach().double().cpu()
    if not (torch.isfinite(out).all() and torch.isfinite(ref).all()):
        return math.inf
    difference, size = float((out - ref).norm()), float(ref.norm())
    if difference == 0:
        return 0.0
    return difference / size if size > 0 else math.inf


def generator_of(text: str) -> torch.Generator:
    """A generator seeded by a name: every case has numbers of its own, the same each run."""
    return torch.Generator().manual_seed(zlib.crc32(text.encode()))


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values with other strides.

    `cut` takes every second element of a larger tensor full of NaN, so that reading beside
    the view shows; `transposed` has the last axis slowest; `shifted` is contiguous and begins
    one element behind a multiple of 16 bytes, so that no access of 16 bytes fits; `part` lies in
    a tensor of NaN that is longer along every axis but the last, whose elements are neighbours.
    """
    if layout == "cut" and tensor.dim():
        larger = tensor.new_full([2 * size + 1 for size in tensor.shape], math.nan)
        view = larger[tuple(slice(1, None, 2) for _ in tensor.shape)]
        return view.copy_(tensor)
    if layout == "part" and tensor.dim() > 1:
        *others, last = tensor.shape
        larger = tensor.new_full([*(size + 1 for size in others), last], math.nan)
        return larger[tuple(slice(size) for size in others)].copy_(tensor)
    if layout == "transposed" and tensor.dim() > 1:
        return tensor.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "shifted":
        larger = tensor.new_full([tensor.numel() + 1], math.nan)
        return larger[1:].view(tensor.shape).copy_(tensor)
    if layout == "channels_last" and tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def dtype_of(op: Op, name: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of one input of an op that is tried in `dtype`."""
    return torch.float32 if dtype in LOW and name in op.wide else dtype


def make_inputs(
    op: Op,
    case: Case,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Inputs:
    """Fresh random inputs of a case, in the order of the op's arguments.

    Biases and taps are rounded to `dtype` before they become float32: an op may cast them, and
    that rounding, which no result can undo, is not what the tests measure.
    """
    inputs: Inputs = {}
    for name, shape in op.shapes(case.sizes).items():
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        values = (values * op.scale(name, shape)).to(dtype if name in ("bias", "filter") else None)
        values = values.to(device, dtype_of(op, name, dtype))
        inputs[name] = None if name in case.absent else laid_out(values, case.layout)
    return inputs


def differentiable(op: Op, inputs: Inputs) -> list[str]:
    """The names of the inputs that are given and have a gradient."""
    return [n for n, t in inputs.items() if t is not None and n not in op.constant]


def to_float64(inputs: Inputs) -> Inputs:
    """Copies for the oracle, plain in memory."""
    return {n: None if t is None else t.detach().cpu().double() for n, t in inputs.items()}


# ---------------------------------------------------------------- cases

LRELU = {"activation": "lrelu", "gain": math.sqrt(2)}
CLAMPED = {"activation": "lrelu", "gain": math.sqrt(2), "clamp": 1.0}
SIREN = {"activation": "sine"}
OTHERS = ("relu", "gelu", "tanh", "sigmoid", "softplus", "swish", "elu", "selu")


def _case(name: str, options: dict[str, Any] | None = None, /, **sizes: Any) -> Case:
    extra = {k: sizes.pop(k) for k in ("absent", "layout", "low") if k in sizes}
    return Case(name, sizes, dict(options or {}), **extra)


BIAS_ACT = Op(
    ops.bias_act,
    INPUTS["bias_act"],
    oracles.bias_act,
    (
        _case("plain", shape=(2, 6, 5, 7)),
        _case("lrelu", LRELU, shape=(2, 31, 3, 5)),
        _case("lrelu_clamp_channels_last", CLAMPED, shape=(2, 32, 4, 3), layout="channels_last"),
        _case("lrelu_steep_no_bias", {"activation": "lrelu", "alpha": 1.7, "gain": 0.6},
              shape=(2, 33, 3), absent=("bias",)),
        _case("negative_gain", {"activation": "lrelu", "gain": -0.8, "clamp": 0.9}, shape=(3, 8)),
        _case("negative_slope", {"activation": "lrelu", "alpha": -0.5}, shape=(3, 8, 2)),
        _case("linear_clamp_no_bias", {"gain": 0.7, "clamp": 0.6}, shape=(4, 9), absent=("bias",)),
        _case("one_pixel", LRELU, shape=(1, 1, 1, 1)),
        _case("channels_last_axis_cut", LRELU | {"dim": -1}, shape=(2, 3, 5, 9), dim=-1,
              layout="cut"),
        _case("channels_first_axis", {"activation": "tanh", "dim": 0}, shape=(7, 3, 2), dim=0),
        _case("vector", {"activation": "gelu", "dim": 0}, shape=(17,), dim=0),
        _case("transposed", {"activation": "swish", "clamp": 0.7}, shape=(3, 4, 5),
              layout="transposed"),
        _case("siren", SIREN, shape=(2, 8, 5), low=False),
        _case("slow_sine", {"activation": "sine", "alpha": 1.5}, shape=(2, 8, 5)),
        *(_case(f"{name}_gain_clamp", {"activation": name, "gain": 1.2, "clamp": 1.1},
                shape=(3, 5, 4)) for name in OTHERS),
        _case("unaligned", CLAMPED, shape=(2, 24, 5, 4), layout="shifted"),
        # One number a thread and more numbers than 1,024 blocks have threads.
        _case("planes_beyond_a_full_grid", LRELU, shape=(3, 5, 133, 133), layout="shifted",
              low=False),
        _case("rows_beyond_a_full_grid", LRELU, shape=(6630, 40), layout="shifted", low=False),
        _case("no_videos", LRELU, shape=(0, 5, 4, 4)),
        _case("no_channels", LRELU, shape=(3, 0, 4)),
        _case("no_pixels", LRELU, shape=(3, 5, 0, 4)),
    ),
    wide=frozenset({"bias"}),
    pre_activation=oracles.bias_act_sum,
)  # fmt: skip


FIR_RESAMPLE = Op(
    ops.fir_resample,
    INPUTS["fir_resample"],
    oracles.fir_resample,
    (
        _case("filter_only", {"padding": [2, 1, 2, 1]}, shape=(2, 3, 9, 11), filter=(4,)),
        _case("up2_gain4", {"up": 2, "padding": [2, 1, 2, 1], "gain": 4.0}, shape=(2, 3, 5, 6),
              filter=(4,)),
        _case("down2_channels_last", {"down": 2, "padding": 1}, shape=(2, 8, 8, 6), filter=(4,),
              layout="channels_last"),
        _case("up3_down2_odd_sizes", {"up": 3, "down": 2, "padding": 2}, shape=(1, 2, 7, 5),
              filter=(5,)),
        _case("all_different_cut",
              {"up": [2, 3], "down": [3, 1], "padding": [3, 1, 0, 2], "gain": 1.7},
              shape=(2, 3, 6, 5), filter=(2, 3), layout="cut"),
        _case("two_paddings_flip", {"padding": [1, 3], "flip_filter": True}, shape=(1, 2, 5, 4),
              filter=(3, 2)),
        _case("separable_flip", {"down": [1, 2], "padding": 2, "flip_filter": True},
              shape=(2, 2, 5, 6), filter=(3,), layout="transposed"),
        _case("crop", {"padding": [-1, 2, -2, -1]}, shape=(2, 2, 8, 7), filter=(2, 2)),
        _case("crop_more_than_the_image", {"padding": [0, 2, 3, -3]}, shape=(1, 2, 2, 3),
              filter=(2,)),
        _case("negative_gain_separable", {"gain": -0.5, "padding": 1}, shape=(1, 2, 4, 4),
              filter=(3,)),
        _case("no_filter_down2_gain", {"down": 2, "gain": 0.3}, shape=(2, 3, 9, 11), filter=(1,),
              absent=("filter",)),
        _case("identity", shape=(2, 3, 4, 5), filter=(1,), absent=("filter",)),
        _case("one_pixel", {"up": 2, "padding": [2, 1, 2, 1]}, shape=(1, 1, 1, 1), filter=(4,)),
        _case("uneven_down_loses_a_row", {"down": 3}, shape=(1, 2, 10, 11), filter=(3, 3)),
        # Tiles of 32 x 32 outputs, whole ones and cut ones.
        _case("tiles_up2", {"up": 2, "padding": [2, 1, 2, 1], "gain": 4.0}, shape=(1, 2, 19, 18),
              filter=(4,)),
        _case("tiles_down2_of_a_part", {"down": 2, "padding": 1}, shape=(2, 1, 70, 67),
              filter=(4,), layout="part"),
        _case("tiles_unaligned", {"padding": [3, 1, 0, 2]}, shape=(1, 2, 34, 33), filter=(3, 5),
              layout="shifted"),
        _case("several_blocks_channels_last", {"padding": [2, 1, 2, 1]}, shape=(2, 24, 9, 23),
              filter=(4,), layout="channels_last"),
        # 1,056 taps, and a block's table holds 1,024.
        _case("more_taps_than_the_table", shape=(1, 2, 34, 34), filter=(33, 32), low=False),
        _case("no_images", {"up": 2, "padding": 2}, shape=(0, 3, 4, 4), filter=(4,)),
        _case("no_rows", {"up": 2, "padding": 2}, shape=(2, 3, 0, 4), filter=(4,)),
        _case("no_columns", {"padding": 2}, shape=(2, 3, 4, 0), filter=(4, 3)),
        _case("no_channels", {"down": 2, "padding": 1}, shape=(2, 0, 4, 4), filter=(4,)),
    ),
    wide=frozenset({"filter"}),
    constant=frozenset({"filter"}),
)  # fmt: skip

FACTORIZED_MODULATION = Op(
    ops.factorized_modulation,
    INPUTS["factorized_modulation"],
    oracles.factorized_modulation,
    (
        _case("demodulated", B=2, O=8, I=6, R=3),
        _case("not_demodulated", {"demodulate": False}, B=2, O=8, I=6, R=3),
        _case("rank_1", B=3, O=5, I=7, R=1),
        # One by one demodulated is a sign, and a sign has no gradient to compare.
        _case("one_by_one", {"demodulate": False}, B=1, O=1, I=1, R=1),
        _case("one_output", B=1, O=1, I=2, R=1),
        _case("below_a_warp", B=1, O=31, I=33, R=10),
        _case("a_warp_cut", B=2, O=32, I=32, R=10, layout="cut"),
        _case("above_a_warp_transposed", B=2, O=33, I=31, R=4, layout="transposed"),
        _case("to_rgb", {"demodulate": False}, B=2, O=3, I=64, R=3),
        _case("unaligned", B=2, O=5, I=8, R=4, layout="shifted"),
        # Ranks are taken 16 at a time, rows of up to 1,024 numbers at once.
        _case("seventeen_ranks", B=2, O=6, I=8, R=17),
        _case("thirty_five_ranks", B=1, O=9, I=7, R=35),
        _case("rows_longer_than_a_block", B=1, O=5, I=1028, R=3),
        _case("long_rows_of_many_ranks", {"demodulate": False}, B=1, O=3, I=259, R=18),
        _case("no_videos", B=0, O=4, I=3, R=2),
        _case("no_outputs", B=2, O=0, I=3, R=2),
        _case("no_inputs", B=2, O=4, I=0, R=2),
    ),
    low=False,
)

_ROWS = {"B": 2, "I": 16, "O": 8}
MODULATED_LINEAR = Op(
    ops.modulated_linear,
    INPUTS["modulated_linear"],
    oracles.modulated_linear,
    (
        _case("plain", **_ROWS, rows=(2, 3, 5), absent=("bias",)),
        _case("lrelu", LRELU, **_ROWS, rows=(2, 4, 4)),
        _case("lrelu_clamp", CLAMPED, **_ROWS, rows=(3, 4, 5)),
        _case("below_a_warp", LRELU, B=2, I=31, O=33, rows=(1, 5, 7)),
        _case("a_warp_cut", CLAMPED, B=2, I=32, O=32, rows=(2, 3, 5), layout="cut"),
        _case("above_a_warp_transposed", LRELU, B=3, I=33, O=31, rows=(11,), layout="transposed"),
        _case("unaligned", LRELU, B=2, I=16, O=8, rows=(5, 3), layout="shifted"),
        _case("to_rgb_linear_clamp", {"gain": 0.7, "clamp": 1.3}, B=2, I=64, O=3, rows=(1, 4, 4)),
        _case("one_pixel", LRELU, B=1, I=1, O=1, rows=(1, 1, 1), low=False),
        _case("no_row_axis", LRELU, B=3, I=8, O=7, rows=()),
        _case("relu", {"activation": "relu", "gain": 1.4}, **_ROWS, rows=(9,)),
        _case("lrelu_flat", {"activation": "lrelu", "alpha": 0.0}, **_ROWS, rows=(9,)),
        _case("negative_gain", {"activation": "lrelu", "gain": -1.3, "clamp": 1.5}, **_ROWS,
              rows=(9,)),
        _case("negative_slope_no_bias", {"activation": "lrelu", "alpha": -0.3}, **_ROWS, rows=(9,),
              absent=("bias",)),
        _case("negative_gain_linear", {"gain": -0.7}, **_ROWS, rows=(9,)),
        _case("siren", SIREN, **_ROWS, rows=(7,), low=False),
        _case("slow_sine", {"activation": "sine", "alpha": 1.5, "clamp": 0.9}, **_ROWS, rows=(7,)),
        _case("gelu", {"activation": "gelu", "gain": 1.7}, **_ROWS, rows=(2, 7)),
        _case("softplus_no_bias", {"activation": "softplus"}, **_ROWS, rows=(7,), absent=("bias",)),
        # The edges of tiles: 64 x 64, and 128 x 256 for 16 bits, in all three products; more of
        # the large ones are in tests/emulation/extra_cases.py.
        *(_case(f"tiles_of_{n}", CLAMPED if n % 8 else LRELU, B=2, I=n, O=n, rows=(n,))
          for n in (63, 64, 65, 72)),
        _case("beside_chunks", LRELU, B=1, I=136, O=132, rows=(70,)),
        _case("unaligned_tiles", LRELU, B=1, I=72, O=80, rows=(66,), layout="shifted"),
        _case("large_tiles_cut", CLAMPED, B=2, I=136, O=136, rows=(5, 13), layout="cut"),
        _case("large_tiles_gelu", {"activation": "gelu", "clamp": 0.9}, B=2, I=136, O=136,
              rows=(66,)),
        # More than 16 slices of rows are split where there are few blocks.
        _case("parts_of_rows", LRELU, B=1, I=16, O=8, rows=(10, 103)),
        _case("parts_of_rows_unaligned", CLAMPED, B=2, I=9, O=7, rows=(550,)),
        # The form for few outputs: more inputs than a block has weights, or pieces of a row.
        _case("one_output", LRELU, B=1, I=1040, O=1, rows=(129,)),
        _case("two_outputs_long_rows", {"activation": "relu"}, B=1, I=1031, O=2, rows=(5, 3)),
        _case("three_outputs_long_rows", {"activation": "gelu"}, B=2, I=1048, O=3, rows=(17,)),
        _case("four_outputs_long_rows", CLAMPED, B=1, I=2064, O=4, rows=(18,), absent=("bias",)),
        _case("four_outputs_cut", CLAMPED, B=2, I=20, O=4, rows=(131,), layout="cut"),
        _case("five_outputs", LRELU, B=1, I=136, O=5, rows=(131,)),
        _case("no_videos", LRELU, B=0, I=4, O=3, rows=(2, 3)),
        _case("no_rows", {"activation": "gelu"}, B=2, I=4, O=3, rows=(2, 0, 3)),
        _case("no_inputs", LRELU, B=2, I=0, O=3, rows=(2, 3), low=False),
        _case("no_outputs", LRELU, B=2, I=3, O=0, rows=(2, 3), low=False),
    ),
    wide=frozenset({"bias"}),
    scale=lambda name, shape: shape[-1] ** -0.5 if name == "weight" and shape[-1] else 1.0,
    pre_activation=oracles.modulated_sum,
)  # fmt: skip


def _grid_scale(name: str, shape: tuple[int, ...]) -> float:
    return {"freq": 3.0, "phase": 2.0, "y": 0.7, "x": 0.7, "coords": 0.7}.get(name, 1.0)


FOURIER_FEATURES = Op(
    ops.fourier_features,
    INPUTS["fourier_features"],
    oracles.fourier_features,
    (
        _case("plain", B=2, T=3, H=4, W=5, F=8),
        _case("one_frame_below_a_warp", B=2, T=1, H=5, W=3, F=31),
        _case("a_warp_cut", B=1, T=2, H=3, W=7, F=32, layout="cut"),
        _case("above_a_warp_transposed", B=2, T=2, H=3, W=2, F=33, layout="transposed"),
        _case("one_pixel", B=1, T=1, H=1, W=1, F=1),
        _case("one_row", B=2, T=2, H=1, W=9, F=4),
        _case("one_column", B=2, T=2, H=9, W=1, F=4),
        _case("unaligned", B=1, T=2, H=3, W=4, F=8, layout="shifted"),
        _case("several_blocks_of_columns", B=1, T=1, H=5, W=130, F=32),
        _case("several_blocks_of_rows", B=2, T=2, H=13, W=3, F=8),
        _case("several_blocks_of_frequencies", B=1, T=1, H=2, W=3, F=296),
        _case("no_videos", B=0, T=2, H=3, W=4, F=5),
        _case("no_frames", B=2, T=0, H=3, W=4, F=5),
        _case("no_rows", B=2, T=2, H=0, W=4, F=5),
        _case("no_columns", B=2, T=2, H=3, W=0, F=5),
        _case("no_frequencies", B=2, T=2, H=3, W=4, F=0),
    ),
    wide=frozenset({"freq", "phase", "y", "x"}),
    scale=_grid_scale,
    has_dtype=True,
)

FOURIER_FEATURES_AT = Op(
    ops.fourier_features_at,
    INPUTS["fourier_features_at"],
    oracles.fourier_features_at,
    (
        _case("on_a_line", B=2, N=11, F=8, d=1),
        _case("in_the_plane", B=2, N=9, F=31, d=2),
        _case("in_space_cut", B=2, N=7, F=32, d=3, layout="cut"),
        _case("in_space_time_transposed", B=3, N=5, F=33, d=4, layout="transposed"),
        _case("one_point", B=1, N=1, F=1, d=2),
        _case("unaligned", B=2, N=5, F=8, d=2, layout="shifted"),
        _case("several_blocks_of_points", B=2, N=300, F=8, d=2),
        _case("several_blocks_of_frequencies", B=1, N=5, F=296, d=3),
        _case("no_videos", B=0, N=4, F=5, d=3),
        _case("no_points", B=2, N=0, F=5, d=3),
        _case("no_frequencies", B=2, N=3, F=0, d=2),
    ),
    wide=frozenset({"freq", "phase", "coords"}),
    scale=_grid_scale,
    has_dtype=True,
)

_GRID = {"B": 2, "T": 3, "H": 4, "W": 6, "F": 8, "O": 7}
COORD_LINEAR = Op(
    ops.coord_linear,
    INPUTS["coord_linear"],
    oracles.coord_linear,
    (
        _case("plain", **_GRID, absent=("bias", "skip")),
        _case("bias_skip", **_GRID),
        _case("lrelu_skip", LRELU, **_GRID, absent=("bias",)),
        _case("lrelu_bias", LRELU, **_GRID, absent=("skip",)),
        _case("lrelu_clamp", CLAMPED, **_GRID),
        _case("one_frame_below_a_warp", LRELU, B=2, T=1, H=3, W=5, F=31, O=33, absent=("skip",)),
        _case("a_warp_cut", CLAMPED, B=1, T=2, H=4, W=2, F=32, O=32, layout="cut"),
        _case("above_a_warp_transposed", LRELU, B=2, T=2, H=2, W=4, F=33, O=31,
              layout="transposed"),
        _case("unaligned", LRELU, **_GRID, layout="shifted"),
        # The relative error of one number is luck, hence not in low precision.
        _case("one_pixel", LRELU, B=1, T=1, H=1, W=1, F=1, O=1, absent=("skip",), low=False),
        _case("one_cell_of_skip", LRELU, B=1, T=1, H=2, W=2, F=4, O=3),
        _case("negative_gain", {"activation": "lrelu", "gain": -1.3, "clamp": 1.5}, **_GRID),
        _case("siren", SIREN, **_GRID, low=False),
        _case("gelu", {"activation": "gelu", "gain": 1.7}, **_GRID),
        _case("sigmoid_clamp_no_bias", {"activation": "sigmoid", "clamp": 0.6}, **_GRID,
              absent=("bias",)),
        # The edges of tiles: 8 x 8 pixels by 64 channels, and 8 x 16 by 256 for 16 bits; more of
        # the large ones are in tests/emulation/extra_cases.py.
        _case("below_small_tiles", LRELU, B=1, T=2, H=7, W=7, F=31, O=63, absent=("skip",)),
        _case("at_small_tiles", CLAMPED, B=1, T=1, H=8, W=8, F=32, O=64),
        _case("above_small_tiles", LRELU, B=2, T=1, H=10, W=10, F=33, O=65),
        _case("in_chunks", CLAMPED, B=1, T=2, H=9, W=11, F=40, O=72, absent=("skip",)),
        _case("beside_chunks", LRELU, B=1, T=1, H=10, W=6, F=12, O=68),
        _case("unaligned_tiles", LRELU, B=1, T=1, H=8, W=10, F=40, O=72, layout="shifted"),
        _case("large_tiles_cut", CLAMPED, B=1, T=1, H=10, W=14, F=72, O=136, layout="cut"),
        _case("large_tiles_gelu", {"activation": "gelu", "clamp": 0.9}, B=1, T=1, H=6, W=18, F=72,
              O=136, absent=("bias",)),
        # More than 16 slices of pixels are split where there are few blocks.
        _case("parts_of_rows", LRELU, B=1, T=3, H=20, W=18, F=8, O=8),
        _case("parts_of_rows_unaligned", CLAMPED, B=2, T=2, H=18, W=22, F=5, O=9),
        _case("no_videos", LRELU, B=0, T=2, H=4, W=2, F=3, O=5),
        _case("no_frames", LRELU, B=2, T=0, H=4, W=2, F=3, O=5),
        _case("no_columns", LRELU, B=2, T=2, H=4, W=0, F=3, O=5),
        _case("no_outputs", LRELU, B=2, T=2, H=4, W=2, F=3, O=0),
        _case("no_frequencies", LRELU, B=2, T=2, H=4, W=2, F=0, O=5, low=False),
    ),
    wide=frozenset({"freq", "phase", "y", "x", "bias"}),
    scale=lambda name, shape: (
        shape[-1] ** -0.5 if name == "weight" and shape[-1] else _grid_scale(name, shape)
    ),
    pre_activation=oracles.coord_sum,
)  # fmt: skip

OPS: dict[str, Op] = {
    op.name: op
    for op in (
        BIAS_ACT,
        COORD_LINEAR,
        FACTORIZED_MODULATION,
        FIR_RESAMPLE,
        FOURIER_FEATURES,
        FOURIER_FEATURES_AT,
        MODULATED_LINEAR,
    )
}
