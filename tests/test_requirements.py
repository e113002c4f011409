"""The skip-or-fail rule of tests/requirements.py and the table of skips."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.conftest import skip_table
from tests.requirements import require, required


def test_missing_need_skips_where_it_is_not_required(monkeypatch):
    monkeypatch.setenv("DIGAN_REQUIRE", "golden")
    with pytest.raises(pytest.skip.Exception, match="gpu: none here"):
        require("gpu", "none here")


def test_missing_need_fails_where_it_is_required(monkeypatch):
    monkeypatch.setenv("DIGAN_REQUIRE", "golden, gpu")
    with pytest.raises(pytest.fail.Exception, match="gpu is required here"):
        require("gpu", "none here")


def test_unknown_names_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="must hold names of .*, got gold"):
        required({"DIGAN_REQUIRE": "nvcc,gold"})
    with pytest.raises(ValueError, match="must be one of .*, got cpu"):
        require("cpu", "none here")


def test_names_are_split_at_commas():
    assert required({"DIGAN_REQUIRE": " nvcc, golden,"}) == {"nvcc", "golden"}
    assert required({}) == frozenset()


def test_skip_table_counts_by_reason():
    def skipped(reason: str) -> SimpleNamespace:
        return SimpleNamespace(longrepr=("tests/x.py", 3, f"Skipped: {reason}"))

    reports = [skipped("gpu: none"), skipped("golden: none"), skipped("gpu: none")]
    assert skip_table(reports) == ["    2  gpu: none", "    1  golden: none"]
    assert skip_table([]) == []
