"""One video to a file as rows of the benchmark, and what the report makes of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from digan.bench import sampling_section
from digan.bench.cases import Context, Options
from digan.bench.report import format_results
from digan.bench.rows import Results, Row
from digan.bench.sampling_report import overlap_efficiency, sampling_summary
from digan.data.video import decode_frames


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    options = Options(preset="tiny", resolution=32, frames=12, batch=4, precisions=("fp32",),
                      providers=("reference",))  # fmt: skip
    return Context(options, torch.device("cpu"), tmp_path_factory.mktemp("bench"))


def test_both_ways_write_the_same_video(context):
    whole, parts = sampling_section.cases(context)
    assert (whole.name, parts.name) == ("to mp4, 12 of 32x32", "its parts, 12 of 32x32")
    assert list(parts.providers) == [
        (part, "fp32") for part in ("network", "bytes", "copy", "encoding")
    ]
    assert whole.work["fp32"]
    files = []
    for name in ("serial", "overlapped"):
        whole.providers[name, "fp32"]()
        file = context.folder / "video.mp4"
        files.append(np.stack([frame.image for frame in decode_frames(file)]))
        file.unlink()
    assert files[0].shape == (12, 32, 32, 3)
    assert files[0].std() > 1
    assert np.abs(files[0].astype(int) - files[1]).mean() < 1
    for part in parts.providers.values():
        part()
    assert (context.folder / "video.mp4").stat().st_size > 0


def row(provider: str, seconds: float) -> Row:
    case = "to mp4, 12 of 32x32" if provider in ("serial", "overlapped") else "its parts"
    return Row("sampling", case, provider, "fp32", unit="frames", items=12, samples=[[seconds]])


def test_the_summary_says_what_was_hidden():
    assert overlap_efficiency(3.0, 2.0, 2.0) == 1.0
    assert overlap_efficiency(3.0, 2.5, 2.0) == 0.5
    assert math.isnan(overlap_efficiency(3.0, 2.99, 2.999))
    rows = [row("serial", 3.0), row("overlapped", 2.25), row("network", 2.0), row("bytes", 0.01),
            row("copy", 0.001), row("encoding", 1.0)]  # fmt: skip
    results = Results("", {}, {}, [], {}, rows)
    said = sampling_summary(results)
    assert "3.000 s one after the other,   2.250 s overlapped (5.3 frames/s, 1.33x; 75 %" in said
    assert "network 2,000.0 ms, bytes 10.0 ms, copy 1.0 ms, encoding 1,000.0 ms" in said
    assert sampling_summary(Results("", {}, {}, [], {}, [])) == ""
    options = {"preset": "tiny", "resolution": 32, "frames": 12, "batch": 4, "precisions": []}
    machine = {"versions": {"torch": "2"}, "name": "m", "threads": 1, "commit": ""}
    text = format_results(Results("", options, machine, [], {}, rows))
    assert said in text
    assert "against serial" in text
