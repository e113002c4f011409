"""The sections of the result page as rows of the benchmark."""

from __future__ import annotations

import pytest
import torch

from digan.bench import showcase_section
from digan.bench.cases import Context, Options
from digan.bench.report import denser_cost, format_results
from digan.bench.rows import Results, Row
from digan.synthesis import Codes, stream


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> Context:
    options = Options(preset="tiny", resolution=32, frames=16, batch=4, precisions=("fp32",),
                      providers=("reference",))  # fmt: skip
    return Context(options, torch.device("cpu"), tmp_path_factory.mktemp("bench"))


def test_every_section_is_measured(context):
    cases = {case.name: case for case in showcase_section.cases(context)}
    assert list(cases) == [
        "long video, 32 of 32x32",
        "time x8, 17 of 32x32",
        "single frame, 1 of 32x32",
        "space x4, 1 of 128x128",
        "zoom 1.5, 8 of 48x48",
        "walk, a code a frame, 8 of 32x32",
        "16 of 32x32, or 1 of 128x128",
    ]
    for case in cases.values():
        for work in case.providers.values():
            work()
    one = sum(flops for flops, _ in cases["single frame, 1 of 32x32"].work["fp32"])
    for name, pixels in (("space x4, 1 of 128x128", 16), ("zoom 1.5, 8 of 48x48", 8 * 2.25)):
        assert sum(flops for flops, _ in cases[name].work["fp32"]) == pixels * one
    for name, case in list(cases.items())[:-1]:
        assert set(case.providers) == {("reference", "fp32")}
        assert f" {case.items} of " in name


def test_shots_have_the_frames_that_are_counted(context):
    network = showcase_section.make_network(context, "fp32", "reference")
    codes = Codes(torch.randn(2, network.num_ws, network.config.latent_dim),
                  torch.randn(2, network.config.latent_dim))  # fmt: skip
    for shot in showcase_section.shots(codes, 16).values():
        assert sum(piece.shape[1] for piece in stream(network, shot)) == shot.frames


def test_normal_frames_and_a_denser_one_are_as_many_pixels(context):
    case = list(showcase_section.cases(context))[-1]
    normal = case.providers["normal frames", "fp32"]()
    dense = case.providers["denser frame", "fp32"]()
    assert normal.shape == (1, 16, 32, 32, 3)
    assert dense.shape == (1, 1, 128, 128, 3)
    assert normal.numel() == dense.numel()


def row(provider: str, seconds: float, precision: str = "fp32") -> Row:
    case = "16 of 32x32, or 1 of 128x128"
    return Row("showcase", case, provider, precision, samples=[[seconds, seconds]])


def test_the_cost_of_a_denser_frame_is_said():
    rows = [row("normal frames", 2.0), row("denser frame", 2.1), row("denser frame", 1.0, "bf16")]
    machine = {"name": "x", "threads": 1, "versions": {"torch": "y"}, "commit": ""}
    options = {"precisions": [], "preset": "tiny", "resolution": 32, "frames": 16, "batch": 4}
    results = Results("now", options, machine, [], {}, rows)
    text = denser_cost(results)
    assert "fp32  default  16.80 normal frames" in text
    assert "bf16" not in text  # nothing to compare it with
    assert text in format_results(results)
    assert denser_cost(Results("now", options, machine, [], {}, rows[2:])) == ""
