"""The arithmetics of the linear ops' kernels, and runs of both ops in each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.emulation.build import emulated
from tests.emulation.byte_table import Call, CountedCalls
from tests.op_cases import Case, Inputs, Op, make_inputs
from tests.ops import checks

TF32_WIDTH = 1e-2  # of kinks, where roundings decide the slope
TF32_ERROR = 1e-3


@dataclass(frozen=True)
class Kind:
    """A number type, and whether PyTorch's setting allows tf32."""

    name: str
    dtype: torch.dtype
    tf32: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def has_tensor_cores(self) -> bool:
        return self.tf32 or self.dtype in (torch.bfloat16, torch.float16)

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """PyTorch's setting as this kind needs it."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


BF16 = Kind("bfloat16", torch.bfloat16)
F16 = Kind("float16", torch.float16)
TF32 = Kind("tf32", torch.float32, tf32=True)
F32 = Kind("float32", torch.float32)
F64 = Kind("float64", torch.float64)
TENSOR_CORES = (BF16, F16, TF32)
KINDS = (*TENSOR_CORES, F32, F64)


@dataclass(frozen=True)
class Run:
    """Output and gradients of a case, and its launches."""

    found: dict[str, Tensor]
    launches: list[dict[str, Any]]

    def of(self, kernel: str) -> list[dict[str, Any]]:
        """The launches of a kernel."""
        return [r for r in self.launches if r["kernel"].split("<")[0] == f"{kernel}_kernel"]


def run(
    op: Op,
    case: Case,
    kind: Kind,
    seed: int = 0,
    inputs: Inputs | None = None,
    hopper: bool = False,
) -> Run:
    """On the emulator, with given inputs or with the case's own."""
    if inputs is None:
        inputs = make_inputs(op, case, checks.generator_of(f"run {case.name}"), kind.dtype)
    cotangent = checks.draw_cotangent(op, case, inputs, kind.dtype)
    with emulated(seed, hopper=hopper) as controls, kind.allowed():
        found = checks.gradients(
            lambda leaves: checks.call(op, case, leaves), op, inputs, cotangent
        )
        return Run(found, controls.launches())


def check_right(op: Op, case: Case, kind: Kind, seed: int = 0, hopper: bool = False) -> list[Call]:
    """Against the float64 oracle; returns the calls, forward and backward."""
    widths = dict(checks._KINK_WIDTH)
    with (
        emulated(seed, hopper=hopper) as controls,
        kind.allowed(),
        CountedCalls(controls) as counted,
    ):
        try:
            if kind.tf32:
                checks._KINK_WIDTH[torch.float32] = TF32_WIDTH
            tolerance = TF32_ERROR if kind.tf32 else None
            checks.check_gradients(op, case, kind.dtype, checks.DISPATCHED, tolerance)
        except AssertionError as error:
            raise AssertionError(f"{kind}: {error}; {controls.last_report()}") from None
        finally:
            checks._KINK_WIDTH.update(widths)
    return counted.calls
