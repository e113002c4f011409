"""What only a GPU can show of the native ops: streams, devices, graphs, tensors beyond 2^31.

What the tests do to memory around a call is tried on the CPU too, where the formulas run, so that
a check that could not fail is noticed without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from digan import ops
from tests.cuda_graphs import captured
from tests.op_cases import OPS, Case, Inputs, Op, generator_of, laid_out, make_inputs, to_float64
from tests.ops import checks
from tests.ops.test_contract import CAST
from tests.requirements import require

Results = dict[str, Tensor]
TYPICAL = {
    "bias_act": "lrelu_clamp_channels_last",
    "coord_linear": "lrelu_clamp",
    "factorized_modulation": "demodulated",
    "fir_resample": "up2_gain4",
    "fourier_features": "plain",
    "fourier_features_at": "in_the_plane",
    "modulated_linear": "lrelu_clamp",
}
SLEEP = 50_000_000  # cycles of a GPU: some hundredths of a second


@dataclass
class Work:
    """One call with its gradients, on memory that stays where it is."""

    op: Op
    case: Case
    dtype: torch.dtype
    device: str = "cpu"
    impl: ops.Impl = "reference"
    inputs: Inputs = field(init=False)
    cotangent: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.inputs, self.cotangent, _ = self.fresh("first")
        self.poison()

    def fresh(self, name: str) -> tuple[Inputs, Tensor, Results]:
        """New numbers on the device, and what comes out of them in float64."""
        generator = generator_of(f"{name} {self.op.name} {self.case.name}")
        inputs = make_inputs(self.op, self.case, generator, self.dtype, self.device)
        cotangent = checks.draw_cotangent(self.op, self.case, inputs, self.dtype)
        truth = checks.gradients(
            lambda i: checks.oracle(self.op, self.case, i), self.op, to_float64(inputs), cotangent
        )
        placed = laid_out(cotangent.to(self.device, self.dtype), self.case.layout)
        return inputs, placed, truth

    def _memory(self) -> list[Tensor]:
        return [t for t in (*self.inputs.values(), self.cotangent) if t is not None]

    def poison(self) -> None:
        """NaN, and for taps, which must be finite, a number that spoils everything as well."""
        for tensor in self._memory():
            tensor.fill_(float("nan"))
        for name in self.op.constant & self.inputs.keys():
            if self.inputs[name] is not None:
                self.inputs[name].fill_(1e30)

    def copy_in(self, inputs: Inputs, cotangent: Tensor) -> None:
        """In the current stream."""
        given = [t for t in (*inputs.values(), cotangent) if t is not None]
        for tensor, values in zip(self._memory(), given, strict=True):
            tensor.copy_(values)

    def run(self) -> Results:
        more = {"dtype": self.dtype} if self.op.has_dtype else {}

        def function(leaves: Inputs) -> Tensor:
            return checks.call(self.op, self.case, leaves, self.impl, **more)

        return checks.gradients(function, self.op, self.inputs, self.cotangent)

    def complaints(self, found: Results, truth: Results) -> list[str]:
        return checks.complaints(found, truth, self.dtype)


def check_replay(work: Work, results: Results, replay: Callable[[], object]) -> None:
    """Every replay turns what lies in the inputs then into results, the same bits as a call's."""
    for name in ("second", "third"):
        inputs, cotangent, truth = work.fresh(name)
        for tensor in results.values():
            tensor.fill_(float("nan"))
        work.copy_in(inputs, cotangent)
        replay()
        found = {n: t.clone() for n, t in results.items()}
        assert work.complaints(found, truth) == []
        called = work.run()
        assert [n for n in found if not torch.equal(found[n], called[n])] == []


def runs() -> list[object]:
    """Every case in float32, and one of each op in bfloat16."""
    found = []
    for name, typical in TYPICAL.items():
        op = OPS[name]
        for case in op.cases:
            if checks.is_empty(op, case):
                continue
            found.append(pytest.param(op, case, torch.float32, id=f"{name}-{case}"))
            if case.name == typical and op.takes(case, torch.bfloat16):
                found.append(pytest.param(op, case, torch.bfloat16, id=f"{name}-{case}-bfloat16"))
    return found


each_run = pytest.mark.parametrize(("op", "case", "dtype"), runs())
each_op = pytest.mark.parametrize("op", [OPS[name] for name in TYPICAL], ids=lambda op: op.name)


def need_kernels(op: Op, devices: int = 1) -> None:
    """Skips where the op's kernels cannot run."""
    if reason := ops.unavailable(op.name):
        require("gpu", f"{op.name} has no kernel here: {reason}")
    if torch.cuda.device_count() < devices:
        pytest.skip(f"gpu: {devices} are needed and {torch.cuda.device_count()} is visible")


# ---------------------------------------------------------------- on a CPU


@each_op
def test_poison_that_is_not_replaced_shows(op):
    """As if a kernel had run before its inputs came."""
    work = Work(op, checks.case_of(op, TYPICAL[op.name]), torch.float32)
    inputs, cotangent, truth = work.fresh("late")
    assert set(truth) > {"out"}
    assert len(work.complaints(work.run(), truth)) == len(truth)
    work.copy_in(inputs, cotangent)
    assert work.complaints(work.run(), truth) == []


@each_op
def test_a_replay_that_does_less_shows(op):
    """A stand-in for a graph that runs everything, and two that do not."""
    work = Work(op, checks.case_of(op, TYPICAL[op.name]), torch.float32)
    work.copy_in(*work.fresh("warm")[:2])
    results = {n: t.clone() for n, t in work.run().items()}
    stale = {n: t.clone() for n, t in results.items()}

    def write(values: Results) -> None:
        for name, tensor in results.items():
            tensor.copy_(values[name])

    check_replay(work, results, lambda: write(work.run()))
    for replay in (lambda: None, lambda: write(stale)):
        with pytest.raises(AssertionError):
            check_replay(work, results, replay)


def test_every_native_op_is_tried():
    """The kernels of csrc/, an op a file."""
    named = {path.stem for path in checks.CSRC.glob("*.cu")}
    assert named & set(OPS) == set(TYPICAL)


# ---------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@each_run
def test_waits_for_its_own_stream(op, case, dtype):
    """Inputs come late on a side stream, and the results are used on it.

    A kernel on any other stream would read the poison that lies there until then.
    """
    need_kernels(op)
    work = Work(op, case, dtype, "cuda", "fused")
    inputs, cotangent, truth = work.fresh("late")
    work.copy_in(inputs, cotangent)
    work.run()  # a first launch may load the kernel, which waits for the GPU
    work.poison()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(SLEEP)
        work.copy_in(inputs, cotangent)
        used = {n: t + 0 for n, t in work.run().items()}
    side.synchronize()
    assert work.complaints(used, truth) == []


@pytest.mark.gpu
@each_run
def test_on_a_second_device(op, case, dtype):
    """Tensors say where a kernel runs, not the current device, which stays what it was."""
    need_kernels(op, devices=2)
    torch.cuda.set_device(0)
    work = Work(op, case, dtype, "cuda:1", "fused")
    inputs, cotangent, truth = work.fresh("elsewhere")
    work.copy_in(inputs, cotangent)
    found = work.run()
    assert {t.device for t in found.values()} == {torch.device("cuda:1")}
    assert torch.cuda.current_device() == 0
    assert work.complaints(found, truth) == []


@pytest.mark.gpu
@each_op
def test_tensors_of_two_devices(op):
    need_kernels(op, devices=2)
    case = checks.case_of(op, TYPICAL[op.name])
    inputs = make_inputs(op, case, generator_of("apart"), torch.float32, "cuda:0")
    last = [name for name, tensor in inputs.items() if tensor is not None][-1]
    with pytest.raises(ValueError, match=rf"{last} must be on the device of .* \(cuda:0\)"):
        checks.call(op, case, {**inputs, last: inputs[last].to("cuda:1")}, "fused")


@pytest.mark.gpu
@each_run
def test_in_a_graph(op, case, dtype):
    """Forward and backward are captured once and replayed on new numbers.

    A capture fails at any synchronisation and at memory that is asked of CUDA on the way.
    """
    need_kernels(op)
    work = Work(op, case, dtype, "cuda", "fused")
    work.copy_in(*work.fresh("warm")[:2])
    graph, results = captured(work.run)
    check_replay(work, results, graph.replay)


@pytest.mark.gpu
@each_op
def test_compiles_into_one_graph_on_a_gpu(op):
    need_kernels(op)
    case = checks.case_of(op, TYPICAL[op.name])
    checks.check_compiled(op, case, "fused", "cuda")


@pytest.mark.gpu
@each_op
def test_opcheck_on_a_gpu(op):
    need_kernels(op)
    expected = {op.name} | (set() if op.name == "fir_resample" else {f"{op.name}_backward"})
    case = checks.case_of(op, TYPICAL[op.name])
    checks.check_schema_ops(op, case, expected, traced=False, soak=False, device="cuda")


@pytest.mark.gpu
@each_op
def test_autocast_on_a_gpu(op):
    """Images, weights and skips take the autocast dtype; what frequencies make does not."""
    need_kernels(op)
    case = checks.case_of(op, TYPICAL[op.name])
    inputs = make_inputs(op, case, generator_of("autocast"), torch.float32, "cuda")
    cast = CAST.get(op.name, set())
    by_hand = {n: t.bfloat16() if n in cast else t for n, t in inputs.items()}
    expected = checks.call(op, case, by_hand, "fused")
    with torch.autocast("cuda", torch.bfloat16):
        found = checks.call(op, case, inputs, "fused")
    assert found.dtype == (torch.bfloat16 if cast else torch.float32)
    assert torch.equal(found, expected)


MANY = 2**31 + 2**18  # numbers: beyond what 32 bits can count


Long = tuple[Op, Inputs, dict[str, object], str, int]  # the long input, and its long axis


def _rows(count: int) -> Long:
    return OPS["bias_act"], {
        "x": torch.randn(count // 64, 64, device="cuda", dtype=torch.bfloat16),
        "bias": torch.randn(64, device="cuda"),
    }, {"activation": "lrelu"}, "x", 0  # fmt: skip


def _images(count: int) -> Long:
    return OPS["fir_resample"], {
        "x": torch.randn(count // 4096, 1, 64, 64, device="cuda", dtype=torch.bfloat16),
        "filter": torch.tensor([1.0, 3.0, 3.0, 1.0], device="cuda") / 8,
    }, {"padding": [2, 1, 2, 1]}, "x", 0  # fmt: skip


def _points(count: int) -> Long:
    return OPS["fourier_features_at"], {
        "freq": torch.randn(1, 64, 2, device="cuda"),
        "phase": torch.randn(1, 64, device="cuda"),
        "coords": torch.randn(1, count // 128, 2, device="cuda"),
    }, {"dtype": torch.bfloat16}, "coords", 1  # fmt: skip


def _pixels(count: int) -> Long:
    return OPS["modulated_linear"], {
        "x": torch.randn(1, count // 64, 64, device="cuda", dtype=torch.bfloat16),
        "weight": torch.randn(1, 64, 64, device="cuda", dtype=torch.bfloat16),
        "bias": torch.randn(64, device="cuda"),
    }, {"activation": "lrelu"}, "x", 1  # fmt: skip


def _colours(count: int) -> Long:
    return OPS["modulated_linear"], {
        "x": torch.randn(1, count // 64, 64, device="cuda", dtype=torch.bfloat16),
        "weight": torch.randn(1, 3, 64, device="cuda", dtype=torch.bfloat16),
        "bias": torch.randn(3, device="cuda"),
    }, {}, "x", 1  # fmt: skip


def _frames(count: int) -> Long:
    axis = torch.linspace(-1, 1, 64, device="cuda")
    return OPS["coord_linear"], {
        "freq": torch.randn(1, 8, 2, device="cuda"),
        "phase": torch.randn(1, count // (64 * 64 * 64), 8, device="cuda"),
        "y": axis,
        "x": axis,
        "weight": torch.randn(1, 64, 16, device="cuda", dtype=torch.bfloat16),
        "bias": torch.randn(64, device="cuda"),
        "skip": None,
    }, {"activation": "lrelu"}, "phase", 1  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("build", [_rows, _images, _points, _pixels, _colours, _frames])
def test_beyond_31_bits(build):
    """The last of many rows, images, points or frames, and their gradients, as in a short call."""
    for name in TYPICAL:
        need_kernels(OPS[name])
    if torch.cuda.mem_get_info()[0] < 40e9:
        pytest.skip("gpu: 40 GB of its memory must be free")
    op, inputs, options, long, axis = build(MANY)
    tails = {**inputs, long: inputs[long].narrow(axis, inputs[long].shape[axis] - 9, 9).clone()}

    def run(given: Inputs, cotangent: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        leaf = given[long].detach().requires_grad_()
        out = op.function(**{**given, long: leaf}, **options, impl="fused")
        cotangent = torch.randn_like(out) if cotangent is None else cotangent
        (grad,) = torch.autograd.grad(out, leaf, cotangent)
        cut = [
            t.detach().narrow(axis, t.shape[axis] - 9, 9).clone() for t in (out, grad, cotangent)
        ]
        return cut[0], cut[1], cut[2]

    out, grad, cotangent = run(inputs)
    expected = run(tails, cotangent)
    assert torch.equal(out, expected[0])
    assert checks.complaints({"": grad}, {"": expected[1]}, torch.float32) == []
