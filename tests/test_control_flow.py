"""Loops and dominators of small graphs."""

from __future__ import annotations

from tests.control_flow import dominators, natural_loops


def test_dominators():
    # A diamond, a piece that nothing leads to, and the end of both ways.
    follows = [[1, 2], [3], [3], [], [3]]
    assert dominators(follows) == {0: 0, 1: 0, 2: 0, 3: 0}


def test_loops_lie_within_one_another():
    assert natural_loops([[1], [2], [2, 3], [1, 4], []]) == [{2}, {1, 2, 3}]


def test_two_ways_back_are_one_loop():
    assert natural_loops([[1], [2, 3], [1], [1, 4], []]) == [{1, 2, 3}]


def test_way_back_past_the_target_is_no_loop():
    # 3 leads back to 2, which 0 enters without it: two entries, none above the other.
    assert natural_loops([[1, 3], [2], [4], [2], []]) == []
    assert natural_loops([[1, 2], [2], [1, 3], []]) == []
