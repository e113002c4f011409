"""What flags accept, and the sentence for what they do not."""

from __future__ import annotations

import argparse

import pytest

from digan.bench.flags import at_least, some_of


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        (at_least(2), "2", 2),
        (at_least(0), "17", 17),
        (at_least(0, float), "0.5", 0.5),
        (some_of(["ops", "loader"]), "loader", ("loader",)),
        (some_of(["ops", "loader"]), " loader, ops,", ("loader", "ops")),
    ],
)
def test_accepts(flag, text, value):
    found = flag(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        (at_least(2), "1", "must be at least 2, got '1'"),
        (at_least(2), "many", "must be at least 2, got 'many'"),
        (at_least(2), "2.5", "must be at least 2, got '2.5'"),
        (at_least(0, float), "-0.1", "must be at least 0, got '-0.1'"),
        (at_least(0, float), "nan", "must be at least 0, got 'nan'"),
        (some_of(["ops", "loader"]), "ops,looder", "got 'looder', did you mean 'loader'?"),
        (some_of(["ops", "loader"]), ",", "must be of ops,loader, got nothing"),
    ],
)
def test_refuses(flag, text, said):
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        flag(text)
    assert str(refused.value).endswith(said)
