"""wgmma against the layouts of the PTX manual in numpy, and every way to use it wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.emulation.test_tensor_cores import DTYPES, halves, words

BASE = 1024  # the address at which the memory of a launch begins
DEPTH = 16
SWIZZLES = {128: 1, 64: 2, 32: 3, 16: 0}  # bytes of a row -> the descriptor's code


def descriptor(address, leading, stride, row, phase=0):
    """The bits of "Matrix Descriptor Format"."""
    return (
        (address & 0x3FFFF) >> 4
        | leading >> 4 << 16
        | stride >> 4 << 32
        | phase << 49
        | SWIZZLES[row] << 62
    )


class Memory:
    """Shared memory of random bits, in which matrices are laid out."""

    def __init__(self, count):
        self.numbers = words(count // 4).view(np.uint16).copy()

    def lay(self, address, bits, row, leading, stride, kept):
        """A matrix [kept axis, reduced axis] by the canonical layouts, in bits of 16.

        In units of 16 bytes, 8 numbers, the layouts are, with the unit inside:
        swizzled, reduced axis along rows: kept (8, m) : (row, stride), reduced (row) : (1);
        swizzled, kept axis along rows: kept (row, m) : (1, leading), reduced (8, k) : (row,
        stride); plain: blocks of 8 rows of one unit, `leading` apart along the reduced axis,
        `stride` along the kept one. Swizzling exchanges the units of an address's line of 128
        bytes by the line's number.
        """
        i, k = np.indices(bits.shape)
        along, across = (i, k) if kept else (k, i)
        offset = 2 * (along % (row // 2)) + across % 8 * row
        if row == 16:
            apart = (leading, stride) if kept else (stride, leading)
            offset += across // 8 * apart[0] + along // 8 * apart[1]
        else:
            offset += along // (row // 2) * leading + across // 8 * stride
        at = address + offset
        line = at // 128 % (row // 16)
        at = at // 128 * 128 + ((at % 128 // 16) ^ line) * 16 + at % 16
        assert len(np.unique(at)) == bits.size
        self.numbers[(at - BASE) // 2] = bits


def draw(*shape):
    return torch.randn(shape, dtype=torch.float64)


def scattered(d):
    """D [64, N] -> each thread's numbers [128, N / 2]."""
    thread, i = np.indices((128, d.shape[1] // 2))
    row = thread // 32 * 16 + thread % 32 // 4 + i % 4 // 2 * 8
    return d[row, i // 4 * 8 + thread % 4 * 2 + i % 2].astype(np.float32)


def run(cases, name, memory, d, a, b, adds=1, products=1, steps=(0, 0), rows=None):
    """The kernel's D as [64, N], from the threads' registers."""
    head = [a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32, adds, products, *steps]
    parts = [np.array(head, dtype=np.uint32), memory.numbers.view(np.uint32)]
    parts += [scattered(d).view(np.uint32).ravel(), *([] if rows is None else [rows])]
    count, columns = len(parts[1]), d.shape[1]
    out = cases.run(
        *(f"wgmma_{name}", np.concatenate(parts), 64 * columns, count),
        threads=128,
        shared_bytes=4 * count,
    )
    found = np.empty(d.shape, np.float32)
    thread, i = np.indices((128, columns // 2))
    row = thread // 32 * 16 + thread % 32 // 4 + i % 4 // 2 * 8
    found[row, i // 4 * 8 + thread % 4 * 2 + i % 2] = out.view(np.float32).reshape(128, -1)
    return found


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def place(memory, address, x, dtype, row, kept):
    """Lays a matrix [kept, 64 of the reduced axis] out as TMA does; returns its descriptor."""
    bits = halves(x, dtype)
    if kept:  # pieces of a row's numbers, as long as the reduced axis
        leading, stride = x.shape[1] * row, 8 * row
    else:
        leading, stride = 16, 8 * row
    memory.lay(address, bits, row, leading, stride, kept)
    return descriptor(address, leading, stride, row)


@pytest.mark.parametrize("forms", ["reduced_reduced", "reduced_kept", "kept_reduced", "kept_kept"])
@pytest.mark.parametrize(
    ("kind", "columns", "row"),
    [
        *(("bf16", 64, 128), ("bf16", 128, 128), ("bf16", 256, 128), ("f16", 256, 128)),
        *(("bf16", 64, 64), ("bf16", 128, 32)),
    ],
)
def test_products(cases, kind, columns, row, forms):
    """Four products of one slice, and three of them without what was there."""
    dtype, depth = DTYPES[kind], 64
    a_kept, b_kept = (form == "kept" for form in forms.split("_"))
    if row < 128:  # a row holds less of the reduced axis
        depth = depth if a_kept and b_kept else row // 2
    a, b, d = draw(64, depth).to(dtype), draw(columns, depth).to(dtype), draw(64, columns).float()
    memory = Memory(128 * (64 + columns) + 1024)
    a_at = place(memory, BASE, a, dtype, row, a_kept)
    b_at = place(memory, BASE + 128 * 64 + 1024, b, dtype, row, b_kept)
    steps = [DEPTH * row if kept else 2 * DEPTH for kept in (a_kept, b_kept)]
    name, product = f"{kind}_{columns}_{forms}", a.double() @ b.double().T
    count = depth // DEPTH
    found = run(cases, name, memory, d.numpy(), a_at, b_at, 1, count, steps)
    assert error(found, (d.double() + product).numpy()) < 1e-6
    # The last ones, by descriptors that begin inside the pattern, and D is overwritten.
    first, count = (1, count - 1) if count > 1 else (0, 1)
    further = [first * step >> 4 for step in steps]
    starts = (a_at + further[0], b_at + further[1])
    found = run(cases, name, memory, d.numpy(), *starts, 0, count, steps)
    rest = a[:, 16 * first :].double() @ b[:, 16 * first :].double().T
    assert error(found, rest.numpy()) < 1e-6


@pytest.mark.parametrize("form", ["reduced", "kept"])
@pytest.mark.parametrize(("kind", "columns"), [("bf16", 64), ("bf16", 128), ("f16", 256)])
def test_a_in_registers(cases, kind, columns, form):
    dtype = DTYPES[kind]
    a, b, d = draw(64, 16).to(dtype), draw(columns, 64).to(dtype), draw(64, columns).float()
    memory = Memory(128 * columns)
    b_at = place(memory, BASE, b, dtype, 128, form == "kept")
    thread, i = np.indices((128, 8))
    row = thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8
    column = thread % 4 * 2 + i % 2 + i // 4 * 8
    rows = halves(a, dtype)[row, column].ravel().view(np.uint32)
    found = run(cases, f"{kind}_{columns}_rows_{form}", memory, d.numpy(), 0, b_at, rows=rows)
    expected = d.double() + a.double() @ b[:, :16].double().T
    assert error(found, expected.numpy()) < 1e-6


@pytest.mark.parametrize("forms", ["reduced_reduced", "kept_kept"])
def test_without_swizzle(cases, forms):
    """Blocks of 8 x 16 bytes, a random distance apart."""
    kept = forms == "kept_kept"
    a, b, d = draw(64, 16).bfloat16(), draw(64, 16).bfloat16(), draw(64, 64).float()
    memory, at = Memory(16384), []
    for address, x, apart in ((BASE, a, (128, 400)), (BASE + 6144, b, (1056, 128))):
        leading, stride = apart
        memory.lay(address, halves(x, torch.bfloat16), 16, leading, stride, kept)
        at.append(descriptor(address, leading, stride, 16))
    found = run(cases, f"bf16_64_{forms}", memory, d.numpy(), *at)
    assert error(found, (d.double() + a.double() @ b.double().T).numpy()) < 1e-6


def test_another_phase(cases):
    """A pattern that begins in the middle of 1024 bytes says so."""
    a, b, d = draw(64, 16).bfloat16(), draw(64, 16).bfloat16(), draw(64, 64).float()
    memory, lines = Memory(20480), 3
    for i, x in enumerate((a, b)):
        place(memory, BASE + 10240 * i, x, torch.bfloat16, 128, False)
    # The same bytes 384 further, and with them the pattern.
    memory.numbers = np.roll(memory.numbers, 64 * lines)
    moved = [descriptor(BASE + 10240 * i + 128 * lines, 16, 1024, 128, lines) for i in range(2)]
    found = run(cases, "bf16_64_reduced_reduced", memory, d.numpy(), *moved)
    expected = (d.double() + a.double() @ b.double().T).numpy()
    assert error(found, expected) < 1e-6
    without = [bits & ~(7 << 49) for bits in moved]
    found = run(cases, "bf16_64_reduced_reduced", memory, d.numpy(), *without)
    assert not error(found, expected) < 0.1


def test_descriptors(cases):
    addresses = np.array([1024, 1024 + 32, 2048 + 64, 232448], dtype=np.uint32)
    out = cases.run("wgmma_descriptors", addresses, 32, 4).astype(np.uint64)
    made = (out[::2] | out[1::2] << np.uint64(32)).reshape(4, 4)
    for address, found in zip(addresses.tolist(), made.tolist(), strict=True):
        assert found[:3] == [descriptor(address, 16, 8 * row, row) for row in (128, 64, 32)]
        assert found[3] == descriptor(address, 8192, 1024, 128)


def test_addresses(cases):
    assert cases.run("wgmma_address", words(1), 1, 0, shared_bytes=64).tolist() == [1024 + 20]
    with pytest.raises(RuntimeError, match="not of the memory that the launch sizes"):
        cases.run("wgmma_static_address", words(1), 1, 0)


def run_wrong(cases, name, threads=128):
    numbers = halves(draw(128 * 64), torch.bfloat16)
    return cases.run(
        *(f"wgmma_{name}", numbers.view(np.uint32), threads, 128 * 32),
        threads=threads,
        shared_bytes=128 * 128,
    )


@pytest.mark.parametrize("name", ["right", "memory_written_afterwards"])
def test_right_use_is_no_fault(cases, name):
    for seed in range(5):
        cases.set_seed(seed)
        assert np.isfinite(run_wrong(cases, name, 256).view(np.float32)).all()


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("no_fence", "takes accumulators that changed without a wgmma_fence"),
        ("fence_too_early", "takes accumulators that changed without a wgmma_fence"),
        ("unfenced_a", "takes registers of A that changed without a wgmma_fence"),
        ("no_wait", "ends before its wgmma was waited for"),
        ("no_commit", "ends before its wgmma was waited for"),
        ("sums_touched", "accumulators changed before the wgmma that adds to them"),
        ("a_touched", "registers of A changed before the wgmma that reads them"),
        ("memory_written", "writes byte 0 of memory before the wgmma that reads it|race"),
        ("other_products", "the warps of a warpgroup issue different wgmma"),
        ("one_warp_less", "the warps of a warpgroup issue different wgmma|issued 1 wgmma"),
        ("other_lane", "the lanes of a warp issue different wgmma"),
        ("unordered", "race: reads byte|which nobody wrote"),
        ("nobody_wrote", "which nobody wrote"),
        ("no_proxy_fence", "wrote, without its fence_proxy_async between"),
        ("strange_bits", "bits where no field is: 0x"),
    ],
)
def test_faults(cases, name, report):
    for seed in range(3):
        cases.set_seed(seed)
        with pytest.raises(RuntimeError, match=report):
            run_wrong(cases, name)


@pytest.mark.parametrize("name", ["read_before_wait", "wait_for_too_few"])
def test_sums_are_nan_before_the_wait(cases, name):
    assert np.isnan(run_wrong(cases, name).view(np.float32)).all()


def test_a_warpgroup_is_four_warps(cases):
    with pytest.raises(RuntimeError, match="issued 0 wgmma, its warpgroup 2"):
        run_wrong(cases, "right", 96)


def test_products_are_counted(cases):
    cases.clear_launches()
    run_wrong(cases, "right", 256)
    assert cases.launches()[0]["group_products"] == 16
