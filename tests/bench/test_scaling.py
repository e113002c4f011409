"""Several processes against one: the section's rows, and the figures made of them, by hand."""

from __future__ import annotations

import itertools
import math
import subprocess
from pathlib import Path

import pytest
import torch

from digan.bench import processes_job, processes_section, scaling
from digan.bench.cases import DEFAULT, Context, Options
from digan.bench.report import format_results
from digan.bench.rows import Row
from digan.bench.scaling import ALONE, APART, PROCESSOR, STRONG, WALL, WEAK, efficiency, scaling_of
from digan.errors import DiganError
from digan.training.networks import make_networks
from tests.bench.test_measuring import results

CPU = torch.device("cpu")


def test_efficiency_by_hand():
    """2 samples in 10 s alone; two processes make 4 in 12.5 s, or 2 in 8 s."""
    assert efficiency(10, 2, 12.5, 4, 2) == pytest.approx(0.8)
    assert efficiency(10, 2, 8, 2, 2) == pytest.approx(0.625)
    assert efficiency(10, 2, 10, 16, 8) == 1.0
    assert efficiency(10, 2, 10, 2, 1) == 1.0


def test_a_sum_by_hand():
    """8 bytes over 2 processes of a machine: each sends a half twice; of 4 machines 3/4 twice."""
    assert scaling.sum_seconds(8, gpus=2, link=4) == pytest.approx(2.0)
    assert scaling.sum_seconds(8, gpus=1, link=4, machines=4, network=2) == pytest.approx(6.0)
    assert scaling.sum_seconds(8, gpus=2, link=4, machines=4, network=2) == pytest.approx(8.0)
    assert scaling.expected_efficiency(3.0, 1.0) == 0.75


def rows(strong: bool = True, clock: str = WALL) -> list[Row]:
    """Three rounds; R1 adds 1.6 s, of which an iteration has a sixteenth, 0.1 s."""
    samples = {
        ALONE: ([9.9, 10.9, 8.9], 2),
        APART: ([10.9, 10.9, 10.9], 4),
        WEAK: ([12.4, 11.9, 12.9], 4),
        STRONG: ([7.9, 7.4, 8.9], 2),
    }
    if not strong:
        del samples[STRONG]
    found = [
        Row(scaling.SECTION, scaling.iteration_case(2, 2, 64, penalty, clock), name, "fp32",
            unit="samples", items=items, samples=[[s + 1.6 * penalty for s in seconds]])
        for penalty in (False, True)
        for name, (seconds, items) in samples.items()
    ]  # fmt: skip
    for what, size, seconds in ((scaling.GENERATOR, 160, 1.0), (scaling.DISCRIMINATOR, 320, 2.0)):
        case = scaling.message_case(2, what)
        found.append(Row(scaling.SECTION, case, scaling.AS_TRAINED, "fp32", bytes=size,
                         samples=[[seconds]]))  # fmt: skip
    return found


def test_figures_by_hand():
    (found,) = scaling_of(results(*rows()))
    assert (found["processes"], found["batch"], found["precision"]) == (2, 2, "fp32")
    seconds = [found[name] for name in ("alone", "apart", "weak", "strong")]
    assert seconds == pytest.approx([10, 11, 12.5, 8])
    assert found["machine"] == pytest.approx(10 / 11)
    assert found["coupled"] == pytest.approx(11 / 12.5)
    assert found["weak_efficiency"] == pytest.approx(0.8)
    assert found["machine"] * found["coupled"] == pytest.approx(found["weak_efficiency"])
    assert found["strong_efficiency"] == pytest.approx(0.625)
    # The rounds: 10/12.5, 11/12 and 9/13 weak; 10/16, 11/15 and 9/18 strong.
    assert found["weak_range"] == pytest.approx((9 / 13, 11 / 12))
    assert found["strong_range"] == pytest.approx((0.5, 11 / 15))
    assert found["bytes"] == pytest.approx(160 + 320 * 17 / 16)
    assert found["messages"] == pytest.approx(1 + 2 * 17 / 16)
    text = format_results(results(*rows()))
    assert "0.909, 0.880, 0.800 (0.692 - 0.917), 0.625 (0.500 - 0.733)" in text
    assert "3.1250 s, 25.0 % of it (weak)" in text
    assert "against one alone" in text


def test_both_clocks_have_figures_of_their_own():
    both = rows() + rows(clock=PROCESSOR)
    for row in both[len(rows()) :]:
        row.samples = [[s / 2 for s in row.samples[0]]]
    wall, processor = scaling_of(results(*both))
    assert (wall["clock"], processor["clock"]) == (WALL, PROCESSOR)
    assert [f["weak"] for f in (wall, processor)] == pytest.approx([12.5, 6.25])
    assert wall["weak_efficiency"] == processor["weak_efficiency"] == pytest.approx(0.8)
    text = scaling.format_scaling([wall, processor])
    assert text.count("sums of an iteration") == 1


def test_what_is_not_there():
    (found,) = scaling_of(results(*rows(strong=False)))
    assert found["weak_efficiency"] == pytest.approx(0.8)
    assert math.isnan(found["strong_efficiency"])
    assert scaling_of(results(*[r for r in rows() if r.provider != APART])) == []
    assert scaling_of(results()) == []
    assert scaling.format_scaling([]) == ""


def test_two_processes_in_small(tmp_path):
    """The section as it is, with tiny networks and one round."""
    options = Options(sections=(scaling.SECTION,), preset="tiny", resolution=32, frames=8, batch=4,
                      precisions=("fp32",), repeats=1, threads=1,
                      providers=("reference",))  # fmt: skip
    found = processes_section.rows(Context(options, CPU, tmp_path))
    config = options.config()
    parameters = [
        sum(p.numel() for p in network.parameters())
        for network in make_networks(config, torch.device("meta"), "auto")
    ]
    by_key = {(row.case, row.provider): row for row in found}
    for penalty, clock in itertools.product((False, True), (WALL, PROCESSOR)):
        case = scaling.iteration_case(2, 4, 32, penalty, clock)
        items = {name: by_key[case, name].items for name in (ALONE, APART, WEAK, STRONG)}
        assert items == {ALONE: 4, APART: 8, WEAK: 8, STRONG: 4}
        assert all(by_key[case, name].median > 0 for name in items)
    for what, count in zip((scaling.GENERATOR, scaling.DISCRIMINATOR), parameters, strict=True):
        for way in (scaling.AS_TRAINED, scaling.ANEW, scaling.REDUCED):
            row = by_key[scaling.message_case(2, what), way]
            assert row.bytes == 4 * count
            assert row.median > 0
    sizes = [row.bytes for row in found if row.case.startswith("message of")]
    assert sizes == sorted(sizes)
    assert sizes[0] == 4096
    assert sizes[-1] <= 4 * max(parameters)
    figures, processor = scaling_of(results(*found))
    assert (figures["clock"], processor["clock"]) == (WALL, PROCESSOR)
    alone, weak = (figures[name] for name in ("alone", "weak"))
    assert figures["weak_efficiency"] == pytest.approx(alone / weak)
    assert figures["strong_efficiency"] == pytest.approx(alone / figures["strong"] / 2)
    assert figures["bytes"] == 4 * (parameters[0] + parameters[1] * 17 / 16)


def test_an_error_of_a_process_is_one_line(tmp_path, monkeypatch):
    """A process that knows why writes it down; of one that does not, its own words are found."""

    def in_this_process(command, **_):
        status = processes_job.main(*map(Path, command[-2:]))
        return subprocess.CompletedProcess(command, status, stdout="")

    monkeypatch.setattr(subprocess, "run", in_this_process)
    context = Context(Options(preset="tiny", resolution=32, batch=6), CPU, tmp_path)
    with pytest.raises(DiganError, match="^2 processes: .*multiple of 4"):
        processes_section.rows(context)

    def crash(command, **_):
        said = "[rank1]: Traceback\n[rank1]: KeyError: 'x'\nChildFailedError\n"
        return subprocess.CompletedProcess(command, 1, stdout=said)

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(DiganError, match=r"^2 processes ended with 1: \[rank1\]: KeyError: 'x'$"):
        processes_section.rows(context)


@pytest.mark.parametrize(
    ("scale_to", "expected"), [(None, [2]), (2, [2]), (3, [2, 3]), (8, [2, 4, 8]), (6, [2, 4, 6])]
)
def test_numbers_of_processes(scale_to, expected, tmp_path):
    options = Options(scale_to=scale_to)
    assert processes_section.numbers(Context(options, CPU, tmp_path)) == expected


@pytest.mark.parametrize(("count", "scale_to"), [(1, None), (4, 8), (0, 2)])
def test_every_process_needs_a_gpu(count, scale_to, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    context = Context(Options(scale_to=scale_to), torch.device("cuda"), tmp_path)
    with pytest.raises(DiganError, match=f"there are {count}; --device cpu"):
        processes_section.numbers(context)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    assert processes_section.numbers(context)[-1] == (scale_to or 8)


def test_only_on_request():
    assert scaling.SECTION not in DEFAULT
    assert "training" in DEFAULT
