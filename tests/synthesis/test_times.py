"""Time curves: where they begin and end, how they bend, and loops that close."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.synthesis import CURVES, curve_through, curve_times, parse_curve, progress
from digan.synthesis import times as curves

RETURNING = {"ping-pong", "swing"}
FINE = torch.linspace(0, 1, 1001, dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(CURVES))
def test_curves_stay_within_time_and_end_where_they_should(name):
    p = CURVES[name](FINE)
    assert p.dtype == torch.float64
    assert p.shape == FINE.shape
    assert float(p.min()) >= -1e-12
    assert float(p.max()) == pytest.approx(1, abs=1e-12)
    assert float(p[0]) == 0
    assert float(p[-1]) == pytest.approx(0 if name in RETURNING else 1, abs=1e-12)
    if name in RETURNING:
        torch.testing.assert_close(p, p.flip(0), rtol=0, atol=1e-12)
        assert float(p[500]) == 1
        p = p[:501]
    assert (p.diff() > 0).all()  # time never stands still or runs back on its way


def slope(name: str, place: float) -> float:
    step = 1e-6
    ends = CURVES[name](torch.tensor([place - step, place + step], dtype=torch.float64))
    return float(ends[1] - ends[0]) / (2 * step)


def test_how_curves_bend():
    assert slope("linear", 0.3) == pytest.approx(1, abs=1e-6)
    assert abs(slope("ease", 1e-5)) < 1e-3
    assert slope("ease", 0.5) == pytest.approx(1.5, abs=1e-6)
    assert slope("slow-middle", 0.5) == pytest.approx(0.15, abs=1e-6)
    assert slope("slow-middle", 1e-5) == pytest.approx(1.85, abs=1e-3)
    assert slope("ping-pong", 0.25) == pytest.approx(2, abs=1e-6)
    assert abs(slope("swing", 0.5)) < 1e-6  # at rest where it turns
    assert abs(slope("swing", 1e-5)) < 1e-3


def test_no_curve_changes_what_it_is_given():
    for curve in CURVES.values():
        given = FINE.clone()
        curve(given)[0] = 9.0
        assert torch.equal(given, FINE)


def test_curves_through_points():
    points = [(0, 0.2), (0.4, 0.3), (0.6, 0.9), (1, 1.0)]
    curve = curve_through(points)
    found = curve(torch.tensor([u for u, _ in points], dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), [p for _, p in points], rtol=0, atol=1e-12)
    assert (curve(FINE).diff() >= 0).all()  # rising points give a rising curve
    for (u0, p0), (u1, p1) in itertools.pairwise(points):
        inside = curve(FINE[(u0 <= FINE) & (u1 >= FINE)])
        assert float(inside.min()) >= p0 - 1e-12
        assert float(inside.max()) <= p1 + 1e-12
    parsed = parse_curve("0:0.2, 0.4:0.3,0.6:0.9,1:1")
    assert torch.equal(parsed(FINE), curve(FINE))
    assert parse_curve("ease") is curves.ease


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bounce", "time-curve must be one of linear, ease, .* got 'bounce'"),
        ("0:0,1", "time-curve must be one of"),
        ("", "time-curve must be one of"),
        ("0:0,0.5:0.5", "must rise from 0 to 1 in playback"),
        ("0:0,0.7:0.5,0.6:1,1:1", "must rise from 0 to 1 in playback"),
        ("0:0", "must rise from 0 to 1 in playback"),
        ("0:0,1:nan", "must be finite"),
        ("0:0,1:inf", "must be finite"),
    ],
)
def test_curves_that_cannot_be(text, sentence):
    with pytest.raises(DiganError, match=sentence):
        parse_curve(text)


def test_progress_includes_both_ends_or_closes():
    assert progress(5).tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert progress(4, closed=True).tolist() == [0, 0.25, 0.5, 0.75]
    assert progress(1).tolist() == [0]
    with pytest.raises(DiganError, match="at least 1, got 0"):
        progress(0)


def test_times_along_a_curve():
    assert curve_times(curves.linear, 5, 1.0, 3.0).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    loop = curve_times(curves.ping_pong, 8, 0.0, 1.0, closed=True)
    assert loop.tolist() == [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]
    for name in RETURNING:  # one step further would be the start again
        t = curve_times(CURVES[name], 17, -0.5, 2.0, closed=True)
        steps = torch.cat([t, t[:1]]).diff().abs()
        assert float(steps[-1]) == pytest.approx(float(steps[0]), abs=1e-12)
    assert curve_times(curves.ease, 3, 0.5, 0.5).tolist() == [0.5, 0.5, 0.5]
    for ends in ((0.0, float("nan")), (float("inf"), float("inf"))):
        with pytest.raises(DiganError, match="must be finite"):
            curve_times(curves.ease, 3, *ends)
    with pytest.raises(DiganError, match="must not be reversed, got 1.0 to 0.5"):
        curve_times(curves.ease, 3, 1.0, 0.5)
