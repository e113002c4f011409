"""The section of what gradients hold: counted, and measured in fresh processes."""

from __future__ import annotations

import re

import pytest
import torch

from digan.bench import memory_section
from digan.bench.cases import Context, Options


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """Of a tiny generator, for clips of 4 and 12 frames."""
    monkeypatch.setattr(memory_section, "FRAMES", (4, 12))
    monkeypatch.setattr(memory_section, "HOW", ("kept", "recomputed"))
    monkeypatch.setattr(memory_section, "SAMPLES", (4,))
    # Pieces of a GPU hold more than a tiny clip.
    monkeypatch.setattr("digan.nn.pieces._GPU_KEPT_BYTES", 64 * 64 * 4)
    monkeypatch.setattr("digan.nn.pieces._SHARING_FRAMES", 1)
    monkeypatch.setattr("digan.nn.dense._CHUNK_PIXELS", 64 * 64)
    monkeypatch.setattr("digan.nn.recompute._SLICE_PIXELS", 64 * 64)
    options = Options(preset="tiny", resolution=64, precisions=("fp32",), threads=1)
    found = memory_section.rows(Context(options, torch.device("cpu"), tmp_path))
    return {(row.case, row.provider): row for row in found}


def counted(row) -> float:
    return float(re.match(r"counted (?:, MB: G )?([\d,]+)", row.note)[1].replace(",", ""))


def test_rows(rows):
    dense = {
        (frames, how): rows[f"T={frames} B=1 64x64 +backward", how]
        for frames in (4, 12)
        for how in memory_section.HOW
    }
    assert counted(dense[12, "kept"]) > 1.8 * counted(dense[4, "kept"])
    assert counted(dense[12, "recomputed"]) < 1.4 * counted(dense[4, "recomputed"])
    assert counted(dense[12, "recomputed"]) < counted(dense[12, "kept"])
    for (frames, how), row in dense.items():
        assert (row.peak is not None) == (frames == 4), how
        assert bool(row.samples) == (frames == 4)
    phases = [rows["pass of 4 pairs 64x64", how].note for how in ("kept", "recomputed")]
    numbers = [
        [int(n.replace(",", "")) for n in re.findall(r" ([\d,]+)(?:,|$)", p)] for p in phases
    ]
    (g, d, r1), again = numbers
    assert again[0] < g / 2, phases
    assert again[1] <= d, phases  # the fakes, made without gradients, hold the most
    assert again[2] < r1 / 2, phases
