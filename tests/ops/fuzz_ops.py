"""What is called at random: every public op, its shapes as a table, and networks of ops.

`fits` says of a call's shapes what the ops' docstrings say, by other means than the ops.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from digan import ops
from tests import chain_cases
from tests.chain_cases import ChainCase
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import Case, Op

# One letter an axis; a letter is one size in all inputs, `*` any axes, a digit itself.
_GRID = {"freq": "BF2", "phase": "BTF", "y": "H", "x": "W"}
PATTERNS: dict[str, dict[str, str]] = {
    "factorized_modulation": {"weight": "OI", "left": "BOR", "right": "BRI"},
    "fourier_features": _GRID,
    "fourier_features_at": {"freq": "BFd", "phase": "BF", "coords": "BNd"},
    "modulated_linear": {"x": "B*I", "weight": "BOI", "bias": "O"},
    "coord_linear": {**_GRID, "weight": "BOE", "bias": "O", "skip": "BThwO"},
    "coord_chain": {**_GRID, "weight": "BCE", "hidden": "BLCC", "bias": "MC", "rgb_weight": "BR3C",
                    "rgb_bias": "R3", "skip": "BThwC", "image": "BTij3", "onward": "BoC"},
    "frames_to_uint8": {"frames": "*"},
    "fir_resample": {"x": "NCHW"},
    "bias_act": {"x": "*"},
    "coord_mlp": {"codes": "BD"},
    "coord_mlp_on_grid": {"y": "H", "x": "W", "codes": "BD"},
}  # fmt: skip


def fits(name: str, inputs: dict[str, Any], options: dict[str, Any]) -> bool:
    """Whether the shapes are allowed."""
    sizes: dict[str, int] = {}
    given = {n: t for n, t in inputs.items() if isinstance(t, Tensor)}
    for argument, pattern in PATTERNS[name].items():
        if argument not in given:
            continue
        before, star, behind = pattern.partition("*")
        shape = tuple(given[argument].shape)
        if len(shape) < len(before + behind) or (not star and len(shape) != len(pattern)):
            return False
        ends = shape[len(shape) - len(behind) :] if behind else ()
        for letter, size in zip(before + behind, (*shape[: len(before)], *ends), strict=True):
            wanted = int(letter) if letter.isdigit() else sizes.setdefault(letter, size)
            if size != wanted:
                return False
    if name == "bias_act" and "bias" in given:
        x, bias = given["x"], given["bias"]
        return tuple(bias.shape) == (x.shape[options.get("dim", 1)],)
    if name.startswith("coord_mlp"):
        return _network_fits(given, options, sizes)
    if "h" in sizes and (2 * sizes["h"], 2 * sizes["w"]) != (sizes["H"], sizes["W"]):
        return False
    if "E" in sizes and sizes["E"] != 2 * sizes["F"]:
        return False
    return _chain_fits(sizes, options) if name == "coord_chain" else sizes.get("R", 1) > 0


def _chain_fits(sizes: dict[str, int], options: dict[str, Any]) -> bool:
    """The rules that tie sizes to one another and to the layers to RGB."""
    below = (sizes.get("h", sizes["H"]), sizes.get("w", sizes["W"]))
    layers = [int(layer) for layer in options["rgb_layers"]]
    return (
        sizes["M"] == sizes["L"] + 1
        and (sizes.get("i", below[0]), sizes.get("j", below[1])) == below
        and len(layers) == sizes["R"] > 0
        and layers == sorted({layer for layer in layers if 0 <= layer <= sizes["L"]})
    )


def _network_fits(given: dict[str, Tensor], options: dict[str, Any], sizes: dict[str, int]) -> bool:
    """The sizes that a network was made for."""
    axis = given.get("coords", given.get("t"))
    shape = () if axis is None else tuple(axis.shape)
    signals = int(options.get("signals", 1))
    if "codes" in given:
        signals = sizes["B"]
        if sizes["D"] != options.get("code_features", 0):
            return False
    elif options.get("code_features", 0):
        return False
    if "coords" not in given:
        return options["coordinates"] == 2 + bool(shape) and (
            len(shape) < 2 or (len(shape) == 2 and shape[0] == signals)
        )
    if not 2 <= len(shape) <= 3 or shape[-1] != options["coordinates"]:
        return False
    return len(shape) == 2 or signals in (1, shape[0])


# ---------------------------------------------------------------- chains


def _shapes_of(sizes: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {n: shape for n, (shape, _) in chain_cases.shapes_of(sizes["chain"]).items()}


def _chain_scale(name: str, shape: tuple[int, ...]) -> float:
    """As in chain_cases, by the shape."""
    fixed = {"freq": 3.0, "phase": 2.0, "y": 0.7, "x": 0.7, "bias": 0.5, "rgb_bias": 0.5}
    if name in ("skip", "image") or not shape or not shape[-1]:
        return 1.0
    return fixed.get(name) or math.sqrt((2 if name in ("hidden", "weight") else 1) / shape[-1])


def _chain(case: ChainCase) -> Case:
    given = {"skip": case.skip, "image": case.image, "onward": case.onward > 0}
    absent = tuple(n for n, there in given.items() if not there)
    return Case(case.name, {"chain": case}, case.options, absent, case.layout)


def _no_oracle(*_: Any, **__: Any) -> Tensor:
    raise AssertionError("random calls are held to the op's formula")


CHAIN = Op(
    ops.coord_chain,
    _shapes_of,
    _no_oracle,
    tuple(
        map(
            _chain,
            (
                *chain_cases.CASES,
                ChainCase("small_skip", (1, 2, 4, 6, 8, 16, 1), (0, 1), 24, True, True, clamp=1.5),
                ChainCase("small_image", (2, 1, 9, 5, 8, 8, 2), (1,), 8, False, True, alpha=-0.3),
                ChainCase("small_skip_alone", (2, 1, 2, 4, 16, 8, 0), (0,), 16, True),
                ChainCase("odd_sizes", (1, 1, 3, 2, 5, 7, 1), (0,), 3, layout="cut"),
            ),
        )
    ),
    wide=frozenset({"freq", "phase", "y", "x", "bias", "rgb_bias", "image"}),
    scale=_chain_scale,
)

# ---------------------------------------------------------------- networks


def _network(like: Any, impl: Any, sizes: dict[str, Any]) -> ops.CoordMLP:
    """Fresh from a seed; in float64 beside such coordinates. Its parameters are fixed."""
    coordinates, out_features = sizes.pop("coordinates"), sizes.pop("out_features")
    network = ops.CoordMLP(
        coordinates, out_features, impl=impl, generator=torch.Generator().manual_seed(5), **sizes
    ).requires_grad_(False)
    wide = isinstance(like, Tensor) and like.dtype == torch.float64
    return network.double() if wide else network


def coord_mlp(
    coords: Any,
    codes: Any = None,
    *,
    coordinates: Any,
    out_features: Any,
    width: Any = 8,
    layers: Any = 1,
    activation: Any = "sine",
    alpha: Any = None,
    first_alpha: Any = None,
    frequencies: Any = 0,
    frequency_scale: Any = 3.0,
    learn_frequencies: Any = False,
    signals: Any = 1,
    code_features: Any = 0,
    rank: Any = 2,
    impl: Any = None,
) -> Tensor:
    """A network made and evaluated at points."""
    sizes = {n: v for n, v in locals().items() if n not in ("coords", "codes", "impl")}
    return _network(coords, impl, sizes)(coords, codes)


def coord_mlp_on_grid(
    y: Any,
    x: Any,
    t: Any = None,
    codes: Any = None,
    *,
    coordinates: Any,
    out_features: Any,
    width: Any = 8,
    layers: Any = 1,
    activation: Any = "sine",
    alpha: Any = None,
    frequencies: Any = 0,
    signals: Any = 1,
    code_features: Any = 0,
    impl: Any = None,
) -> Tensor:
    """A network made and evaluated on a grid."""
    sizes = {n: v for n, v in locals().items() if n not in ("y", "x", "t", "codes", "impl")}
    return _network(y, impl, {**sizes, "rank": 2}).on_grid(y, x, t, codes)


def _points(name: str, d: int, absent: tuple[str, ...] = ("codes",), **options: Any) -> Case:
    sizes = {"B": options.get("signals", 2), "N": 5, "d": d, "D": options.get("code_features", 4)}
    return Case(name, sizes, {"coordinates": d, "out_features": 3, **options}, absent)


POINTS = Op(
    coord_mlp,
    lambda s: {"coords": (s["B"], s["N"], s["d"]), "codes": (s["B"], s["D"])},
    _no_oracle,
    (
        _points("siren", 2),
        _points("on_a_line", 1, activation="gelu", layers=2),
        _points("fourier", 3, frequencies=4, activation="relu"),
        _points("many", 2, signals=3),
        _points("many_fourier", 4, signals=3, frequencies=5, activation="lrelu"),
        _points("codes", 3, (), code_features=4),
        _points("codes_fourier", 2, (), code_features=4, frequencies=8, activation="swish"),
    ),
    low=False,
    scale=lambda name, shape: 0.7,
)


def _axes(name: str, d: int, absent: tuple[str, ...], **options: Any) -> Case:
    sizes = {"B": options.get("signals", 2), "D": options.get("code_features", 4)}
    return Case(name, sizes, {"coordinates": d, "out_features": 2, **options}, absent)


AXES = Op(
    coord_mlp_on_grid,
    lambda s: {"y": (4,), "x": (3,), "t": (2,), "codes": (s["B"], s["D"])},
    _no_oracle,
    (
        _axes("image", 2, ("t", "codes")),
        _axes("video", 3, ("codes",), activation="tanh"),
        _axes("videos_fourier", 3, ("codes",), signals=2, frequencies=8, activation="lrelu"),
        _axes("codes", 3, (), code_features=4),
        _axes("codes_fourier", 3, (), code_features=4, frequencies=4, activation="softplus"),
    ),
    low=False,
    scale=lambda name, shape: 0.7,
)

FUZZED: dict[str, Op] = {op.name: op for op in (*ALL_OPS.values(), CHAIN, POINTS, AXES)}
