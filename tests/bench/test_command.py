"""`digan bench` and benchmarks/bench_inr.py as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from digan import ops
from digan.bench import generator_section, inr_rows, op_section
from digan.bench.cases import Context, Options
from digan.bench.command import run
from digan.bench.counting import count_flops
from digan.bench.rows import read_results
from digan.errors import DiganError
from tests.exact_op_cases import ALL_OPS

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "--preset=tiny", "--resolution=32", "--frames=16", "--batch=4", "--processes=2",
    "--repeats=1", "--allocator=default", "--precision=fp32", "--threads=1", "--device=cpu",
]  # fmt: skip


def bench(*words: str, script: str = "bench_inr.py") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *words],
        capture_output=True, text=True, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


@pytest.mark.slow
def test_a_small_benchmark_from_end_to_end(tmp_path):
    """Table, JSON, pictures, and the comparison of the file with itself."""
    done = bench(
        "--section", "generator,training,loader", "--providers", "reference", *SMALL,
        "--json", str(tmp_path / "r.json"), "--plot", str(tmp_path / "plots"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "32x32, clips of 16 frames, batch 4" in done.stdout
    assert "whole clips" in done.stdout
    headline = done.stdout.partition("training, 16-frame 32x32 clips")[2].splitlines()
    assert headline[1].split()[:3] == ["reference", "fp32", "default"]
    assert "videos/s" in headline[1]
    assert "not measured: needs an H200" in done.stdout
    assert "0.00 % (calculated)" in done.stdout
    found = read_results(tmp_path / "r.json")
    by_case = {(r.section, r.case.split()[0], r.provider): r for r in found.rows}
    rendered = by_case["generator", "T=16", "reference"]
    assert [len(process) for process in rendered.samples] == [1, 1]
    assert rendered.flops > 1e8
    assert 0 < rendered.floor_share < 1
    peaks = [by_case["generator", f"T={t}", "reference"].peak for t in (1, 16, 128, 256)]
    assert all(peak > 1e8 for peak in peaks)
    assert peaks[3] < 1.2 * peaks[1], "memory must not grow with T"
    assert by_case["training", "iteration", "reference"].peak > 1e8
    for name in ("generator", "training", "loader", "memory"):
        with Image.open(tmp_path / "plots" / f"bench-{name}.png") as picture:
            assert picture.width > 500
            assert len(set(picture.convert("L").resize((64, 64)).getdata())) > 8
    same = bench(str(tmp_path / "r.json"), str(tmp_path / "r.json"), script="compare.py")
    assert same.returncode == 0
    assert "1.000" in same.stdout
    assert "no difference shown" in same.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sectoin", "ops"], "did you mean '--section'?"),
        (["--section", "generatr"], "did you mean 'generator'?"),
        (["--precision", "fp8"], "must be of fp32,bf16,fp16"),
        (["--repeats", "0"], "must be at least 1"),
        (["--section", ","], "got nothing"),
        (["--vary", "DIGAN_HOPPER=1"], "must be DIGAN_NAME=A,B, got 'DIGAN_HOPPER=1'"),
        (["--vary", "PATH=a,b"], "must be DIGAN_NAME=A,B"),
        (["--seconds", "0"], "must be at least 1"),
        (["extra"], "'extra'"),
    ],
)
def test_wrong_flags_are_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "6"], "multiple of 4"),
        (["--resolution", "100"], "power of two"),
        (["--official", "nowhere"], "nowhere"),
        (["--json", "{file}/r.json"], "file"),
        (["--plot", "{file}/plots"], "file"),
        (["--trace", "{file}/trace.json"], "file"),
    ],
)
def test_what_cannot_work_fails_before_the_work(words, said, tmp_path):
    (tmp_path / "file").write_text("")
    words = [word.format(file=tmp_path / "file") for word in words]
    with pytest.raises(DiganError, match=said):
        run(["--device", "cpu", *words])


def test_a_failing_worker_is_one_line(monkeypatch):
    monkeypatch.setenv("DIGAN_OPS", "nonsense")
    done = bench("--section", "generator", "--providers", "reference", *SMALL)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("bench_inr.py: error:")
    assert "DIGAN_OPS" in last


def test_help_shows_how_to_get_the_original(capsys):
    with pytest.raises(SystemExit) as ended:
        run(["--help"])
    assert ended.value.code == 0
    assert "git clone https://github.com/sihyun-yu/digan" in capsys.readouterr().out


def test_every_op_has_its_rows(tmp_path):
    """Forward and with gradients, in the shapes that the tests use, and they run."""
    import torch

    options = Options(preset="tiny", resolution=32, batch=4, precisions=("fp32", "bf16"))
    context = Context(options, torch.device("cpu"), tmp_path)
    seen = set()
    for name, size, arguments in op_section.sizes(context) + op_section.tile_sizes(context):
        seen.add(name)
        inputs = op_section.make_inputs(name, size, torch.float32, context.device)
        assert list(inputs) == list(ALL_OPS[name].shapes(size))
        out = getattr(ops, name)(**inputs, **arguments)
        assert torch.isfinite(out).all()
    assert seen == set(ALL_OPS)
    providers = {
        subject
        for case in op_section._inr_cases(context)
        for subject in case.providers
        if case.work[subject[1]][0][0] > 0
    }
    kept = "nn.Sequential, features kept"
    assert {name for name, _ in providers} == {"CoordMLP", "nn.Sequential", kept}
    assert inr_rows is not None


def test_reference_rows_of_one_op_agree(tmp_path):
    """What is timed side by side computes the same."""
    import torch

    options = Options(preset="tiny", resolution=32, batch=4, providers=("reference",))
    context = Context(options, torch.device("cpu"), tmp_path)
    found = [s for s in op_section.sizes(context) if s[0] == "coord_linear"]
    for name, size, arguments in found:
        check_agreement(context, name, size, arguments)
    assert sorted("skip" in size for _, size, _ in found) == [False, True]


def check_agreement(context, name, size, arguments) -> None:
    import torch

    work = {}
    for form in op_section.FORMS:
        case = op_section._case(context, name, size, arguments, form)
        work[form] = case.work["fp32"][0]
        # Without a skip the other way to compute it stands beside.
        rotated = {"rotated"} if form == op_section.FORWARD and "skip" in size else set()
        assert set(case.providers) == {
            (provider, precision)
            for provider in {"reference", "formula", *rotated}
            for precision in ("fp32", "bf16")
        }
        agreeing = case
        if form != op_section.FORWARD:
            # Of half a million pre-activations one may lie so near lrelu's kink that the two ways
            # round it to either side. That slope is another, and right in both.
            smooth = {**arguments, "activation": "gelu"}
            agreeing = op_section._case(context, name, size, smooth, form)
        outputs = [agreeing.providers[provider, "fp32"]() for provider in ("reference", "formula")]
        pairs = [outputs] if form == op_section.FORWARD else zip(*outputs, strict=True)
        for a, b in pairs:
            assert (a - b).norm() < 1e-5 * b.norm()
        assert case.work["fp32"][0][0] > 0
        assert case.work["bf16"][0][1] < case.work["fp32"][0][1]
        if rotated:
            frames = torch.cat(case.providers["rotated", "fp32"](), dim=1)
            assert (frames - outputs[0]).norm() < 1e-5 * frames.norm()
    forward, both, gradients = (work[form] for form in op_section.FORMS)
    assert [sum(parts) for parts in zip(forward, gradients, strict=True)] == list(both)


def test_the_generators_training_step_is_counted_and_agrees(tmp_path):
    """Its floor is three passes over the layers; the providers give the same gradients."""
    import torch

    options = Options(preset="tiny", resolution=32, batch=4, precisions=("fp32",))
    context = Context(options, torch.device("cpu"), tmp_path)
    case = generator_section.training_case(context)
    assert ("reference", "fp32") in case.providers
    step = case.providers["reference", "fp32"]
    counted = count_flops(step)
    assert 0.9 * counted < sum(flops for flops, _ in case.work["fp32"]) <= counted
    again = generator_section._step(context, "fp32", "reference", "reference")
    for ours, theirs in zip(step(), again(), strict=True):
        assert (ours - theirs).norm() <= 5e-3 * theirs.norm()  # slopes at a kink
    assert case.items == 8
