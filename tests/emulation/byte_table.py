"""Bytes that the kernels move, counted by the emulator beside what their designs promise.

python -m tests.emulation.byte_table         prints the table of docs/performance.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.emulation import byte_formulas, linear_bytes
from tests.emulation.build import emulated
from tests.emulation.byte_formulas import Moved, size_of
from tests.emulation.linear_bytes import Multiplied
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import (
    CLAMPED,
    LRELU,
    Case,
    Op,
    differentiable,
    generator_of,
    laid_out,
    make_inputs,
)

FORMULAS = {**byte_formulas.FORMULAS, **linear_bytes.FORMULAS}

_IMAGES = {"shape": (2, 64, 32, 32)}
_ODD_IMAGES = {"shape": (2, 13, 37, 41)}
_DOWN = {"down": 2, "padding": 1}
_GRID = {"B": 2, "T": 2, "H": 16, "W": 32, "F": 64}
_ODD_GRID = {"B": 1, "T": 3, "H": 13, "W": 27, "F": 37}
# Sizes as training has them but smaller, and odd ones.
TABLE = {
    "bias_act": (
        Case("channels_last", _IMAGES, CLAMPED, layout="channels_last"),
        Case("odd_planes", _ODD_IMAGES, LRELU),
    ),
    "fir_resample": (
        Case("channels_last", {**_IMAGES, "filter": (4,)}, _DOWN, layout="channels_last"),
        Case("odd_planes", {**_ODD_IMAGES, "filter": (4,)}, {"padding": [2, 1, 2, 1]}),
    ),
    "factorized_modulation": (
        Case("square", {"B": 4, "O": 128, "I": 256, "R": 10}),
        Case("odd", {"B": 3, "O": 37, "I": 131, "R": 10}),
    ),
    "modulated_linear": (
        Case("layer", {"B": 1, "I": 128, "O": 256, "rows": (2, 16, 16)}, CLAMPED),
        Case("to_rgb", {"B": 2, "I": 256, "O": 3, "rows": (2, 16, 16)}, {"clamp": 4.0}),
        Case("odd", {"B": 2, "I": 37, "O": 75, "rows": (3, 7, 9)}, LRELU),
    ),
    "coord_linear": (
        Case("layer", {"B": 1, "T": 2, "H": 16, "W": 16, "F": 128, "O": 256}, CLAMPED),
        Case("odd", {"B": 2, "T": 3, "H": 6, "W": 10, "F": 37, "O": 75}, LRELU),
    ),
    "fourier_features": (Case("even", _GRID), Case("odd", _ODD_GRID)),
    "fourier_features_at": (
        Case("even", {"B": 2, "N": 512, "F": 64, "d": 3}),
        Case("odd", {"B": 1, "N": 333, "F": 37, "d": 2}),
    ),
    "frames_to_uint8": (
        Case("frames", {"shape": (1, 8, 32, 32, 3)}),
        Case("odd_frames", {"shape": (2, 3, 37, 41, 3)}),
    ),
}


@dataclass(frozen=True)
class Call:
    """One call of a schema op with everything that it launched."""

    name: str
    arguments: dict[str, Any]
    results: list[Tensor]
    launches: list[dict[str, Any]] = field(repr=False)

    @property
    def needed(self) -> int:
        """Every input read and every result written, once."""
        inputs = [a for a in self.arguments.values() if isinstance(a, Tensor)]
        return sum(map(size_of, (*inputs, *self.results)))

    @property
    def counted(self) -> list[tuple[int, int]]:
        """Written and read by each launch."""
        return [(e["global_write_bytes"], e["global_read_bytes"]) for e in self.launches]

    def calculated(self) -> list[Moved]:
        """The same from the design."""
        return FORMULAS[self.name](self.arguments, self.results, self.launches)

    def differences(self) -> list[str]:
        """What was counted, but calculated otherwise: bytes, copies and matrix instructions."""
        found, calculated = [], self.calculated()
        if len(calculated) != len(self.launches):
            found.append(f"{len(self.launches)} launches, {len(calculated)} calculated")
        for record, moved in zip(self.launches, calculated, strict=False):
            multiplied = isinstance(moved, Multiplied)
            expected = {
                "global_write_bytes": moved.written,
                "global_read_bytes": moved.reads,
                "async_copy_bytes": moved.copied if multiplied else 0,
                "matrix_products": moved.products if multiplied else 0,
            }
            kernel = record["kernel"]
            found += [
                f"{kernel}: {name} {record[name]}, calculated {value}"
                for name, value in expected.items()
                if record[name] != value
            ]
        return found


class CountedCalls(TorchDispatchMode):
    """Keeps the calls of the package's schema ops, with the launches of each."""

    def __init__(self, controls: Any) -> None:
        super().__init__()
        self.controls = controls
        self.calls: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace != "digan":
            return func(*args, **(kwargs or {}))
        before = len(self.controls.launches())
        result = func(*args, **(kwargs or {}))
        names = [argument.name for argument in func._schema.arguments]
        self.calls.append(
            Call(
                func._schema.name.removeprefix("digan::"),
                dict(zip(names, args, strict=True)),
                list(result) if isinstance(result, tuple) else [result],
                self.controls.launches()[before:],
            )
        )
        return result


def count(op: Op, case: Case, dtype: torch.dtype) -> list[Call]:
    """The op and its gradients on the emulator: the calls forward and backward."""
    inputs = make_inputs(op, case, generator_of(f"bytes {op.name} {case.name}"), dtype)
    names = differentiable(op, inputs)
    leaves = {
        n: None if t is None else t.detach().requires_grad_(n in names) for n, t in inputs.items()
    }
    more = {"dtype": dtype} if op.has_dtype else {}
    with emulated(seed=1) as controls, CountedCalls(controls) as counted:
        out = op.function(**leaves, **case.options, **more)
        if not names:
            return counted.calls
        cotangent = torch.randn(out.shape, dtype=torch.float64, generator=generator_of("dy"))
        wanted: list[Any] = [leaves[n] for n in names]
        torch.autograd.grad(out, wanted, laid_out(cotangent.to(out), case.layout))
    return counted.calls


def table_calls(odd: bool = True) -> Iterator[tuple[Op, Case, torch.dtype, Call]]:
    """Every call at the sizes above, with the odd ones or without."""
    for name, cases in TABLE.items():
        for case in cases if odd else [c for c in cases if not c.name.startswith("odd")]:
            dtypes = (torch.float32, torch.bfloat16)
            for dtype in dtypes[: 1 if name == "factorized_modulation" else 2]:
                for call in count(ALL_OPS[name], case, dtype):
                    yield ALL_OPS[name], case, dtype, call


def from_memory(call: Call) -> int:
    """Bytes written, and those at different addresses that each launch reads."""
    return sum(moved.written + moved.distinct for moved in call.calculated())


WORDS = ("op", "sizes", "dtype")
KILOBYTES = ("in and out, once", "written", "read", "of which from caches", "memory / once")


def _row(op: Op, case: Case, dtype: torch.dtype, call: Call, backward: bool) -> str:
    written = sum(w for w, _ in call.counted)
    read = sum(r for _, r in call.counted)
    distinct = sum(moved.distinct for moved in call.calculated())
    sizes = " ".join(
        "x".join(map(str, v)) if isinstance(v, tuple) else f"{k}={v}"
        for k, v in case.sizes.items()
        if k != "filter"
    )
    words = (f"`{op.name}`{' gradients' * backward}", sizes, str(dtype).removeprefix("torch."))
    kilobytes = (call.needed, written, read, read - distinct)
    numbers = (f"{size / 1000:,.0f}" for size in kilobytes)
    return " | ".join((*words, *numbers, f"{from_memory(call) / call.needed:.2f}"))


def table() -> list[str]:
    """The lines of the table, in kilobytes.

    Raises:
        AssertionError: what is counted is not what is calculated.
    """
    lines = [
        f"| {' | '.join((*WORDS, *KILOBYTES))} |",
        "|" + "---|" * len(WORDS) + "---:|" * len(KILOBYTES),
    ]
    before = None
    for op, case, dtype, call in table_calls(odd=False):
        calculated = [(moved.written, moved.reads) for moved in call.calculated()]
        assert call.counted == calculated, f"{call.name}: counted and calculated differ"
        lines.append(f"| {_row(op, case, dtype, call, before == (op, dtype))} |")
        before = (op, dtype)
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
