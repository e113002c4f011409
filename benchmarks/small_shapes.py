"""Every op with native kernels once, forward and backward, at the shapes of the tests.

What `benchmarks/gpu_suite.sh` runs under compute-sanitizer, which is too slow for more:

    compute-sanitizer --tool memcheck python benchmarks/small_shapes.py

Without a GPU it runs the same calls on the CPU, which shows that it would start.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from digan import ops
from tests.exact_op_cases import ALL_OPS
from tests.op_cases import LOW, Case, Op, differentiable, generator_of, make_inputs


def run_case(op: Op, case: Case, dtype: torch.dtype, device: str, impl: ops.Impl) -> None:
    """One call and its gradients; the result must hold no NaN."""
    inputs = make_inputs(op, case, generator_of(case.name), dtype, device)
    names = differentiable(op, inputs)
    for name in names:
        inputs[name] = inputs[name].detach().requires_grad_()
    more = {"dtype": dtype} if op.has_dtype else {}
    out = op.function(**inputs, **case.options, **more, impl=impl)
    if not names:
        return
    wanted = [inputs[name] for name in names]
    found = torch.autograd.grad(out, wanted, torch.randn_like(out), allow_unused=True)
    for tensor in (out, *found):
        if tensor is not None and not torch.isfinite(tensor).all():
            raise SystemExit(f"{op.name} {case} {dtype}: a result is not finite")


def main() -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    impl: ops.Impl = "fused" if device == "cuda" else "auto"
    count = 0
    for op in ALL_OPS.values():
        why = ops.unavailable(op.name)
        if device == "cuda" and why:
            print(f"{op.name}: skipped: {why}")
            continue
        for case in op.cases:
            for dtype in (torch.float32, *LOW):
                if op.takes(case, dtype):
                    run_case(op, case, dtype, device, impl)
                    count += 1
    if device == "cuda":
        torch.cuda.synchronize()
    print(f"small shapes: {count} calls with gradients on {device} ({impl})")
    # A suite that ran nothing on a GPU must not pass for one that found nothing.
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
