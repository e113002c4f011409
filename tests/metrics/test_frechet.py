"""Fréchet distance and polynomial MMD: golden numbers, closed forms, hard cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from digan.errors import DiganError
from digan.metrics import FeatureStatistics, frechet_distance, frechet_parts, polynomial_mmd


def features(count: int, dim: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """Gaussian features [count, dim] that are correlated at random."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim)) / dim**0.5
    return scale * rng.normal(size=(count, dim)) @ mixing + shift


def with_moments(mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Rows whose sample mean is `mean` and unbiased covariance `root root^T`, exactly."""
    dim = len(mean)
    raw = features(4 * dim, dim, 0)
    raw = raw - raw.mean(axis=0)
    white = np.linalg.qr(raw)[0] * (len(raw) - 1) ** 0.5
    return white @ root.T + mean


@pytest.fixture(scope="module")
def golden(golden_dir):
    with np.load(golden_dir / "h_fvd_kvd_f64.npz", allow_pickle=False) as arrays:
        return dict(arrays)


class TestGolden:
    @pytest.mark.parametrize(("a", "b"), ["XY", "YX"])
    def test_frechet(self, golden, a, b):
        expected = float(golden[f"frechet_{a}{b}"])
        assert frechet_distance(golden[a], golden[b]) == pytest.approx(expected, rel=1e-6)

    def test_frechet_of_equal_sets(self, golden):
        scale = float(golden["cov_trace_X"])
        assert frechet_distance(golden["X"], golden["X"]) <= 1e-9 * scale

    def test_frechet_of_full_rank(self, golden):
        got = frechet_distance(golden["X"][:, :32], golden["Y"][:, :32])
        assert got == pytest.approx(float(golden["frechet_first32dims"]), rel=1e-6)

    def test_terms(self, golden):
        statistics = [FeatureStatistics.from_features(golden[name]) for name in "XY"]
        parts = frechet_parts(*statistics)
        assert parts.mean == pytest.approx(float(golden["mean_term_XY"]), rel=1e-9)
        assert parts.trace_a == pytest.approx(float(golden["cov_trace_X"]), rel=1e-9)
        assert parts.trace_b == pytest.approx(float(golden["cov_trace_Y"]), rel=1e-9)
        assert parts.cross == pytest.approx(float(golden["trace_sqrt_product_XY"]), rel=1e-6)

    @pytest.mark.parametrize(("a", "b"), ["XY", "YX", "XX"])
    def test_polynomial_mmd(self, golden, a, b):
        expected = float(golden[f"polynomial_mmd_{a}{b}"])
        assert polynomial_mmd(golden[a], golden[b]) == pytest.approx(expected, rel=1e-6)

    def test_polynomial_mmd_of_few_dimensions(self, golden):
        got = polynomial_mmd(golden["X"][:, :32], golden["Y"][:, :32])
        expected = float(golden["polynomial_mmd_first32dims"])
        assert got == pytest.approx(expected, rel=1e-6)

    def test_inputs_are_not_written(self, golden):
        before = golden["X"].copy()
        frechet_distance(golden["X"], golden["Y"])
        polynomial_mmd(golden["X"], golden["Y"])
        assert np.array_equal(before, golden["X"])


class TestFrechet:
    @given(st.integers(2, 40), st.integers(1, 24), st.integers(0, 999))
    def test_axioms(self, count, dim, seed):
        a = features(count, dim, seed)
        b = features(count + 3, dim, seed + 1, scale=2.0, shift=0.3)
        distance = frechet_distance(a, b)
        size = float(np.square(a).sum() + np.square(b).sum())
        assert np.isfinite(distance)
        assert distance > 0
        assert distance == pytest.approx(frechet_distance(b, a), abs=1e-7 * size)
        assert frechet_distance(a, a) <= 1e-7 * size

    @given(st.integers(2, 60), st.integers(0, 999))
    def test_invariant_to_rotation_and_shift(self, count, seed):
        a, b = features(count, 16, seed), features(50, 16, seed + 1, scale=1.5)
        turn = np.linalg.qr(features(16, 16, seed + 2))[0]
        moved = frechet_distance(a @ turn + 5.0, b @ turn + 5.0)
        assert moved == pytest.approx(frechet_distance(a, b), rel=1e-6)

    @given(st.floats(1e-6, 1e6))
    def test_scales_with_the_square(self, scale):
        a, b = features(20, 8, 1), features(30, 8, 2, shift=1.0)
        scaled = frechet_distance(a * scale, b * scale)
        assert scaled == pytest.approx(frechet_distance(a, b) * scale**2, rel=1e-6)

    @given(st.integers(1, 12), st.integers(0, 999))
    def test_closed_form_of_axis_aligned_gaussians(self, dim, seed):
        rng = np.random.default_rng(seed)
        means, deviations = rng.normal(size=(2, dim)), rng.uniform(0.1, 3, size=(2, dim))
        a, b = (with_moments(m, np.diag(s)) for m, s in zip(means, deviations, strict=True))
        expected = np.square(means[0] - means[1]).sum()
        expected += np.square(deviations[0] - deviations[1]).sum()
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8, abs=1e-10)

    def test_agrees_with_scipy(self):
        a, b = features(200, 12, 3), features(300, 12, 4, scale=1.7, shift=-0.4)
        cov_a, cov_b = np.cov(a.T), np.cov(b.T)
        expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b)
        expected -= 2 * np.trace(linalg.sqrtm(cov_a @ cov_b)).real
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("count", [2, 3, 31, 32, 33])
    def test_fewer_samples_than_dimensions(self, count):
        # The root of the product is then known from the small side: the nuclear norm of the
        # product of the centred rows.
        a, b = features(count, 200, 5), features(count + 2, 200, 6, shift=0.1)
        centred = [rows - rows.mean(0) for rows in (a, b)]
        scaled = [rows / (len(rows) - 1) ** 0.5 for rows in centred]
        expected = np.square(a.mean(0) - b.mean(0)).sum()
        expected += sum(np.square(rows).sum() for rows in scaled)
        expected -= 2 * np.linalg.svd(scaled[0] @ scaled[1].T, compute_uv=False).sum()
        assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)

    def test_constant_set(self):
        a = features(50, 6, 7)
        still = np.full((2, 6), 0.25)
        expected = np.square(a.mean(0) - 0.25).sum() + np.trace(np.cov(a.T))
        assert frechet_distance(a, still) == pytest.approx(expected, rel=1e-12)
        assert frechet_distance(still, still) == 0.0

    def test_duplicated_and_dead_features(self):
        a, b = features(40, 5, 8), features(40, 5, 9, scale=2)

        def widened(rows):
            return np.concatenate([rows, rows, np.zeros((len(rows), 3))], axis=1)

        doubled = frechet_distance(widened(a), widened(b))
        assert doubled == pytest.approx(2 * frechet_distance(a, b), rel=1e-7)

    def test_large_offset_costs_no_digits_that_matter(self):
        a, b = features(64, 16, 10), features(64, 16, 11)
        far = frechet_distance(a + 1e5, b + 1e5)
        assert far == pytest.approx(frechet_distance(a, b), rel=1e-6)

    def test_float32_and_tensors(self):
        a, b = features(64, 16, 12), features(64, 16, 13)
        expected = frechet_distance(a, b)
        tensors = [torch.from_numpy(rows).requires_grad_() for rows in (a, b)]
        assert frechet_distance(*tensors) == expected
        half = [rows.astype(np.float32) for rows in (a, b)]
        assert frechet_distance(*half) == pytest.approx(expected, rel=1e-4)


class TestStatistics:
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 999))
    def test_batches_equal_the_whole(self, sizes, seed):
        rows = features(sum(sizes) + 2, 7, seed, shift=100.0)
        streamed = FeatureStatistics()
        for batch in np.split(rows, np.cumsum(sizes)):
            streamed.update(batch)
        assert streamed.count == len(rows)
        assert np.allclose(streamed.mean.numpy(), rows.mean(0), rtol=1e-13)
        assert np.allclose(streamed.covariance.numpy(), np.cov(rows.T), rtol=1e-9, atol=1e-12)

    @given(st.integers(0, 20), st.integers(0, 20))
    def test_merge_equals_one_pass(self, first, second):
        rows = features(first + second + 2, 5, first)
        left = FeatureStatistics.from_features(rows[: first + 1])
        right = FeatureStatistics.from_features(rows[first + 1 :])
        before = right.count
        both = left.merge(right)
        assert right.count == before
        assert both.count == len(rows)
        assert np.allclose(both.covariance.numpy(), np.cov(rows.T), rtol=1e-9, atol=1e-12)

    def test_merge_copies(self):
        source = FeatureStatistics.from_features(features(4, 3, 0))
        kept = source.scatter.clone()
        FeatureStatistics().merge(source).update(features(4, 3, 1))
        assert torch.equal(source.scatter, kept)

    def test_statistics_and_features_mix(self):
        a, b = features(30, 4, 0), features(30, 4, 1)
        assert frechet_distance(FeatureStatistics.from_features(a), b) == frechet_distance(a, b)


class TestPolynomialMmd:
    @given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 9), st.integers(0, 999))
    def test_equals_the_double_sum(self, n, m, dim, seed):
        x, y = features(n, dim, seed), features(m, dim, seed + 1, shift=0.5)

        def kernel(u, v):
            return (u @ v / dim + 1) ** 3

        xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
        yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
        xy = sum(kernel(u, v) for u in x for v in y)
        expected = xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)
        assert polynomial_mmd(x, y) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    @given(st.integers(2, 30), st.integers(0, 999))
    def test_symmetric_and_invariant_to_rotation(self, count, seed):
        x, y = features(count, 9, seed), features(count + 5, 9, seed + 1, shift=0.3)
        turn = np.linalg.qr(features(9, 9, seed + 2))[0]
        expected = polynomial_mmd(x, y)
        size = abs(expected) + float(np.square(x).mean() + np.square(y).mean()) ** 3
        assert polynomial_mmd(y, x) == pytest.approx(expected, abs=1e-11 * size)
        assert polynomial_mmd(x @ turn, y @ turn) == pytest.approx(expected, abs=1e-10 * size)

    def test_blocks_change_nothing(self, monkeypatch):
        x, y = features(33, 6, 0), features(31, 6, 1)
        whole = polynomial_mmd(x, y)
        monkeypatch.setattr("digan.metrics.frechet._KERNEL_ROWS", 7)
        assert polynomial_mmd(x, y) == pytest.approx(whole, rel=1e-12)

    def test_unbiased(self):
        values = [polynomial_mmd(*np.split(features(40, 4, s), 2)) for s in range(200)]
        assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5

    def test_options(self):
        x, y = features(9, 3, 0), features(8, 3, 1, shift=1.0)
        expected = float(np.square(x.mean(0) - y.mean(0)).sum())
        biased = polynomial_mmd(x, y, degree=1, gamma=1.0, coef0=0.0)
        # A linear kernel gives the distance of the means less the variance of each mean.
        expected -= np.trace(np.cov(x.T)) / 9 + np.trace(np.cov(y.T)) / 8
        assert biased == pytest.approx(expected, rel=1e-9)


class TestErrors:
    @pytest.mark.parametrize("distance", [frechet_distance, polynomial_mmd])
    def test_fewer_than_two(self, distance):
        with pytest.raises(DiganError, match=r"at least 2 samples on each side, got 9 and 1"):
            distance(features(9, 3, 0), features(1, 3, 0))
        with pytest.raises(DiganError, match="at least 2 samples"):
            distance(np.zeros((0, 3)), features(9, 3, 0))

    @pytest.mark.parametrize("distance", [frechet_distance, polynomial_mmd])
    def test_widths(self, distance):
        with pytest.raises(DiganError, match="one width, got 3 and 4"):
            distance(features(9, 3, 0), features(9, 4, 0))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("distance", [frechet_distance, polynomial_mmd])
    def test_not_finite(self, distance, bad):
        rows = features(9, 3, 0)
        rows[4, 1] = bad
        with pytest.raises(DiganError, match=r"must be finite.* in 1 of 9 rows.* row 4"):
            distance(features(9, 3, 0), rows)

    @pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (3, 0)])
    def test_shape(self, shape):
        with pytest.raises(DiganError, match=r"must be \[N, D\], got"):
            frechet_distance(np.zeros(shape), np.zeros(shape))

    def test_complex(self):
        with pytest.raises(DiganError, match="real numbers"):
            frechet_distance(np.zeros((3, 3), complex), np.zeros((3, 3)))

    def test_width_changes_between_batches(self):
        with pytest.raises(DiganError, match="keep their width, got 4 after 3"):
            FeatureStatistics.from_features(features(9, 3, 0)).update(features(9, 4, 0))

    def test_covariance_of_one(self):
        with pytest.raises(DiganError, match="at least 2 samples, got 1"):
            _ = FeatureStatistics.from_features(features(1, 3, 0)).covariance
