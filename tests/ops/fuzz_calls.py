"""Random calls of the public ops, most of them a little wrong; `fuzzing.py` says what they may do.

A call starts as a case of `fuzz_ops.py` with fresh numbers. A few changes are drawn: of dtypes,
shapes, strides, values, aliases, devices, Python types, options. All of a call follows from its
seed.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.op_cases import Case, Op, generator_of, laid_out, make_inputs
from tests.ops import checks

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
OTHER_DTYPES = (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn)
NO_TENSORS = (None, 1.5, "x", [[1.0]], np.ones((2, 3)), object())
VALUES = (math.nan, math.inf, -math.inf, 1e30, -1e38, 1e-42, 0.0, 300.0)
NUMBERS = (0.0, 1, -1.5, 0.3, 2.5, 1e-300, 1e300, math.inf, -math.inf, math.nan, True, 10**400,
           "1", None, [1.0], 1j, 65504.0, 7e4, 3.4e38, 3.5e38, np.float32(0.5),
           torch.ones(2))  # fmt: skip
INTEGERS = (0, 1, -1, 2, 3, -4, 7, 2**31, 2**63, -(2**63), 10**30, 1.5, "1", None, [], [1], [1, 2],
            [1, 2, 3], [1, 0, 2, 1], [2**40, 0], (1.0, 2.0), True)  # fmt: skip
# Sizes of networks: those that fit into a computer are small here.
COUNTS = (0, 1, 2, 3, 5, -1, 2**31, 2**63, 10**30, 1.5, "1", None, [], True, np.int64(2))
OPTIONS: dict[str, tuple[Any, ...]] = {
    "activation": (*checks.ACTIVATIONS, "", "Relu", "mish", None, 5, ["relu"], b"relu"),
    "alpha": NUMBERS,
    "gain": NUMBERS,
    "clamp": NUMBERS,
    "dim": INTEGERS,
    "up": INTEGERS,
    "down": INTEGERS,
    "padding": INTEGERS,
    "dtype": (*DTYPES, *OTHER_DTYPES, "float32", float, None),
    "demodulate": (True, False, None, 0, "no", 2),
    "flip_filter": (True, False, None, 1, "yes"),
    "tf32": (True, False, None, 1, "yes"),
    "rgb_layers": ([0], [1], [0, 1], (0, 2), [1, 0], [0, 0], [], [-1], [0, 10**30], [2**31], ["0"],
                   [0.0], [None], [[0]], "0", None, 0, [True], range(2), np.arange(2), {0, 1},
                   torch.tensor([0, 1])),
    "coordinates": COUNTS,
    "out_features": COUNTS,
    "width": COUNTS,
    "layers": COUNTS,
    "frequencies": COUNTS,
    "signals": COUNTS,
    "code_features": COUNTS,
    "rank": COUNTS,
    "first_alpha": NUMBERS,
    "frequency_scale": (*NUMBERS, [1.0, 2.0], (1, 2, 3), [], [[1.0]], [None], "ab", {},
                        np.array(3.0)),
    "learn_frequencies": (True, False, None, 1, "yes"),
    "impl": (None, "auto", "reference", "fused", "cuda", "", 1, ["auto"]),
}  # fmt: skip


@dataclass
class Call:
    """A call as it is put together."""

    op: Op
    seed: int
    inputs: dict[str, Any]
    options: dict[str, Any]
    dtype: torch.dtype
    tame: bool = True  # numbers of the size that they have in life
    changes: list[str] = field(default_factory=list)
    wants: set[str] = field(default_factory=set)  # inputs that require a gradient
    autocast: bool = False  # to bfloat16
    inference: bool = False  # PyTorch's inference mode

    def __str__(self) -> str:
        shapes = {n: list(t.shape) if isinstance(t, Tensor) else t for n, t in self.inputs.items()}
        return (f"{self.op.name}, seed {self.seed}: {self.changes}, {shapes}, {self.options}, "
                f"{self.dtype}, gradients of {sorted(self.wants)}, autocast {self.autocast}, "
                f"inference {self.inference}")  # fmt: skip

    def tensors(self) -> dict[str, Tensor]:
        return {n: t for n, t in self.inputs.items() if isinstance(t, Tensor)}


def _is_plain(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.dtype in DTYPES and tensor.layout == torch.strided


def _change_dtype(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    if tensor.layout == torch.strided and not tensor.is_complex():
        call.inputs[name] = tensor.to(rng.choice(DTYPES + OTHER_DTYPES))


def _change_device(call: Call, rng: random.Random) -> None:
    everything = rng.random() < 0.5
    name = rng.choice(list(call.tensors()))
    for other, tensor in call.tensors().items():
        if everything or other == name:
            call.inputs[other] = tensor.to("meta")


def _change_shape(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    shape = list(tensor.shape)
    axis = rng.randrange(len(shape) + 1)
    how = rng.randrange(5)
    if how == 0:
        shape.insert(axis, rng.choice([0, 1, 2]))
    elif shape:
        axis = min(axis, len(shape) - 1)
        if how == 1:
            del shape[axis]
        else:
            shape[axis] = rng.choice([0, 1, shape[axis] + 1, abs(shape[axis] - 1)])
    values = torch.randn(shape, generator=generator_of(f"shape {call.seed}"), dtype=torch.float64)
    call.inputs[name] = values.to(tensor.dtype)


def _change_layout(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    how = rng.choice(["cut", "part", "transposed", "shifted", "channels_last", "expanded", "same"])
    if not _is_plain(tensor):
        return
    if how == "expanded" and tensor.numel() and tensor.dim():
        axis = rng.randrange(tensor.dim())
        call.inputs[name] = tensor.narrow(axis, 0, 1).expand(tensor.shape)
    elif how == "same" and tensor.numel():  # one number for all
        call.inputs[name] = tensor.flatten()[0].expand(tensor.shape)
    else:
        call.inputs[name] = laid_out(tensor, how)


def _change_values(call: Call, rng: random.Random) -> None:
    name, tensor = rng.choice(list(call.tensors().items()))
    if tensor.numel() == 0 or not _is_plain(tensor):
        return
    tensor = tensor.contiguous().clone()
    for _ in range(rng.randrange(1, 4)):
        tensor.view(-1)[rng.randrange(tensor.numel())] = rng.choice(VALUES)
    call.inputs[name] = tensor
    call.tame = False


def _change_alias(call: Call, rng: random.Random) -> None:
    """One input is another, or a view of its memory."""
    tensors = call.tensors()
    first, second = rng.choice(list(tensors)), rng.choice(list(tensors))
    source, target = tensors[first], tensors[second]
    if not (_is_plain(source) and _is_plain(target)):
        return
    if source.shape == target.shape and rng.random() < 0.5:
        call.inputs[second] = source
    elif source.is_contiguous() and source.numel() >= target.numel() > 0:
        call.inputs[second] = source.view(-1)[: target.numel()].view(target.shape)


def _change_type(call: Call, rng: random.Random) -> None:
    name = rng.choice(list(call.inputs))
    tensor = call.inputs[name]
    if isinstance(tensor, Tensor) and tensor.dtype in DTYPES and rng.random() < 0.4:
        if _is_plain(tensor) and rng.random() < 0.5:
            call.inputs[name] = tensor.to_sparse()
        else:
            call.inputs[name] = torch.nn.Parameter(tensor)
    else:
        call.inputs[name] = rng.choice(NO_TENSORS)


def _change_mode(call: Call, rng: random.Random) -> None:
    call.autocast = rng.random() < 0.7
    call.inference = not call.autocast or rng.random() < 0.3


def _change_option(call: Call, rng: random.Random) -> None:
    names = set(inspect.signature(call.op.function).parameters) & set(OPTIONS)
    name = rng.choice(sorted(names))
    call.options[name] = rng.choice(OPTIONS[name])
    call.tame = call.tame and OPTIONS[name] is not NUMBERS and name != "frequency_scale"


CHANGES: tuple[Callable[[Call, random.Random], None], ...] = (
    _change_dtype, _change_device, _change_shape, _change_layout, _change_layout, _change_values,
    _change_alias, _change_type, _change_mode, _change_option, _change_option, _change_option,
)  # fmt: skip


def draw(op: Op, seed: int) -> Call:
    """The call of a seed."""
    rng = random.Random(f"{op.name} {seed}")
    small = [c for c in op.cases if _numbers(op, c) <= 3000] or list(op.cases)
    case = rng.choice(small)
    dtype = rng.choice([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16])
    if not op.takes(case, dtype):
        dtype = torch.float64
    inputs = make_inputs(op, case, generator_of(f"fuzz {op.name} {seed}"), dtype)
    call = Call(op, seed, dict(inputs), dict(case.options), dtype)
    if op.has_dtype:
        call.options["dtype"] = dtype
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3, 4])):
        if call.tensors():
            change = rng.choice(CHANGES)
            change(call, rng)
            call.changes.append(change.__name__.removeprefix("_change_"))
    # The kernel of a chain runs only where nobody wants a gradient.
    nothing = rng.random() < (0.6 if op.name == "coord_chain" else 0.2)
    wants = [n for n in call.inputs if n not in op.constant and rng.random() < 0.6]
    call.wants = set() if nothing or call.inference else set(wants)
    return call


def _numbers(op: Op, case: Case) -> int:
    return sum(math.prod(shape) for shape in op.shapes(case.sizes).values())
