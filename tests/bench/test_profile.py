"""Traces summed up: what a kernel is for, and where the time of an iteration went.

The synthetic traces have durations and gaps that add up by hand.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from digan.bench import profile_section
from digan.bench.cases import Context, Options
from digan.bench.kernel_classes import CLASSES, COLOURS, ROOT, kernel_class, op_class, place
from digan.bench.profile_report import draw_profiles, format_profiles
from digan.bench.trace import read_events, summarize
from digan.bench.training_section import captured, run_settings
from digan.errors import DiganError
from digan.plotting import pyplot

# A class a paragraph; AT stands for at::native::.
KERNELS = """
convolution
sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64
sm80_xmma_wgrad_implicit_gemm_indexed_tf32f32_tf32f32_f32_nhwckrsc_nhwc_kernel_cudnn
void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816dgrad_optimized_bf16_128x128>(...)
void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>(...)
void AT(anonymous namespace)::conv_depthwise2d_forward_kernel<0>(...)

matrix
void digan::modulated_linear_kernel<digan::gemm::Bf16, 128, 256>(digan::Layer<...>)
void digan::coord_linear_dphase_kernel<digan::gemm::Tf32>(...)
void digan::coord_chain_kernel<__nv_bfloat16>(...)
nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NNT
ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn
void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x128>(...)
void cublasLt::splitKreduce_kernel<32, 16, int, float>(...)
void gemv2T_kernel_val<int, int, float>(...)

pointwise
void digan::bias_act_kernel<__nv_bfloat16, 8>(...)
void bias_act_kernel<float, 3>(bias_act_kernel_params)
void digan::sum_parts_kernel<float, float>(digan::SumTasks<float, float>)
void ATvectorized_elementwise_kernel<4, ATCUDAFunctor_add<float>>(...)
void ATreduce_kernel<512, 1, ATReduceOp<float, MeanOps>>(...)
void ATmulti_tensor_apply_kernel<TensorListMetadata<1>, LpNormFunctor<float>>(...)
triton_poi_fused_add_leaky_relu_mul_3

fir
void digan::fir_resample_tile_kernel<__nv_bfloat16>(...)
void upfirdn2d_kernel_small<c10::Half, 1, 1, 2, 2, 4, 4>(upfirdn2d_kernel_params)

features
void digan::fourier_features_axes_kernel<float>(...)
void digan::factorized_modulation_backward_rows_kernel<float>(...)

optimiser
void ATmulti_tensor_apply_kernel<FusedMetadata<4>, ATFusedAdamMathFunctor<float, 4>>(...)
void ATmulti_tensor_apply_kernel<TensorListMetadata<2>, ATTernaryOp, LerpFunctor<float>>(...)

copy
void ATmulti_tensor_apply_kernel<Metadata<2>, ATUnaryOpFunctor, Copy<c10::BFloat16, float>>(...)
void ATunrolled_elementwise_kernel<ATdirect_copy_kernel_cuda(at::TensorIteratorBase&)>(...)
void ATvectorized_elementwise_kernel<8, ATbfloat16_copy_kernel_cuda(...)>(...)
void ATvectorized_elementwise_kernel<4, ATFillFunctor<float>>(...)
void AT(anonymous namespace)::CatArrayBatchedCopy<float, unsigned int, 4, 64, 64>(...)
void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, float>(...)
Memcpy HtoD (Pinned -> Device)
Memset (Device)
triton_poi_fused__to_copy_7

draws
void AT(anonymous namespace)::distribution_elementwise_grid_stride_kernel<float, 4>(...)

communication
ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)

unknown
a_kernel_that_nobody_knows
"""
NAMED = [
    (re.sub(r"\bAT", "at::native::", name), kind)
    for kind, *names in (part.splitlines() for part in KERNELS.strip().split("\n\n"))
    for name in names
]


@pytest.mark.parametrize(("name", "kind"), NAMED, ids=str)
def test_kernels_are_told_by_their_names(name, kind):
    assert (kernel_class(name) or "unknown") == kind


def test_every_kernel_of_ours_has_a_class():
    """By the names in csrc: none of the library's own kernels may be unknown."""
    sources = (Path(__file__).resolve().parents[2] / "csrc").rglob("*.cu*")
    names = {
        name for source in sources
        for name in re.findall(r"\b(\w+_kernel)\(", source.read_text()) if "launch" not in name
    }  # fmt: skip
    assert len(names) > 15
    assert {name for name in names if kernel_class(f"void digan::{name}<float>()") is None} == set()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mkldnn_convolution", "convolution"), ("aten::convolution_backward", "convolution"),
        ("aten::_slow_conv2d_backward", "convolution"), ("aten::conv2d", "convolution"),
        ("aten::addmm", "matrix"), ("mkldnn::_linear_pointwise", "matrix"),
        ("digan::coord_linear_backward", "matrix"), ("digan::bias_act", "pointwise"),
        ("aten::leaky_relu_backward", "pointwise"), ("aten::add_", "pointwise"),
        ("aten::linalg_vector_norm", "pointwise"), ("digan::fir_resample", "fir"),
        ("digan::factorized_modulation", "features"), ("aten::_fused_adam_", "optimiser"),
        ("aten::_foreach_lerp_", "optimiser"), ("aten::copy_", "copy"), ("aten::to", "copy"),
        ("aten::normal_", "draws"), ("aten::select_backward", None),
        ("aten::addcmul_", "pointwise"),
    ],
)  # fmt: skip
def test_operations_are_told_by_their_names(name, kind):
    assert op_class(name) == kind


def test_what_an_operation_is_inside_of_decides():
    """FIR keeps the convolution that does it; a convolution the product, but not its copies."""
    fir = place("digan::fir_resample", ROOT, calls_others=True)
    assert (fir.own, fir.inner, fir.closed) == ("idle", "fir", True)
    assert place("aten::mkldnn_convolution", fir, calls_others=False).own == "fir"
    assert place("Wrapper", fir, calls_others=True).own == "idle"
    convolution = place("aten::convolution_backward", ROOT, calls_others=True)
    assert place("aten::mm", convolution, calls_others=False).own == "convolution"
    assert place("aten::copy_", convolution, calls_others=False).own == "copy"
    assert place("aten::empty", convolution, calls_others=False).own == "convolution"
    engine = place("autograd::engine::evaluate_function: ConvolutionBackward0", ROOT, True)
    assert engine == ROOT
    assert place("aten::view", engine, calls_others=False).own == "idle"
    assert place("aten::unheard_of", engine, calls_others=False).own == "other"
    assert place("digan::bias_act", ROOT, calls_others=False).own == "pointwise"


# ------------------------------------------------------------------------- synthetic traces


def event(cat, name, ts, dur, tid=1, **arguments):
    return {"ph": "X", "cat": cat, "name": name, "ts": ts, "dur": dur, "pid": 1, "tid": tid,
            "args": arguments}  # fmt: skip


def mark(name, ts, dur):
    return event("user_annotation", f"digan: {name}", ts, dur)


def gpu_trace() -> list[dict]:
    """Three iterations; of the second, kernels (microseconds):

    500 - 600 convolution (G), 600 - 650 our product (G), gap 50,
    700 - 800 FIR, and on another stream 750 - 850 an addition (D), of which 50 count,
    gap 50, 900 - 940 unknown, launched by aten::mm, 940 - 950 unknown, launched by nobody known,
    950 - 970 elementwise inside Optimizer.step, 970 - 990 elementwise in EMA (between: none),
    gap 10; the third iteration's first kernel at 1000.
    """
    numbers = itertools.count(1)
    events = [mark("iteration", 0, 100), mark("iteration", 100, 200), mark("iteration", 300, 50)]
    events += [mark("G", 110, 40), mark("D", 150, 100), mark("EMA", 260, 20)]
    events += [event("user_annotation", "Optimizer.step#Adam.step", 240, 8)]
    events += [event("cpu_op", "aten::mm", 200, 10, **{"External id": 77})]

    def kernel(name, launch, start, length, stream=7, cat="kernel", **more):
        number = next(numbers)
        runtime = "cudaGraphLaunch" if launch == 111 else "cudaLaunchKernel"
        events.append(event("cuda_runtime", runtime, launch, 1, correlation=number))
        events.append(event(cat, name, start, length, stream, correlation=number, **more))

    kernel("cudnn of the first iteration", 50, 300, 100)
    kernel("sm90_xmma_fprop_implicit_gemm", 111, 500, 100)
    kernel("void digan::modulated_linear_kernel<>", 112, 600, 50)
    kernel("void digan::fir_resample_kernel<>", 160, 700, 100)
    kernel("vectorized_elementwise_kernel<CUDAFunctor_add>", 170, 750, 100, stream=9)
    kernel("new_kernel", 205, 900, 40, **{"External id": 77})
    kernel("newer_kernel", 215, 940, 10)
    kernel("vectorized_elementwise_kernel<Anything>", 242, 950, 20)
    kernel("vectorized_elementwise_kernel<Anything>", 265, 970, 20)
    kernel("Memcpy HtoD", 310, 1000, 5, cat="gpu_memcpy")
    return events


def test_what_was_launched_unseen_keeps_a_gpu_busy_too():
    """In the gap of 50 microseconds before 700, and outside of the iteration."""
    more = [event("gpu_memset", "Memset (Device)", start, 20, correlation=999)
            for start in (660, 2000)]  # fmt: skip
    found = summarize([*gpu_trace(), *more], which=1)
    assert found.seconds["copy"] == pytest.approx(20e-6)
    assert found.seconds["idle"] == pytest.approx(90e-6)
    assert found.phases["between"] == pytest.approx({"copy": 20e-6})


def test_a_gpus_iteration_is_summed_exactly():
    found = summarize(gpu_trace(), which=1, label="l", provider="fused", precision="bf16",
                      untraced=440e-6)  # fmt: skip
    assert found.source == "kernels"
    assert found.wall == pytest.approx(500e-6)
    expected = {
        "convolution": 100, "matrix": 50 + 40, "fir": 100, "pointwise": 50, "other": 10,
        "optimiser": 20 + 20, "idle": 50 + 50 + 10,
    }  # fmt: skip
    assert {k: round(1e6 * v, 6) for k, v in found.seconds.items() if v > 1e-12} == expected
    assert sum(found.seconds.values()) == pytest.approx(found.wall)
    assert found.idle_share == pytest.approx(110 / 500)
    assert found.idle_share_untraced == pytest.approx(1 - 390 / 440)
    by_phase = {
        phase: {kind: round(1e6 * s, 6) for kind, s in own.items()}
        for phase, own in found.phases.items()
    }
    assert by_phase == {
        "G": {"convolution": 100, "matrix": 50},
        "D": {"fir": 100, "pointwise": 50, "matrix": 40, "other": 10, "optimiser": 20},
        "EMA": {"optimiser": 20},
    }
    assert [row["name"] for row in found.unknown] == ["newer_kernel"]
    assert found.largest[0]["seconds"] == pytest.approx(100e-6)
    assert {row["name"]: row["count"] for row in found.largest}["new_kernel"] == 1


def test_the_time_line_has_every_phase_in_its_place():
    found = summarize(gpu_trace(), which=1)
    assert list(found.line) == ["G", "D", "EMA"]
    (first, length, kind), *rest = found.line["G"]
    assert (first, kind) == (0.0, "convolution")
    assert length == pytest.approx(100 / 500, abs=0.005)
    assert [run[2] for run in rest] == ["matrix"]
    covered = sum(run[1] for runs in found.line.values() for run in runs)
    assert covered == pytest.approx(390 / 500, abs=0.02)
    assert found.line["EMA"][-1][0] + found.line["EMA"][-1][1] == pytest.approx(0.98, abs=0.005)


def test_the_last_iteration_ends_with_its_last_kernel():
    assert summarize(gpu_trace(), which=2).wall == pytest.approx(5e-6)
    assert summarize(gpu_trace(), which=2).seconds["idle"] == pytest.approx(0)


def cpu_trace() -> list[dict]:
    """Operations of one thread, and one of another; an iteration of 1000 microseconds."""
    return [
        mark("iteration", 0, 1000),
        mark("G", 0, 600),
        event("cpu_op", "aten::conv2d", 100, 200),  # 50 its own
        event("cpu_op", "aten::mkldnn_convolution", 110, 150),  # 140
        event("cpu_op", "aten::copy_", 200, 10),  # 10
        event("cpu_op", "digan::fir_resample", 350, 100),  # 40 Python's
        event("cpu_op", "aten::mkldnn_convolution", 360, 60),  # 60 of FIR
        event("cpu_op", "autograd::engine::evaluate_function: MulBackward0", 500, 100),  # 70 idle
        event("cpu_op", "MulBackward0", 510, 40),  # 10 idle
        event("cpu_op", "aten::mul", 515, 30),  # 30
        event("cpu_op", "aten::mystery", 700, 20),
        event("cpu_op", "aten::mm", 800, 100, tid=2),
        event("cpu_op", "aten::add", 950, 100),  # 50 of them inside
        event("cpu_op", "aten::add", 1100, 100),  # outside
        mark("EMA", 900, 20),
        event("cpu_op", "aten::_foreach_lerp_", 905, 10),
        event("cpu_op", "aten::mul", 907, 5),
    ]


def test_operations_of_a_cpu_have_their_own_time():
    found = summarize(cpu_trace())
    assert found.source == "operations"
    expected = {
        "convolution": 50 + 140, "copy": 10, "fir": 60, "pointwise": 30 + 50, "other": 20,
        "matrix": 100, "optimiser": 20,
    }  # fmt: skip
    expected["idle"] = 1000 - sum(expected.values())
    assert {k: round(1e6 * v, 6) for k, v in found.seconds.items() if v > 1e-12} == expected
    assert set(found.phases) == {"G", "between", "EMA"}
    assert found.idle_share_untraced is None


def test_what_is_no_iteration_is_an_error(tmp_path):
    with pytest.raises(DiganError, match="3 marked iterations, and not number 3"):
        summarize(gpu_trace(), which=3)
    with pytest.raises(DiganError, match="nothing ran"):
        summarize([mark("iteration", 0, 100)])
    with pytest.raises(DiganError, match="cannot be read"):
        read_events(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DiganError, match="no trace"):
        read_events(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text(json.dumps({"traceEvents": [{"ph": "M"}, *cpu_trace()]}))
    assert summarize(read_events(tmp_path / "good.json")).wall == pytest.approx(1e-3)


# ------------------------------------------------------------------------- the section


def test_the_table_and_the_picture(tmp_path):
    profiles = [
        summarize(gpu_trace(), which=1, label="iteration", provider="fused", precision="bf16",
                  untraced=440e-6).to_dict(),
        summarize(cpu_trace(), label="iteration", provider="reference", precision="fp32").to_dict(),
    ]  # fmt: skip
    profiles = json.loads(json.dumps(profiles))
    text = format_profiles(profiles)
    lines = {line.split("  ")[1]: line for line in text.splitlines() if line.startswith("  ")}
    assert lines["convolutions"].split()[-2:] == ["20.0", "19.0"]
    assert lines["idle"].split()[-2:] == ["22.0", f"{100 * profiles[1]['idle_share']:.1f}"]
    assert lines["other: in no class"].split()[-2:] == ["2.0", "2.0"]
    assert "0.4 ms without the profiler, of which 11.4 % idle" in text
    assert "in no class: newer_kernel" in text
    assert format_profiles([]) == ""
    figure = draw_profiles(pyplot(), profiles, "title")
    figure.savefig(tmp_path / "p.png", dpi=60)
    pyplot().close(figure)
    with Image.open(tmp_path / "p.png") as picture:
        colours = {c for _, c in picture.convert("RGB").getcolors(1 << 20)}
    for kind in ("convolution", "matrix", "fir", "idle"):
        wanted = tuple(int(COLOURS[kind][i : i + 2], 16) for i in (1, 3, 5))
        assert min(math.dist(wanted, c) for c in colours) < 3, kind
    assert set(COLOURS) == set(CLASSES)


def test_a_real_iteration_is_traced(tmp_path):
    """With and without R1: hardly anything is in no class, and both traces are kept."""
    options = Options(preset="tiny", resolution=32, frames=16, batch=4, precisions=("fp32",),
                      trace=str(tmp_path / "t.json"), providers=("reference",))  # fmt: skip
    context = Context(options, torch.device("cpu"), tmp_path)
    plain, penalised = profile_section.tables(context)["profile"]
    assert [p["label"] for p in (plain, penalised)] == ["iteration", "iteration with R1"]
    for p in (plain, penalised):
        assert sum(p["seconds"].values()) == pytest.approx(p["wall"])
        assert p["seconds"]["other"] < 0.02 * p["wall"]
        assert min(p["seconds"][k] for k in ("convolution", "matrix", "fir", "pointwise")) > 0
    assert set(plain["phases"]) - {"between"} == {"G", "D", "EMA"}
    assert set(penalised["phases"]) - {"between"} == {"G", "D", "R1", "EMA"}
    assert {p.name for p in tmp_path.glob("t-*.json")} == {
        "t-iteration-fp32.json", "t-iteration-with-R1-fp32.json",
    }  # fmt: skip
    again = summarize(read_events(tmp_path / "t-iteration-fp32.json"))
    assert again.seconds == plain["seconds"]


def test_phases_are_captured_where_they_can_be():
    """As a run's are; and cuDNN's search is on inside, and as before afterwards."""
    run = SimpleNamespace(device="cuda", world="one", phases="called")
    graphs = SimpleNamespace(
        why_not_graphs=lambda wish, device, world: None if device == "cuda" else f"no {device}",
        CudaCapture=lambda device: f"capture on {device}",
        GraphedPhases=lambda capture, say: f"graphs by {capture}",
    )
    assert captured(run, graphs) == ""
    assert run.phases == "graphs by capture on cuda"
    other = SimpleNamespace(device="cpu", world="one", phases="called")
    assert captured(other, graphs) == "no cpu"
    assert other.phases == "called"
    before = torch.backends.cudnn.benchmark
    with run_settings():
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before


def test_phases_that_are_repeated_have_their_names_too():
    """A trainer may call captured phases by name instead of its methods."""
    called = []
    phases = SimpleNamespace(run=lambda name, work: called.append((name, work)))
    methods = dict.fromkeys(profile_section.PHASES, lambda: None)
    run = SimpleNamespace(phases=phases, **methods)
    profile_section.mark_phases(run)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as traced:
        run.phases.run("G", "work")
        run.update_average()
    assert called == [("G", "work")]
    names = [e.name for e in traced.events()]
    assert "digan: G" in names
    assert "digan: EMA" in names
