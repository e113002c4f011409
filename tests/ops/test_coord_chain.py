"""coord_chain: against float64, by the kernel and by layers; what it refuses; its bytes."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
import torch

from digan import ops
from digan.ops import _registry
from tests.chain_cases import CASES, DTYPES, check_chain, make_chain
from tests.emulation.build import emulated
from tests.op_cases import relative_error
from tests.ops import checks

BY_NAME = {case.name: case for case in CASES}
# Of the large ones one number type is enough in short runs: only the products differ.
LARGE = {"below_a_panel", "at_a_panel", "above_a_panel", "three_panels", "three_panels_on"}
each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.mark.parametrize("impl", ["auto", "reference"])
@each_dtype
@each_case
def test_by_layers(case, dtype, impl):
    check_chain(case, dtype, impl)


@each_dtype
@each_case
def test_kernel(case, dtype, soak):
    """Emulated, each case in a schedule of its own; in a soak in many."""
    if case.name in LARGE and dtype == torch.float16 and not soak:
        dtype = torch.float16 if case.name == "at_a_panel" else torch.bfloat16
        if dtype == torch.bfloat16:
            return
    for seed in range(20 if soak else 1):
        with emulated(seed=zlib.crc32(f"{case} {seed}".encode())) as controls:
            check_chain(case, dtype, seed=seed)
            names = [launch["kernel"].split("<")[0] for launch in controls.launches()]
            assert ("coord_chain_kernel" in names) == (0 not in case.sizes[:4]), names
            assert len(names) <= 2, names


@pytest.mark.gpu
@each_dtype
@each_case
def test_cuda(case, dtype):
    # Cards that lack the shared memory compute by layers.
    check_chain(case, dtype, device="cuda")


def test_kernel_is_as_exact_as_its_layers():
    """Pictures are summed in float: the error is below that of the emulated layers."""
    case = BY_NAME["skip_clamp"]
    inputs = make_chain(case, torch.bfloat16)
    wide = {n: None if v is None else v.double() for n, v in inputs.items()}
    truth, _ = ops.coord_chain(**wide, **case.options, impl="reference")
    with emulated(seed=5):
        chained, _ = ops.coord_chain(**inputs, **case.options)
        leaf = inputs["bias"].detach().requires_grad_()  # a gradient is wanted: by layers
        layered, _ = ops.coord_chain(**{**inputs, "bias": leaf}, **case.options)
    assert layered.requires_grad
    assert relative_error(chained, truth) < relative_error(layered, truth)


def test_not_a_number_stays_one():
    """A pixel that is no number spoils its own colours, and no other's."""
    case = BY_NAME["skip_clamp"]
    inputs = make_chain(case, torch.bfloat16)
    inputs["skip"][0, 1, 2, 1, 5] = torch.nan
    with emulated(seed=6):
        picture, following = ops.coord_chain(**inputs, **case.options)
    spoilt = torch.zeros(picture.shape[:4], dtype=torch.bool)
    spoilt[0, 1, 4:6, 2:4] = True
    assert torch.equal(picture.isnan().all(-1), spoilt)
    assert torch.equal(picture.isnan().any(-1), spoilt)
    assert torch.equal(following.isnan().any(-1), spoilt)


def test_gradients_by_layers():
    """Where one is wanted the op is its layers, whatever kernels there are."""
    case = BY_NAME["skip_clamp"]
    inputs = {
        n: None if v is None else v.double().requires_grad_()
        for n, v in make_chain(case, torch.float16).items()
    }
    cotangent = torch.randn(1, 2, 10, 6, 3, dtype=torch.float64,
                            generator=torch.Generator().manual_seed(0))  # fmt: skip
    leaves = [v for v in inputs.values() if v is not None]
    found = []
    for impl in ("auto", "reference"):
        picture, following = ops.coord_chain(**inputs, **case.options, impl=impl)
        loss = (picture * cotangent).sum() + following.square().sum()
        found.append(torch.autograd.grad(loss, leaves))
    for ours, theirs in zip(*found, strict=True):
        assert relative_error(ours, theirs) < 1e-10


def test_schema_op_has_no_gradient():
    inputs = make_chain(BY_NAME["relu"], torch.bfloat16)
    inputs["bias"].requires_grad_()
    with emulated(seed=1):
        picture, _ = torch.ops.digan.coord_chain(*inputs.values(), [1, 2, 3], 0.0, 2.0)
    with pytest.raises(RuntimeError, match="has no gradient"):
        picture.sum().backward()


def test_opcheck():
    case = BY_NAME["skip_alone"]
    inputs = make_chain(case, torch.bfloat16)
    arguments = (*inputs.values(), *case.options.values())
    tests = ["test_schema", "test_faketensor"]
    torch.library.opcheck(torch.ops.digan.coord_chain, arguments, test_utils=tests)


@pytest.mark.parametrize("name", ["skip_clamp", "above_a_panel", "one_panel_of_three"])
def test_bytes(name):
    """Nothing is written but the picture and `next`; every tile reads all weights once."""
    case = BY_NAME[name]
    inputs = make_chain(case, torch.bfloat16)
    with emulated(seed=2) as controls:
        picture, following = ops.coord_chain(**inputs, **case.options)
        (launch,) = [e for e in controls.launches() if "coord_chain" in e["kernel"]]
    b, t, h, w, f, c, layers = case.sizes
    tiles = b * t * -(-h // 8) * -(-w // 16)
    assert launch["grid"][0] == tiles
    assert launch["global_write_bytes"] == picture.numel() * 4 + following.numel() * 2
    tables = 2 * (8 + 16) * f * 4
    weights = 2 * (2 * f * c + layers * c * c + case.onward * c)
    assert launch["async_copy_bytes"] == tiles * (tables + weights)
    # By the other threads: biases by every lane of 4 that has a row, colours by every warp.
    rest = launch["global_read_bytes"] - launch["async_copy_bytes"]
    biases = (layers + 1) * c * 4 * 16  # 2 warps, 8 lanes along M
    colours = len(case.rgb) * (3 * c * 2 * 8 + 128 * 3 * 4)
    skip = 128 * c * 2 if case.skip else 0
    image = picture.numel() * 4 if case.image else 0
    assert rest == tiles * (biases + colours + skip) + image
    assert launch["matrix_read_conflicts"] == 0


def test_flops_are_those_of_the_layers():
    case = replace(BY_NAME["above_a_slice"], layout="contiguous")
    counted = []
    for wanted in (False, True):
        inputs = make_chain(case, torch.bfloat16)
        inputs["bias"].requires_grad_(wanted)
        with emulated(seed=3), torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
            ops.coord_chain(**inputs, **case.options)
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1] > 0


# ---------------------------------------------------------------- what is refused


SERVED = {"channels": 512, "frequencies": 128, "layers": 8, "pictures": 4}


@pytest.mark.parametrize(
    ("change", "dtype", "wide", "said"),
    [
        ({}, torch.float32, torch.float32, "16-bit numbers, got torch.float32"),
        ({}, torch.bfloat16, torch.float64, "must be float32, got torch.float64"),
        ({"channels": 520}, torch.bfloat16, torch.float32, "512 channels in eights, got 520"),
        ({"channels": 12}, torch.bfloat16, torch.float32, "512 channels in eights, got 12"),
        ({"onward": 516}, torch.bfloat16, torch.float32, "512 channels in eights, got 516"),
        ({"onward": 68}, torch.bfloat16, torch.float32, "512 channels in eights, got 68"),
        ({"frequencies": 136}, torch.float16, torch.float32, "at most 128 frequencies"),
        ({"frequencies": 7}, torch.float16, torch.float32, "in eights, got 7"),
        ({"layers": 9}, torch.float16, torch.float32, "at most 8 layers and 4 to RGB, got 9 and 4"),
        ({"pictures": 5}, torch.float16, torch.float32, "got 8 and 5"),
    ],
)  # fmt: skip
def test_refusals(change, dtype, wide, said):
    device = torch.device("cpu")
    assert ops.coord_chain_refusal(device, dtype, wide, **SERVED) == (
        "no kernel of coord_chain is loaded for cpu tensors"
    )
    with emulated():
        assert ops.coord_chain_refusal(device, torch.float16, **SERVED) == ""
        refused = ops.coord_chain_refusal(device, dtype, wide, **{**SERVED, **change})
    assert said in refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("kilobytes", "channels", "said"),
    [
        (99, 256, "256 chained channels take 140 KB of shared memory, a card has 99"),
        (163, 512, "512 chained channels take 224 KB of shared memory, a card has 163"),
        (163, 256, ""),
        (163, -256, "512 chained channels take 224 KB of shared memory, a card has 163"),
        (227, 512, ""),
    ],
)
def test_cards(kilobytes, channels, said, monkeypatch):
    """By what a card's blocks may have of shared memory; a stand-in for the card."""

    class Card:
        name = "a card"
        shared_memory_per_block_optin = kilobytes * 1024

    monkeypatch.setattr(_registry, "unavailable", lambda name: "")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card())
    sizes = {**SERVED, "channels": abs(channels), "onward": 512 if channels < 0 else 0}
    assert ops.coord_chain_refusal(torch.device("cuda"), torch.bfloat16, **sizes) == said


def test_fused_says_what_the_kernel_does_not_serve(monkeypatch):
    case = BY_NAME["relu"]
    inputs = make_chain(case, torch.bfloat16)
    with pytest.raises(ops.OpUnavailableError, match="coord_chain: impl='fused' cannot run"):
        ops.coord_chain(**inputs, **case.options, impl="fused")
    monkeypatch.setattr(_registry, "takes_formula", lambda *_: False)
    wide = {n: None if v is None else v.float() for n, v in inputs.items()}
    with emulated(), pytest.raises(ops.OpUnavailableError, match="16-bit numbers, got torch.fl"):
        ops.coord_chain(**wide, **case.options, impl="fused")


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "hidden must be [B, L, C, C] with B = 1, C = 16",
         {"hidden": torch.ones(1, 3, 16, 8)}),
        (ValueError, "bias must be [4, C] with C = 16, got [3, 16]", {"bias": torch.ones(3, 16)}),
        (ValueError, "rgb_weight must be [B, R, 3, C]", {"rgb_weight": torch.ones(1, 3, 4, 16)}),
        (ValueError, "rgb_layers must be R = 3 rising numbers of 4 layers, got [1, 1, 2]",
         {"rgb_layers": [1, 1, 2]}),
        (ValueError, "rgb_layers must be R = 3 rising numbers of 4 layers, got [1, 2, 4]",
         {"rgb_layers": [1, 2, 4]}),
        (ValueError, "rgb_layers must be R = 3 rising numbers of 4 layers, got [1]",
         {"rgb_layers": [1]}),
        (ValueError, "a grid with skip must have even sides, got 2 x 3",
         {"skip": torch.ones(1, 1, 1, 1, 16)}),
        (ValueError, "image must be [B, T, 2, 3, 3]", {"image": torch.ones(1, 1, 1, 1, 3)}),
        (ValueError, "onward must be [B, O, C]", {"onward": torch.ones(1, 4, 8)}),
        (ValueError, "clamp must be positive or None, got -1", {"clamp": -1}),
        (TypeError, "hidden must have the dtype of weight", {"hidden": torch.ones(1, 3, 16, 16)}),
        (TypeError, "image must have the dtype of freq",
         {"image": torch.ones(1, 1, 2, 3, 3).double()}),
    ],
)  # fmt: skip
def test_errors(error, message, change, impl):
    case = BY_NAME["relu"]
    given = {**make_chain(case, torch.bfloat16), **case.options, **change}
    checks.check_error(ops.coord_chain, error, message, given, impl)
