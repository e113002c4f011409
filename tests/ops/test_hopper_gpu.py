"""The path for cards of 9.0 on such a card, at sizes that fill it.

The library reads DIGAN_HOPPER once, so that a process of its own runs the ops. What it does is
tried on the emulator too, at sizes that fill that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from tests.emulation.build import ROOT, emulated
from tests.op_cases import CLAMPED, LRELU, OPS, Case
from tests.ops import checks

KERNELS = {
    "coord_linear": {"coord_linear_hopper", "coord_linear_dphase_hopper"},
    "modulated_linear": {
        "modulated_linear_hopper",
        "modulated_linear_dx_hopper",
        "modulated_linear_dweight_hopper",
    },
}
_LAYER = {"B": 4, "I": 512, "O": 512, "rows": (2048,)}
_UNEVEN_LAYER = {"B": 5, "I": 328, "O": 520, "rows": (1999,)}
_GRID = {"B": 2, "T": 2, "H": 64, "W": 64, "F": 256, "O": 512}
_UNEVEN_GRID = {"B": 3, "T": 2, "H": 62, "W": 58, "F": 200, "O": 328}
FILLING = [
    ("modulated_linear", _LAYER, LRELU),
    ("modulated_linear", _UNEVEN_LAYER, CLAMPED),
    ("modulated_linear", _UNEVEN_LAYER, {"activation": "gelu"}),
    ("coord_linear", _GRID, LRELU),
    ("coord_linear", _UNEVEN_GRID, CLAMPED),
    ("coord_linear", _UNEVEN_GRID, {"activation": "gelu"}),
]
SMALL = [
    ("modulated_linear", {"B": 2, "I": 136, "O": 136, "rows": (66,)}, LRELU),
    ("coord_linear", {"B": 1, "T": 2, "H": 6, "W": 14, "F": 72, "O": 136}, CLAMPED),
]


def run_all(
    runs: list[tuple[str, dict, dict]],
    backend: checks.Backend,
    launched: Callable[[Callable[[], None]], list[str]],
) -> dict[str, list[str]]:
    """Every run against float64; op -> the kernels of this path that `launched` saw at work."""
    found: dict[str, set[str]] = {}
    for name, sizes, options in runs:
        for dtype in (torch.bfloat16, torch.float16):
            case = Case("filling", sizes, options)
            names = launched(
                lambda case=case, op=OPS[name], dtype=dtype: checks.check_gradients(
                    op, case, dtype, backend
                )
            )
            own = {
                kernel for kernel in KERNELS[name] if any(f"{kernel}_kernel" in n for n in names)
            }
            found[name] = found.get(name, own) & own  # in each run
    return {name: sorted(kernels) for name, kernels in found.items()}


def on_a_gpu() -> None:
    """The other process: prints what the profiler saw."""

    def launched(work: Callable[[], None]) -> list[str]:
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            work()
            torch.cuda.synchronize()
        return [event.key for event in profile.key_averages()]

    print(json.dumps(run_all(FILLING, checks.Backend("cuda", "fused", "cuda"), launched)))


def test_on_the_emulator() -> None:
    with emulated(hopper=True) as controls:

        def launched(work: Callable[[], None]) -> list[str]:
            controls.clear_launches()
            work()
            return controls.kernels()

        found = run_all(SMALL, checks.DISPATCHED, launched)
    assert {name: set(kernels) for name, kernels in found.items()} == KERNELS


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    """Right on every card; by these kernels on one of 9.0, and by no other."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.ops.test_hopper_gpu import on_a_gpu; on_a_gpu()"],
        cwd=ROOT,
        env={**os.environ, "DIGAN_HOPPER": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = {name: set(kernels) for name, kernels in json.loads(done.stdout).items()}
    is_the_card = torch.cuda.get_device_capability()[0] == 9
    assert found == (KERNELS if is_the_card else {name: set() for name in KERNELS})
