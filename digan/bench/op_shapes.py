"""The inputs of every op by its sizes: one definition for the tests' cases and the benchmark's.

Sizes: B videos, T frames, H rows, W columns, F frequencies, I and O channels, R rank, N points,
d coordinates; `rows` are the axes between the first and the last, `shape` is a whole shape; `skip`
is False for a coord_linear without one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Shapes = dict[str, tuple[int, ...]]


def _grid(s: dict[str, Any]) -> Shapes:
    return {
        "freq": (s["B"], s["F"], 2),
        "phase": (s["B"], s["T"], s["F"]),
        "y": (s["H"],),
        "x": (s["W"],),
    }


INPUTS: dict[str, Callable[[dict[str, Any]], Shapes]] = {
    "fourier_features": _grid,
    "fourier_features_at": lambda s: {
        "freq": (s["B"], s["F"], s["d"]),
        "phase": (s["B"], s["F"]),
        "coords": (s["B"], s["N"], s["d"]),
    },
    "factorized_modulation": lambda s: {
        "weight": (s["O"], s["I"]),
        "left": (s["B"], s["O"], s["R"]),
        "right": (s["B"], s["R"], s["I"]),
    },
    "modulated_linear": lambda s: {
        "x": (s["B"], *s["rows"], s["I"]),
        "weight": (s["B"], s["O"], s["I"]),
        "bias": (s["O"],),
    },
    "coord_linear": lambda s: {
        **_grid(s),
        "weight": (s["B"], s["O"], 2 * s["F"]),
        "bias": (s["O"],),
        **(
            {"skip": (s["B"], s["T"], s["H"] // 2, s["W"] // 2, s["O"])}
            if s.get("skip", True)
            else {}
        ),
    },
    "bias_act": lambda s: {"x": s["shape"], "bias": (s["shape"][s.get("dim", 1)],)},
    "frames_to_uint8": lambda s: {"frames": s["shape"]},
    "fir_resample": lambda s: {"x": s["shape"], "filter": s["filter"]},
}
