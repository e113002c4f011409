"""ldmatrix, mma and the number types against plain loops, on fresh random numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


def words(count):
    return np.random.default_rng().integers(0, 2**32, count, dtype=np.uint32)


def halves(x, dtype):
    """The bits of a tensor in 16 bits a number."""
    return x.to(dtype).view(torch.int16).numpy().view(np.uint16)


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(cases, transposed):
    x = words(128)
    name = "ldmatrix_trans" if transposed else "ldmatrix"
    out = cases.run(name, x, 128, 0).reshape(32, 4)
    matrices = x.view(np.uint16).reshape(4, 8, 8)
    for lane in range(32):
        for m in range(4):
            for k in range(2):
                row, column = lane // 4, 2 * (lane % 4) + k
                if transposed:
                    row, column = column, row
                assert out[lane, m] >> (16 * k) & 0xFFFF == matrices[m, row, column]


def test_ldmatrix_of_words(cases):
    """A lane gets a whole word of its row."""
    x = words(128)
    out = cases.run("ldmatrix_words", x, 128, 0).reshape(32, 4)
    matrices = x.reshape(4, 8, 4)
    for lane in range(32):
        for m in range(4):
            assert out[lane, m] == matrices[m, lane // 4, lane % 4]


def test_ldmatrix_faults(cases):
    for seed in range(5):
        cases.set_seed(seed)
        for name in ("ldmatrix_unordered", "ldmatrix_words_unordered"):
            with pytest.raises(RuntimeError, match="race: reads rows"):
                cases.run(name, words(128), 128, 0)
    with pytest.raises(RuntimeError, match="misaligned: 16 bytes at rows"):
        cases.run("ldmatrix_misaligned", words(128), 128, 0)
    with pytest.raises(RuntimeError, match="deadlock"):
        cases.run("ldmatrix", words(128), 128, 0, threads=31)


def fragments(a, b, d, per_register):
    """A lane's registers as the PTX manual draws them: [32, 4], [32, 2], [32, 4] of numbers."""
    half = 4 * per_register
    lanes = range(32)
    a_of = [
        [
            a[lane // 4 + 8 * (q % 2), lane % 4 * per_register + half * (q // 2) + i]
            for q in range(4)
            for i in range(per_register)
        ]
        for lane in lanes
    ]
    b_of = [
        [
            b[lane % 4 * per_register + half * q + i, lane // 4]
            for q in range(2)
            for i in range(per_register)
        ]
        for lane in lanes
    ]
    d_of = [
        [d[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2] for i in range(4)] for lane in lanes
    ]
    return np.array(a_of), np.array(b_of), np.array(d_of)


def product_of(cases, kind, a, b, d):
    """D + A B by the emulated instruction; a and b as bits."""
    per_register = 2 if kind != "tf32" else 1
    a_of, b_of, d_of = fragments(a, b, d, per_register)
    packed = [np.ascontiguousarray(x).view(np.uint32).ravel() for x in (d_of, a_of, b_of)]
    out = cases.run(f"mma_{kind}", np.concatenate(packed), 128, 0).view(np.float32)
    found = np.zeros((16, 8), np.float32)
    for lane in range(32):
        for i in range(4):
            found[lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2] = out[4 * lane + i]
    return found


@pytest.mark.parametrize("kind", ["bf16", "f16", "tf32"])
def test_mma(cases, kind):
    k = 8 if kind == "tf32" else 16
    d = torch.randn(16, 8)
    a, b = torch.randn(16, k), torch.randn(k, 8)
    if kind == "tf32":
        a_bits, b_bits = a.numpy().view(np.uint32), b.numpy().view(np.uint32)
        a, b = ((x & 0xFFFFE000).view(np.float32).astype(np.float64) for x in (a_bits, b_bits))
    else:
        a_bits, b_bits = halves(a, DTYPES[kind]), halves(b, DTYPES[kind])
        a, b = (x.to(DTYPES[kind]).double().numpy() for x in (a, b))
    found = product_of(cases, kind, a_bits, b_bits, d.numpy())
    expected = d.double().numpy()
    for row in range(16):
        for column in range(8):
            for i in range(k):
                expected[row, column] += a[row, i] * b[i, column]
    assert np.abs(found - expected).max() < 1e-5


def test_tf32_rounds_halves_away_from_zero(cases):
    x = np.concatenate([np.random.default_rng().standard_normal(1000), [0.0, -0.0, np.inf]])
    bits = x.astype(np.float32).view(np.uint32)
    half = np.uint32(0x1000)
    bits = np.concatenate([bits, bits[:1000] & 0xFFFFE000 | half, bits[:1000] & 0xFFFFE000 | 0xFFF])
    out = cases.run("to_tf32", bits, len(bits), len(bits), -(-len(bits) // 256), 256)
    wide = bits.view(np.float32).astype(np.float64)
    finite = np.isfinite(wide)
    step = 2.0 ** (np.frexp(wide[finite])[1] - 11)
    expected = np.copysign(np.floor(np.abs(wide[finite]) / step + 0.5) * step, wide[finite])
    np.testing.assert_array_equal(out.view(np.float32)[finite], expected)
    assert np.isinf(out.view(np.float32)[1002])


def test_a_small_product_of_matrices(cases):
    a, b = torch.randn(16, 16).bfloat16(), torch.randn(16, 8).bfloat16()
    x = np.concatenate([halves(m.contiguous(), torch.bfloat16).ravel() for m in (a, b.T)])
    found = cases.run("small_product", x.view(np.uint32), 128, 0).view(np.float32).reshape(16, 8)
    assert np.abs(found - (a.double() @ b.double()).numpy()).max() < 1e-5


def test_a_small_product_on_tf32(cases):
    a, b = torch.randn(16, 8), torch.randn(8, 8)
    x = torch.cat([a.ravel(), b.T.ravel()]).numpy().view(np.uint32)
    found = cases.run("small_product_tf32", x, 128, 0, shared_bytes=24 * 12 * 4)
    error = np.abs(found.view(np.float32).reshape(16, 8) - (a.double() @ b.double()).numpy())
    # Each operand is off by at most 2^-11 of itself, the sum by much less.
    assert (error <= 2.0**-9.9 * (a.double().abs() @ b.double().abs()).numpy()).all()
    assert error.max() > 1e-6  # by float32 it would be less


def rounded(x, digits, smallest, largest):
    """Float64 to nearest even, to `digits` binary digits from 2^smallest to below 2^largest."""
    step = 2.0 ** (np.maximum(np.frexp(x)[1] - 1, smallest) - digits + 1)
    near = np.rint(x / step) * step
    return np.where(np.abs(near) >= 2.0**largest, np.copysign(np.inf, x), near)


def test_packed_products_round_once(cases):
    """Over every exponent, also of products too small or too large for the type."""
    count = 20000
    x = words(2 * count)
    out = cases.run("packed", x, 5 * count, count, -(-count // 256), 256)
    bits = torch.from_numpy(x.view(np.int16).copy()).reshape(2, -1)
    found = torch.from_numpy(out.view(np.int16).copy()).reshape(5, -1)
    for row, dtype, limits in (
        (0, torch.bfloat16, (8, -126, 128)),
        (1, torch.float16, (11, -14, 16)),
    ):
        a, b = bits.view(dtype).double().numpy()
        with np.errstate(invalid="ignore", over="ignore"):
            exact = a * b
            expected = rounded(exact, *limits)
        finite = np.isfinite(exact)
        expected = np.where(finite, expected, exact)
        got = found[row].view(dtype).double().numpy()
        np.testing.assert_array_equal(got, expected)
        zero = expected == 0
        tiny = (np.abs(expected) < 2.0 ** limits[1]) & ~zero
        for kind in (zero, tiny, np.isinf(expected), np.isnan(expected)):
            assert kind.any()
        np.testing.assert_array_equal(np.signbit(got)[zero], np.signbit(expected)[zero])
    signs = np.where(x[:count].view(np.int16) < 0, 0xFFFF, 0)
    np.testing.assert_array_equal(out[2 * count : 3 * count].view(np.uint16), signs)


def test_packed_choices(cases):
    """Over every number of 16 bits, NaN of either sign and zeros among them."""
    numbers = np.random.default_rng().permuted([np.arange(65536, dtype=np.uint16)] * 2, axis=1)
    count = numbers.shape[1]
    x = np.concatenate([numbers.T.copy().view(np.uint32).ravel(), words(count)])
    out = cases.run("packed", x, 5 * count, count, -(-count // 256), 256)
    low, high = x[count:, None] & 0xFFFF, x[count:, None] >> 16
    for row, dtype in ((3, torch.bfloat16), (4, torch.float16)):
        value = torch.from_numpy(numbers.T.copy().view(np.int16)).view(dtype)
        expected = np.where((value > 0).numpy(), low, high)
        found = out[row * count : (row + 1) * count].view(np.uint16).reshape(-1, 2)
        np.testing.assert_array_equal(found, expected)


def test_rounding_to_16_bits(cases):
    """To nearest even, over every kind of number: PyTorch's conversions are the same."""
    random = words(20000)
    halfway = (random[:4000] & 0xFFFF0000) | 0x8000
    halfway16 = (random[:4000] & 0xFFFFE000) | 0x1000
    small = np.random.default_rng().uniform(-1e-4, 1e-4, 4000).astype(np.float32).view(np.uint32)
    corners = np.array([0.0, -0.0, 65504, 65519.9, 65520, 65536, -65520, 2.0**-24, 2.0**-25])
    corners = np.concatenate([corners, [2.0**-25 * 1.0001, 6.1e-5, np.inf, -np.inf, 3.4e38]])
    x = np.concatenate([random, halfway, halfway16, small, corners.astype(np.float32).view("u4")])
    out = cases.run("round", x, len(x), len(x), -(-len(x) // 256), 256)
    values = torch.from_numpy(x.view(np.float32).copy())
    known = ~values.isnan().numpy()
    for shift, dtype in ((0, torch.bfloat16), (16, torch.float16)):
        found = (out >> shift & 0xFFFF)[known]
        np.testing.assert_array_equal(found, halves(values, dtype)[known])
        nan = torch.from_numpy((out >> shift & 0xFFFF)[~known].astype(np.uint16).view(np.int16))
        assert nan.view(dtype).isnan().all()


def test_widening_every_number_of_16_bits(cases):
    x = np.arange(65536, dtype=np.uint32)
    out = cases.run("widen", x, 2 * 65536, 65536, 256, 256).reshape(2, 65536)
    bits = torch.from_numpy(x.astype(np.uint16).view(np.int16))
    for found, dtype in zip(out, (torch.bfloat16, torch.float16), strict=True):
        expected = bits.view(dtype).float()
        same = found == expected.numpy().view(np.uint32)
        assert (same | expected.isnan().numpy()).all()
        assert np.isnan(found.view(np.float32)[expected.isnan().numpy()]).all()
