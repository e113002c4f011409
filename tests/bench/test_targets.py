"""Targets beside measured figures, the roofline's points, and rows under several settings."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from digan.bench import cases, generator_section, targets, training_section
from digan.bench.cases import SECTIONS, Context, Options
from digan.bench.data_wait import waits_of
from digan.bench.generator_section import UNCHAINED, can_chain
from digan.bench.plots import write_plots
from digan.bench.report import baseline, format_results
from digan.bench.roofline import Roof, points_of, roof_of
from digan.bench.rows import Results, Row, read_results
from digan.errors import DiganError
from digan.nn import Generator
from tests.bench.test_data_wait import loader_rows
from tests.bench.test_measuring import results

CARD = "NVIDIA H200"
PLUGINS = {"bias_act": "its CUDA plugin", "upfirdn2d": "its CUDA plugin"}


def row(section: str, case: str, provider: str, seconds: float, **more) -> Row:
    return Row(section, case, provider, more.pop("precision", "bf16"), samples=[[seconds]], **more)


def measured(name: str = CARD, *, paths: dict[str, str] = PLUGINS) -> Results:
    """The matrix-product rate is 1000 operations a second, the copy 10 bytes a second."""
    found = results(
        row("training", "iteration B=4", "fused", 1.0, items=4, flops=480.0),
        row("training", "R1 step B=4", "fused", 1.6, items=4, flops=640.0),
        row("training", "iteration B=4", "original", 5.0, items=4, precision="fp32"),
        row("training", "R1 step B=4", "original", 8.0, items=4, precision="fp32"),
        row("training", "iteration B=4", "original-tf32", 4.4, items=4, precision="tf32"),
        row("training", "R1 step B=4", "original-tf32", 1.6, items=4, precision="tf32"),
        row("ops", "modulated_linear B=2 2x32x32 I=512 O=512", "fused DIGAN_HOPPER=0", 1.0,
            flops=600.0, bytes=5.0),
        row("ops", "modulated_linear B=2 2x32x32 I=512 O=512", "fused DIGAN_HOPPER=1", 0.75,
            flops=600.0, bytes=5.0),
        row("ops", "bias_act 4x4 +backward", "fused", 1.0, flops=2.0, bytes=4.0),
        row("generator", "T=128 128x128", "fused", 0.003, items=128, unit="frames"),
        row("generator", "T=128 128x128", "unchained", 0.004, items=128, unit="frames"),
        row("generator", "T=2 B=32 128x128 +backward", "fused", 1.0, flops=460.0, bytes=1.0),
        row("generator", "T=2 B=32 128x128 +backward", "compiled", 1.4, flops=460.0, bytes=1.0),
        row("sampling", "its parts, 128 of 128x128", "network", 0.012),
        row("sampling", "its parts, 128 of 128x128", "bytes", 0.001),
        row("sampling", "its parts, 128 of 128x128", "copy", 0.002),
        row("sampling", "its parts, 128 of 128x128", "encoding", 0.5),
        row("gradients", "T=128 B=1 128x128 +backward", "kept", 1.0, peak=90_000_000_000),
        row("gradients", "T=128 B=1 128x128 +backward", "chunks", 1.0, peak=7_000_000_000),
        *loader_rows(0.1, 1.6),
        name=name, device="cuda", gpus=[],
    )  # fmt: skip
    found.options["precisions"] = ["bf16"]
    found.ceilings = [
        {"section": s, "allocator": "default", "flops": {"bf16": 1000.0}, "copy": 10.0}
        for s in SECTIONS
    ]
    found.original = {"commit": "e82", "agreement": {}, "paths": paths}
    found.tables = {
        "profile": [{"label": "iteration", "precision": "bf16", "provider": "fused",
                     "idle_share_untraced": 0.04}],
    }  # fmt: skip
    return found


def test_figures_of_an_h200_are_judged():
    found = {t["figure"]: t for t in targets.targets_of(measured())}
    whole, original = 1.0 + 1.6 / 16, 5.0 + 8.0 / 16
    values = {
        "training, bf16: share of the matrix-product rate": ((480 + 40) / whole / 1000, "met"),
        "training, bf16: samples a second": (4 / whole, "not met"),
        "training against the original": (original / whole, "met"),
        "training against the original with TF32": (4.5 / whole, "reported"),
        "modulated_linear 512 to 512, bf16: share of the matrix-product rate": (0.8, "met"),
        "generator, 128 frames, bf16: layer by layer": (32_000.0, "met"),
        "generator, 128 frames, bf16: layers chained": (128 / 0.003, "met"),
        "generator forward and backward, T=2, bf16: share of the matrix-product rate":
            (0.46, "met"),
        "generator forward and backward against torch.compile": (1.4, "not met"),
        "a 128-frame video to an mp4 file, on the GPU": (15.0, "met"),
        "training on all 128 frames of a clip, B=1, recomputed": (7.0, "met"),
        "idle share of a training iteration": (0.04, "met"),
        "data wait, 8 workers at 200 samples/s": (0.0, "met"),
    }  # fmt: skip
    for figure, (value, verdict) in values.items():
        assert found[figure]["value"] == pytest.approx(value), figure
        assert found[figure]["verdict"] == verdict, figure
    assert set(found) == set(values)
    partly = measured()
    gone = ("sampling", "unchained")
    partly.rows = [r for r in partly.rows if r.section not in gone and r.provider not in gone]
    judged = {t["figure"]: t for t in targets.targets_of(partly)}
    left = [t["verdict"] for t in judged.values() if t["value"] is None]
    none = "not measured: section {} has no such row"
    assert left == [none.format("generator"), none.format("sampling")]
    alone = judged["generator, 128 frames, bf16: layer by layer"]
    assert alone["value"] == pytest.approx(128 / 0.003), "kernels without chains are one row"
    assert "plugins active" in found["training against the original"]["measured"]


def test_the_original_on_its_fallbacks_is_said():
    slow = measured(paths={**PLUGINS, "upfirdn2d": "its slow PyTorch fallback (no ninja)"})
    found = {t["figure"]: t for t in targets.targets_of(slow)}
    assert "NOT active" in found["training against the original"]["measured"]
    assert found["training against the original"]["verdict"] == (
        "not judged: the original ran without its plugins"
    )


def test_another_machine_is_shown_and_not_judged_but_for_its_loader():
    found = {t["figure"]: t for t in targets.targets_of(measured("a card"))}
    assert found.pop("data wait, 8 workers at 200 samples/s")["verdict"] == "met"
    verdicts = {t["verdict"] for t in found.values()}
    assert verdicts == {targets.FOREIGN, "reported"}
    nothing = targets.targets_of(results())
    assert {t["verdict"] for t in nothing if t["section"] != "loader"} == {targets.UNMEASURED}
    assert {t["value"] for t in nothing} == {None}
    assert [t["section"] for t in targets.targets_of(results(), ["ops"])] == ["ops"]


def test_files_of_one_machine_are_put_together(tmp_path, capsys):
    whole = measured()
    sections = ("training", "ops", "generator", "sampling", "gradients", "loader")
    for section in sections:
        part = measured()
        part.rows = [r for r in whole.rows if r.section == section]
        part.ceilings = [c for c in whole.ceilings if c["section"] == section]
        part.tables = whole.tables if section == "training" else {"targets": [{"figure": "old"}]}
        part.original = whole.original if section == "training" else {}
        part.write(tmp_path / f"{section}.json")
    files = [str(tmp_path / f"{section}.json") for section in sections]
    assert targets.main(files) == 0
    text = capsys.readouterr().out
    assert text.strip() == targets.format_targets(targets.targets_of(whole))
    assert "4.0 % (fused)" in text
    measured("another").write(tmp_path / "other.json")
    assert targets.main([*files, str(tmp_path / "other.json")]) == 1
    assert "of one machine, got NVIDIA H200, another" in capsys.readouterr().err
    with pytest.raises(DiganError, match="got none"):
        targets.together([])


def test_tables_survive_a_file_and_old_files_have_none(tmp_path):
    written = measured()
    written.tables["data wait"] = waits_of(written)
    written.write(tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == written
    content = json.loads((tmp_path / "r.json").read_text())
    del content["tables"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert read_results(tmp_path / "old.json").tables == {}


# ------------------------------------------------------------------------- the roofline


def test_points_lie_under_their_roof():
    found = measured()
    roof = roof_of(found, "bf16")
    assert roof == Roof(1000.0, 10.0)
    assert roof.ridge == 100.0
    assert (roof.at(10.0), roof.at(1e4)) == (100.0, 1000.0)
    points = {(p.label, p.marker): p for p in points_of(found, "bf16", roof)}
    product = points["modulated_linear B=2 2x32x32 I=512 O=512", "o"]
    assert (product.intensity, product.rate) == (120.0, pytest.approx(800.0))
    assert product.share == pytest.approx(0.8)
    pointwise = points["bias_act 4x4", "s"]
    assert (pointwise.intensity, pointwise.share) == (0.5, pytest.approx(2.0 / 5.0))
    assert ("generator T=2 B=32 128x128", "s") in points
    assert roof_of(found, "fp16") is None


def test_the_pictures_are_drawn(tmp_path):
    found = measured()
    del found.tables["profile"]
    names = {path.name for path in write_plots(found, tmp_path)}
    assert {"bench-roofline.png", "bench-ops.png", "bench-loader.png"} <= names
    with Image.open(tmp_path / "bench-roofline.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50
    assert "bench-roofline.png" not in {
        path.name for path in write_plots(results(row("ops", "x", "fused", 1.0)), tmp_path)
    }


# ------------------------------------------------------------------------- settings in turns


def test_rows_under_two_settings_are_compared_with_the_first():
    rows = [r for r in measured().rows if "I=512" in r.case]
    assert baseline(rows) == "fused DIGAN_HOPPER=0"
    text = format_results(results(*rows))
    assert "against fused DIGAN_HOPPER=0" in text
    assert "1.33x" in text
    assert baseline(rows[:1]) == ""


def test_the_header_has_driver_and_clocks():
    found = measured()
    found.tables = {"left out": [{"section": "ops", "from": "coord_linear"}]}
    found.machine["gpus"] = [{"driver": "580.1"}]
    found.ceilings[0]["clocks_mhz"] = [[1980.0, 3201.0], [1755.0, 3201.0]]
    text = format_results(found)
    assert "driver 580.1, clocks read: 1,755 to 1,980 MHz" in text
    assert "left out, no time: ops from coord_linear on" in text


def test_what_is_called_reference_on_a_gpu_with_kernels_is_the_formulas(monkeypatch):
    """The ops' own choice there are the kernels, and nothing would be compared."""
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr(cases, "fused_is_active", lambda: True)
    kernels = training_section.KERNELS
    named = {d.type: training_section.named_on(d, "reference") for d in (gpu, cpu)}
    assert {d: kernels[name] for d, name in named.items()} == {"cuda": "reference", "cpu": "auto"}
    assert training_section.named_on(gpu, "fused") == "fused"
    monkeypatch.setattr(cases, "fused_is_active", lambda: False)
    assert training_section.named_on(gpu, "reference") == "reference"
    wanted = Options().providers
    assert [name for name in kernels if name not in wanted] == ["formulas"]


def test_a_generator_that_chains_is_timed_layer_by_layer_too(tmp_path, monkeypatch):
    """In turns with the chains, and only by native kernels."""

    class Chaining(Generator):
        def __init__(self, *arguments, chained=True, **named) -> None:
            super().__init__(*arguments, **named)
            self.chained = chained

    made = []

    def make_network(context, precision, impl):
        made.append(Chaining(context.options.config().generator))
        return made[-1].eval().requires_grad_(False)

    options = Options(preset="tiny", resolution=32, batch=4, precisions=("fp32",),
                      providers=("fused",))  # fmt: skip
    context = Context(options, torch.device("cpu"), tmp_path)
    monkeypatch.setattr(cases, "fused_is_active", lambda: True)
    assert (UNCHAINED, "fp32") not in generator_section.makers(context, 1) or can_chain()
    monkeypatch.setattr(generator_section, "make_network", make_network)
    monkeypatch.setattr(generator_section, "Generator", Chaining)
    makers = generator_section.makers(context, 1)
    assert list(makers) == [("fused", "fp32"), (UNCHAINED, "fp32")]
    frames = [make()() for make in makers.values()]
    assert [network.chained for network in made] == [True, False]
    assert torch.isfinite(frames[1]).all()
    monkeypatch.setattr(cases, "fused_is_active", lambda: False)
    assert generator_section.makers(context, 1) == {}
