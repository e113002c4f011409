"""The committed subset is what the full set says, and the comparisons can fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests import golden_numbers
from tests.golden.make_subset import FILES, KEPT, pack, scale_of, stride_for
from tests.golden_numbers import SUBSET, Numbers, load, moments, relative, unpack


@pytest.mark.parametrize("name", FILES)
def test_subset_equals_the_full_set(name):
    """Every array that was kept, bit by bit, and every sample."""
    full, subset = load(name, "full"), load(name, "subset")
    for key, array in subset.items():
        np.testing.assert_array_equal(array, full[key], strict=True, err_msg=key)
    sampled = set(subset.names("")) - set(subset)
    for key in sampled:
        assert subset.shape(key) == full.shape(key)
        assert subset.error(key, full[key]) == 0
    missing = set(full) - set(subset) - sampled
    dropped = ("f32", *FILES[name])
    assert {k for k in missing if not k.startswith(dropped)} == {
        k for k in missing if k.endswith("resample_filter")
    }


def test_subset_is_small():
    """All files together, those of the ops included: a clone must stay light."""
    assert sum(path.stat().st_size for path in SUBSET.glob("*.npz")) < 1.5e6


def test_full_set_wins_where_it_is(tmp_path, monkeypatch):
    """`best` takes the full file, and falls back file by file."""
    name = "c_modules_f64"
    monkeypatch.setenv("DIGAN_GOLDEN", str(tmp_path))
    assert load(name) is load(name, "subset")
    np.savez(tmp_path / f"{name}.npz", x=np.arange(3.0))
    assert list(load(name)) == ["x"]
    (tmp_path / f"{name}.npz").unlink()


def test_missing_full_set_is_required_or_skipped(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGAN_GOLDEN", str(tmp_path))
    monkeypatch.setenv("DIGAN_REQUIRE", "golden")
    with pytest.raises(pytest.fail.Exception, match="golden is required"):
        load("a2_generator_64_uncond", "full")
    monkeypatch.delenv("DIGAN_REQUIRE")
    with pytest.raises(pytest.skip.Exception, match="golden"):
        load("a2_generator_64_uncond", "full")


@pytest.mark.parametrize(
    ("ours", "golden", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0, 0.0], [0.0, 0.0], 0),
        ([0.0, 1e-30], [0.0, 0.0], math.inf),
        ([math.nan, 4.0], [3.0, 4.0], math.inf),
        ([math.inf, 4.0], [3.0, 4.0], math.inf),
        ([3.0, math.nan], [3.0, math.nan], math.inf),
    ],
)
def test_relative(ours, golden, error):
    """NaN never passes, not even against NaN."""
    assert relative(torch.tensor(ours), np.array(golden)) == pytest.approx(error)


def test_relative_does_not_broadcast():
    with pytest.raises(ValueError, match=r"shape must be \(3, 1\), got \(3,\)"):
        relative(np.zeros(3), np.zeros((3, 1)))


def packed(array: np.ndarray) -> Numbers:
    return unpack(pack(Numbers({"f64/x": array}, {}), ()))


def test_a_sample_notices_every_kind_of_change():
    """A kept number by itself; any other through the sum; a permutation or a NaN too."""
    array = np.random.default_rng(0).standard_normal((7, 50))
    numbers = packed(array)
    assert list(numbers) == []
    assert numbers.names("f64/") == ["x"]
    assert numbers.error("f64/x", array) == 0
    for index in range(0, array.size, 7):
        wrong = array.copy()
        wrong.ravel()[index] += 0.01
        assert numbers.error("f64/x", wrong) > 1e-5
        wrong.ravel()[index] = math.nan
        assert numbers.error("f64/x", wrong) == math.inf
    assert numbers.error("f64/x", array[::-1]) > 0.1
    assert numbers.error("f64/x", -array) > 0.1
    with pytest.raises(ValueError, match="must be"):
        numbers.error("f64/x", array.T)
    with pytest.raises(KeyError):
        numbers.error("f64/y", array)


def test_packing_is_exact():
    """Multiples of 1/256 as integers, other numbers as they are, text as text."""
    rng = np.random.default_rng(1)
    arrays = {
        "in/a": (rng.integers(-9999, 9999, (3, 5)) / 256).astype(np.float32),
        "in/b": rng.standard_normal(4).astype(np.float32),
        "f64/c": rng.standard_normal(5),
        "count": np.array(7),
        "text": np.array("{}"),
        "in/empty": np.zeros((4, 0), np.float32),
    }
    again = unpack(pack(Numbers(arrays, {}), ()))
    assert set(again) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, strict=True)
    assert scale_of(arrays["in/a"]) == 256
    assert scale_of(arrays["in/b"]) is None
    assert scale_of(np.array([200.0 + 1 / 256])) is None


@pytest.mark.parametrize("size", [81, 250, 1000, 12345, 589824])
def test_stride_is_prime_and_keeps_enough(size):
    stride = stride_for(size)
    assert all(stride % divisor for divisor in range(2, stride))
    assert KEPT <= -(-size // stride) <= 2 * KEPT


def test_moments():
    assert moments(torch.tensor([1.0, -2.0])).tolist() == [-1, 5]
    assert golden_numbers.moments_error(np.ones(4), np.array([4.0, 4.0])) == 0
    assert golden_numbers.moments_error(np.full(4, np.nan), np.array([4.0, 4.0])) == math.inf
    assert golden_numbers.moments_error(np.zeros(2), np.zeros(2)) == 0
    assert golden_numbers.moments_error(np.ones(2), np.zeros(2)) == math.inf
