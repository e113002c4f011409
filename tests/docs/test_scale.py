"""The numbers on scale in docs/notes/distributed.md are those of the networks and the formula."""

from __future__ import annotations

import re

import pytest
import torch

from digan.bench.rows import Results, Row, read_results
from digan.bench.scaling import (
    ANEW,
    AS_TRAINED,
    REDUCED,
    expected_efficiency,
    scaling_of,
    sum_seconds,
)
from digan.config import PRESETS, resolve
from digan.training.networks import make_networks
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "notes" / "distributed.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
R1_SHARE = 1 / PRESETS["official"].d_reg_interval


def parameters(preset: str, resolution: int) -> tuple[int, int]:
    """Of the generator, and of both discriminators."""
    config = resolve(PRESETS[preset], resolution=resolution, num_classes=0)
    networks = make_networks(config, torch.device("meta"), "auto")
    generator, discriminators = (sum(p.numel() for p in n.parameters()) for n in networks)
    return generator, discriminators


def iteration_bytes(preset: str, resolution: int) -> float:
    generator, discriminators = parameters(preset, resolution)
    return 4 * (generator + discriminators * (1 + R1_SHARE))


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins so."""
    table = PAGE.partition(f"\n| {first} ")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_parameters_and_bytes_of_the_published_networks():
    generator, discriminators = parameters("official", 128)
    assert (
        f"{generator / 1e6:.1f} million parameters in the generator and "
        f"{discriminators / 1e6:.1f} million in the discriminators" in PROSE
    )
    said = {name.strip("*"): size.strip("*") for name, size in rows("message |")}
    assert said["generator phase"] == f"{4 * generator / 1e6:.0f} MB"
    assert said["discriminator phase"] == f"{4 * discriminators / 1e6:.0f} MB"
    assert said["R1, every 16th iteration"] == said["discriminator phase"]
    assert said["an iteration"] == f"{iteration_bytes('official', 128) / 1e6:.0f} MB"
    assert f"At 64x64 an iteration has {iteration_bytes('official', 64) / 1e6:.0f} MB" in PROSE
    assert f"`fast` preset has {iteration_bytes('fast', 128) / 1e6:.0f} MB" in PROSE


@pytest.mark.parametrize("row", rows("GPUs |"), ids=lambda row: f"{row[0]}-{row[2]}")
def test_expected_efficiency(row):
    gpus, link, network, messages, *shares = row
    seconds = sum_seconds(
        iteration_bytes("official", 128),
        gpus=8,
        link=float(link.split()[0]) * 1e9,
        machines=int(gpus) // 8,
        network=1.0 if network == "-" else float(re.search(r", (\d+) GB/s", network)[1]) * 1e9,
    )
    assert messages == f"{1e3 * seconds:.1f} ms"
    expected = [expected_efficiency(samples / 200, seconds) for samples in (8, 16, 32)]
    assert shares == [f"{share:.0%}".replace("%", " %") for share in expected]


def measured_tables(results: Results) -> tuple[list[list[str]], list[list[str]]]:
    """What the page's two tables must say of a run: iterations by clock, and messages by size."""
    clocks = {"wall": "on the wall", "processor": "of the processor"}
    iterations = [
        [
            clocks[s["clock"]],
            *(f"{s[name]:.1f}" for name in ("alone", "apart", "weak", "strong")),
            *(f"{s[name]:.0%}".replace("%", " %")
              for name in ("machine", "coupled", "weak_efficiency", "strong_efficiency")),
        ]
        for s in scaling_of(results)
    ]  # fmt: skip
    times: dict[str, dict[str, Row]] = {}
    for row in results.rows:
        if row.bytes:
            times.setdefault(row.case.rpartition(", ")[0], {})[row.provider] = row
    messages = []
    for name, ways in times.items():
        size = next(iter(ways.values())).bytes
        assert size is not None
        if size >= 2**20:
            label = f"{size / 1e6:.0f} MB" + (f", {name}" if "gradients" in name else "")
            seconds = [ways[way].median for way in (AS_TRAINED, ANEW, REDUCED)]
            messages.append([label, *(f"{1e3 * s:.0f} ms" for s in seconds)])
    return iterations, messages


def test_what_was_measured():
    found = read_results(ROOT / "benchmarks" / "results" / "cpu-xeon2-processes.json")
    iterations, messages = measured_tables(found)
    assert rows("iteration, seconds |") == iterations
    assert sorted(rows("sum of |")) == sorted(messages)


def test_there_are_one_machine_and_many():
    assert {row[0] for row in rows("GPUs |")} == {"8", "64", "512"}
