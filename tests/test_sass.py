"""The machine code of the library: the tensor cores' kernels, 16-byte accesses, local memory.

Its reader, tests/sass.py, is tried on samples in the form that nvdisasm writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests import sass, sass_hopper
from tests.native_wheel import ROOT, Built, built_wheel
from tests.requirements import require

# ---------------------------------------------------------------- what kernels must hold

LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Exempt:
    """What a kernel may fall short of, and why."""

    reason: str
    least_share: float
    lacks: frozenset[str] = frozenset()


SMALL = "a small tile: 16 products of a warp beside the copies and the barrier of a slice"
ROUNDS = "every number of an operand is rounded to tf32 as it is loaded"
NO_PAIRS = "cards before 9.0 compare no pairs of bfloat16 to find their slopes"
MAKES_BOTH = "both operands are made as their slices are prepared"
# No ldmatrix transposes numbers of 32 bits.
BY_NUMBER = frozenset({"main loop lacks LDSM"})

EXEMPT = {
    "modulated_linear_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.17),
    "modulated_linear_kernel<TensorCores<float>, 128x256>": Exempt(ROUNDS, 0.30),
    "modulated_linear_dx_kernel<TensorCores<bf16>, 64x64>": Exempt(SMALL, 0.11),
    "modulated_linear_dx_kernel<TensorCores<f16>, 64x64>": Exempt(SMALL, 0.11),
    "modulated_linear_dx_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.08),
    "modulated_linear_dx_kernel<TensorCores<float>, 128x256>": Exempt(ROUNDS, 0.25),
    "modulated_linear_dweight_kernel<TensorCores<bf16>, 64x64>": Exempt(SMALL, 0.07),
    "modulated_linear_dweight_kernel<TensorCores<f16>, 64x64>": Exempt(SMALL, 0.07),
    "modulated_linear_dweight_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.07, BY_NUMBER),
    "modulated_linear_dweight_kernel<TensorCores<bf16>, 128x256>": Exempt(NO_PAIRS, 0.45),
    "modulated_linear_dweight_kernel<TensorCores<float>, 128x256>": Exempt(ROUNDS, 0.24, BY_NUMBER),
    "coord_linear_kernel<TensorCores<bf16>, 64x64>": Exempt(SMALL, 0.23),
    "coord_linear_kernel<TensorCores<f16>, 64x64>": Exempt(SMALL, 0.23),
    "coord_linear_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.14),
    "coord_linear_kernel<TensorCores<float>, 128x256>": Exempt(ROUNDS, 0.27),
    "coord_linear_dphase_kernel<TensorCores<bf16>, 64x64>": Exempt(SMALL, 0.06),
    "coord_linear_dphase_kernel<TensorCores<f16>, 64x64>": Exempt(SMALL, 0.06),
    "coord_linear_dphase_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.07),
    "coord_linear_dphase_kernel<TensorCores<float>, 128x256>": Exempt(ROUNDS, 0.25),
    "coord_linear_dweight_kernel<TensorCores<bf16>, 64x64>": Exempt(SMALL, 0.05),
    "coord_linear_dweight_kernel<TensorCores<f16>, 64x64>": Exempt(SMALL, 0.05),
    "coord_linear_dweight_kernel<TensorCores<float>, 64x64>": Exempt(SMALL, 0.05, BY_NUMBER),
    "coord_linear_dweight_kernel<TensorCores<bf16>, 128x128>": Exempt(MAKES_BOTH, 0.16),
    "coord_linear_dweight_kernel<TensorCores<f16>, 128x128>": Exempt(MAKES_BOTH, 0.16),
    "coord_linear_dweight_kernel<TensorCores<float>, 128x128>": Exempt(MAKES_BOTH, 0.12, BY_NUMBER),
}

# Beginnings of the names of kernels that touch local memory: sincos(double) of a large argument
# keeps the words of its product on a stack.
LOCAL = (
    "fourier_features_axes_kernel<",
    "fourier_features_at_kernel<double,",
    "fourier_features_at_backward_kernel<double,",
)

# What the kernels whose last argument is a pack of several numbers move in packs.
BOTH = {"LDG.128", "STG.128"}
PACKS = {
    "bias_act_kernel": BOTH,
    "bias_act_planes_kernel": BOTH,
    "bias_act_rows_kernel": BOTH,
    "coord_chain_kernel": {"STG.128"},
    "factorized_modulation_kernel": BOTH,
    "factorized_modulation_backward_right_kernel": BOTH,
    "factorized_modulation_backward_rows_kernel": BOTH,
    "fir_resample_kernel": BOTH,
    "fourier_features_kernel": BOTH,
    "fourier_features_at_kernel": {"STG.128"},
    "fourier_features_at_backward_kernel": {"LDG.128"},
    "fourier_features_backward_kernel": {"LDG.128"},
    "frames_to_uint8_kernel": BOTH,
    "modulated_linear_narrow_kernel": {"LDG.128"},
    "modulated_linear_narrow_backward_kernel": BOTH,
}
# The compiler takes its 16-byte stores apart for every card before sm_100.
TAKEN_APART = {("fir_resample_kernel", "STG.128")}


def complaints(kernel: sass.Kernel, exempt: Exempt | None = None) -> set[str]:
    """What a kernel on tensor cores lacks, or has and should not."""
    found = {f"has {name}" for name in ("LDL", "STL") if kernel.moves(name)}
    if not kernel.counts["STG.128"]:
        found.add("lacks STG.128")
    loop = kernel.main_loop
    if loop is None:
        return {*found, "lacks a main loop"}
    found |= {
        f"main loop lacks {kind}"
        for kind in ("HMMA", "LDSM", "LDGSTS.128")
        if not loop.counts[kind]
    }
    least = exempt.least_share if exempt else LEAST_SHARE
    if loop.share < least:
        found.add(f"share is {loop.share:.2f}, less than {least}")
    return found - (exempt.lacks if exempt else frozenset())


def tools_of(home: str | None) -> sass.Tools:
    tools = sass.find_tools(home)
    if tools is None:
        require("nvcc", "no cuobjdump and nvdisasm; pip install nvidia-cuda-{cuobjdump,nvdisasm}")
    return tools


@pytest.fixture(scope="module")
def built(toolkit, soak) -> Built:
    return built_wheel(toolkit, whole=soak)


@pytest.fixture(scope="module")
def kernels(toolkit, built) -> tuple[sass.Kernel, ...]:
    return sass.kernels_of(built.library, tools_of(toolkit.home))


@pytest.mark.soak
class TestLibrary:
    """Every kernel, as it is built now."""

    def test_all_cards_have_the_same_kernels(self, built, kernels):
        every = [kernel for kernel in kernels if "_hopper_" not in kernel.name]
        names = [sorted(k.mangled for k in every if k.card == card) for card in built.cards]
        assert len(names[0]) > 100
        assert all(other == names[0] for other in names)
        assert len(every) == len(names[0]) * len(built.cards)

    def test_the_path_for_cards_of_9_0(self, kernels):
        own = [kernel for kernel in kernels if "_hopper_" in kernel.name]
        assert {(kernel.name, kernel.card) for kernel in own} == sass_hopper.expected()
        said = {kernel.name: sass_hopper.complaints(kernel) for kernel in own}
        assert {name: some for name, some in said.items() if some} == {}

    def test_local_memory_is_in_no_kernel_but_those_listed(self, kernels):
        found = {kernel.name for kernel in kernels if kernel.moves("LDL") + kernel.moves("STL")}
        assert {name for name in found if not name.startswith(LOCAL)} == set()
        assert all(any(name.startswith(beginning) for name in found) for beginning in LOCAL)

    def test_sums_are_not_made_by_atomics(self, kernels):
        atomic = re.compile(r"ATOM[GS]?|RED[GS]?")
        found = {k.name for k in kernels if any(atomic.fullmatch(i.name) for i in k.code)}
        assert found == set()

    def test_packs_are_moved_by_one_instruction(self, kernels):
        missing = set()
        for kernel in kernels:
            pack = re.fullmatch(r"(\w+)<.*\b(?:[2-9]|\d\d+)>", kernel.name)
            if pack is not None:
                kinds = [kind for kind in PACKS[pack[1]] if not kernel.counts[kind]]
                missing |= {(pack[1], kind) for kind in kinds}
        assert missing == TAKEN_APART

    def test_tensor_cores_serve_every_number(self, kernels):
        compiled = (ROOT / "csrc" / "build_library.py").read_text()
        found = {
            (match[1], match[2])
            for kernel in kernels
            if (match := re.match(r"(\w+_linear)\w*<TensorCores<(\w+)>", kernel.name))
        }
        assert found == {
            (op, number)
            for op in ("modulated_linear", "coord_linear")
            for number in ("bf16", "f16", "float")
            if f"csrc/{op}.cu" in compiled
        }

    def test_tensor_cores_are_kept_busy(self, kernels):
        on_them = [k for k in kernels if re.search("TensorCores<|coord_chain_kernel<", k.name)]
        assert [
            (kernel.name, kernel.card, said)
            for kernel in on_them
            if (said := complaints(kernel, EXEMPT.get(kernel.name)))
        ] == []
        needed = {kernel.name for kernel in on_them if complaints(kernel)}
        assert needed == (set(EXEMPT) if on_them else set())


def test_missing_disassembler_is_a_need(monkeypatch, tmp_path):
    monkeypatch.setattr(sass, "find_tool", lambda name, home: None)
    monkeypatch.setenv("DIGAN_REQUIRE", "")
    with pytest.raises(pytest.skip.Exception, match="no cuobjdump and nvdisasm"):
        tools_of(None)
    monkeypatch.setenv("DIGAN_REQUIRE", "nvcc")
    with pytest.raises(pytest.fail.Exception, match="nvcc is required here"):
        tools_of(None)


def test_tool_is_found_in_the_toolkit_and_on_the_path(monkeypatch, tmp_path):
    program = tmp_path / "bin" / "no-such-tool"
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert sass.find_tool(program.name, str(tmp_path)) is None
    program.parent.mkdir()
    program.touch(mode=0o755)
    assert sass.find_tool(program.name, str(tmp_path)) == program
    assert sass.find_tool(program.name, None) is None
    monkeypatch.setenv("PATH", str(program.parent))
    assert sass.find_tool(program.name, None) == program


# ---------------------------------------------------------------- the reader

LARGE = (
    "_ZN5digan4gemm52_GLOBAL__N__de33ca0f_19_modulated_linear_cu_77c931e1"
    "23modulated_linear_kernelINS0_11TensorCoresI13__nv_bfloat16EE"
    "NS0_9TileShapeILi128ELi256ELi2ELi4ELi1EEEEEvNS1_5LayerINT_6NumberEEE"
)

# A loop over tiles around one over slices; activations behind a jump table; a division whose rare
# case stands behind the end and branches back, where no loop is.
BODY = """\
            MOV R1, c[0x0][0x28]
            ISETP.GE.AND P0, PT, R2, c[0x0][0x160], PT
        @P0 EXIT
.L_tile:
            ISETP.NE.AND P1, PT, R3, RZ, PT
        @P1 BRA `(.L_rare)
.L_back:
            IADD3 R4, R3, 0x1, RZ
.L_slice:
            BAR.SYNC.DEFER_BLOCKING 0x0
       @!P2 LDGSTS.E.BYPASS.LTC128B.128 [R29+0x6000], desc[UR8][R2.64]
            LDGDEPBAR
            LDSM.16.M88.4 R8, [R5+UR4]
            LDSM.16.MT88.4 R12, [R6]
            LDS.64 R2, [R7]
            LDC R9, c[0x0][0x210]
            NOP
            HMMA.16816.F32.BF16 R16, R8, R12, R16
            HMMA.16816.F32.BF16 R20, R8, R14, R20
            HMMA.16816.F32.BF16 R24, R8, R14, R24
            ISETP.NE.AND P3, PT, R4, RZ, PT
            BRA.DIV ~URZ, `(.L_apart)
        @P3 BRA P4, `(.L_slice)
            BSSY B0, `(.L_met)
            BRX R16 -0x170  (*"BRANCH_TARGETS .L_relu,.L_linear"*)
.L_relu:
            FMNMX R16, R16, RZ, !PT
.L_linear:
            BSYNC B0
.L_met:
            F2FP.BF16.PACK_AB R16, R17, R16
            STG.E.128 desc[UR8][R2.64], R16
            BRA `(.L_tile)
.L_apart:
            WARPSYNC.COLLECTIVE R5, `(.L_together)
            NOP
.L_together:
            EXIT
.L_rare:
            CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64)
            BRA `(.L_back)
$__internal_0_$__cuda_sm20_div_s64:
            I2F.U64.RP R7, R4
            RET.REL.NODEC R24 `(KERNEL)
.L_end:
            BRA `(.L_end)
            NOP
            NOP
"""


def listing(body: str, name: str = LARGE, card: str = "sm_90a") -> str:
    """What nvdisasm prints of a kernel."""
    lines = [
        f"\t.target\t{card}",
        "",
        f"//--------------------- .text.{name} --------------------------",
        f'\t.section\t.text.{name},"ax",@progbits',
        '\t.sectioninfo\t@"SHI_REGISTERS=40"',
        f".text.{name}:",
        f"        .type           {name},@function",
        f"{name}:",
    ]
    address = 0
    for line in body.splitlines():
        if line.endswith(":"):
            lines.append(line)
        else:
            lines.append(f"        /*{address:04x}*/          {line.replace('KERNEL', name)} ;")
            address += 16
    return "\n".join([*lines, ".L_x_22:", ""])


def kernel_of(body: str, **names: str) -> sass.Kernel:
    (kernel,) = sass.parse(listing(body, **names))
    return kernel


class TestReader:
    def test_instructions(self):
        kernel = kernel_of(BODY)
        assert (kernel.name, kernel.card) == (
            "modulated_linear_kernel<TensorCores<bf16>, 128x256>",
            "sm_90a",
        )
        at = {instruction.opcode: instruction for instruction in kernel.code}
        copy = at["LDGSTS.E.BYPASS.LTC128B.128"]
        assert copy.address == 0x70
        assert copy.predicate == "@!P2"
        assert copy.operands == "[R29+0x6000], desc[UR8][R2.64]"
        assert (copy.name, copy.bits, copy.kind) == ("LDGSTS", 128, "LDGSTS.128")
        assert [at[o].kind for o in ("LDS.64", "STG.E.128")] == ["LDS.64", "STG.128"]
        assert at["BRX"].targets == (0x160, 0x170)
        assert at["BRA.DIV"].targets == (0x1B0,)
        assert at["CALL.REL.NOINC"].targets == (0x200,)
        assert at["RET.REL.NODEC"].targets == ()

    def test_padding_is_left_out(self):
        assert kernel_of(BODY).code[-1].opcode == "RET.REL.NODEC"
        assert kernel_of(BODY + "            EXIT").code[-1].opcode == "EXIT"
        assert len(kernel_of(BODY + "            EXIT").code) == len(kernel_of(BODY).code) + 4

    @pytest.mark.parametrize(
        ("opcode", "bits"),
        [("LDG.E", 32), ("LDG.E.U16", 16), ("STG.E.U8", 8), ("LDG.E.LTC128B.64.CONSTANT", 64),
         ("LDG.E.ENL2.256", 256), ("LDS.U.128", 128)],
    )  # fmt: skip
    def test_widths(self, opcode, bits):
        assert sass.Instruction(0, "", opcode, "").bits == bits

    def test_loops(self):
        inner, outer = kernel_of(BODY).loops
        assert inner.code[0].opcode == "BAR.SYNC.DEFER_BLOCKING"
        assert inner.code[-1].operands == "P4, `(.L_slice)"
        assert (len(inner.code), inner.own) == (14, inner.code)
        assert outer.code[0].address == 0x30
        # With its rare case, and without the subroutine that this calls.
        assert outer.code[-1].address == 0x1F0
        assert {i.opcode for i in outer.own} >= {"CALL.REL.NOINC", "BRX", "STG.E.128"}
        assert {i.opcode for i in outer.code} >= {"HMMA.16816.F32.BF16"}
        assert {i.name for i in outer.own} & {"HMMA", "EXIT", "WARPSYNC"} == set()

    def test_main_loop(self):
        kernel = kernel_of(BODY)
        loop = kernel.main_loop
        assert loop == kernel.loops[0]
        assert dict(loop.counts) == {
            "BAR": 1, "LDGSTS.128": 1, "other": 4, "LDSM": 2, "LDS.64": 1, "LDC": 1, "NOP": 1,
            "HMMA": 3,
        }  # fmt: skip
        assert loop.share == 3 / 8

    def test_main_loop_of_plain_products(self):
        plain = re.sub(r"HMMA\S*", "DFMA", BODY)
        assert kernel_of(plain).main_loop.counts["DFMA"] == 3
        # An epilogue with more of them, among other things, is not taken for it ...
        epilogue = "            DFMA R4, R3, R3, R3\n" + 3 * "            MUFU.EX2 R4, R4\n"
        busy = plain.replace("            FMNMX", 20 * epilogue + "            FMNMX")
        assert kernel_of(busy).main_loop.counts["DFMA"] == 3
        # ... nor what is denser and hardly multiplies.
        tight = ".L_tight:\n            DFMA R4, R3, R3, R3\n        @P3 BRA `(.L_tight)\n"
        assert len(kernel_of(tight + busy).loops) == 3
        assert kernel_of(tight + busy).main_loop.counts["DFMA"] == 3
        # Beside a matrix unit's products plain ones do not count.
        mixed = busy.replace("DFMA R24, R8, R14, R24", "HMMA.16816.F32.BF16 R24, R8, R14, R24")
        assert kernel_of(mixed).main_loop.counts["HMMA"] == 1
        assert kernel_of(re.sub(r"HMMA\S*", "IADD3", BODY)).main_loop is None

    def test_several_kernels_and_none(self):
        two = listing(BODY) + listing(BODY, name="_Zother").replace("\t.target\tsm_90a", "")
        assert [k.mangled for k in sass.parse(two)] == [LARGE, "_Zother"]
        assert sass.parse("\t.target\tsm_80\n") == []

    def test_what_cannot_be_read_is_refused(self):
        with pytest.raises(ValueError, match="names no card"):
            sass.parse(listing(BODY).replace(".target", ".other"))
        with pytest.raises(ValueError, match=r"no instruction: '/\*0010\*/ +\?\?\?"):
            sass.parse(listing("            NOP\n            ??? 0x1234"))
        with pytest.raises(ValueError, match="where BRX at 0x150 goes is not told"):
            sass.find_loops(kernel_of(re.sub(r"\(\*.*\*\)", "", BODY)).code)

    @pytest.mark.parametrize(
        ("mangled", "name"),
        [
            ("_ZN5digan16sum_parts_kernelIf6__halfEEvNS_8SumTasksIT_T0_EE",
             "sum_parts_kernel<float, f16>"),
            ("_ZN5digan12_GLOBAL__N_15plainIdLb1EEEvPFvT_E", "plain<double, true>"),
            ("_ZN5digan5plainILNS_6NumberE2EEEvv", "plain<(Number)2>"),
            ("_ZN5digan4plotEPKf", "plot"),
            ("no_mangled_name", "no_mangled_name"),
        ],
    )  # fmt: skip
    def test_names(self, mangled, name):
        assert sass.short_name(mangled) == name


class TestComplaints:
    """What is demanded of kernels on tensor cores can be missed."""

    GOOD = BODY.replace("            ISETP.NE.AND P3, PT, R4, RZ, PT\n", "").replace(
        "            LDGDEPBAR\n", ""
    )

    def test_a_good_kernel_has_none(self):
        assert complaints(kernel_of(self.GOOD)) == set()

    @pytest.mark.parametrize(
        ("was", "becomes", "said"),
        [
            (r"HMMA\S*", "FFMA", {"main loop lacks HMMA"}),
            (r"LDSM\S*", "LDS", {"main loop lacks LDSM"}),
            (r"LDGSTS.E.BYPASS.LTC128B.128", "LDGSTS.E.64", {"main loop lacks LDGSTS.128"}),
            (r"LDS\.64", "LDL.64", {"has LDL", "share is 0.43, less than 0.5"}),
            (r"I2F\S*", "STL", {"has STL"}),
            (r"STG\.E\.128", "STG.E.64", {"lacks STG.128"}),
            (r"NOP", "IADD3 R9, R9, R9, RZ", {"share is 0.43, less than 0.5"}),
            (r"@P3 BRA P4, `\(.L_slice\)|BRA `\(.L_tile\)", "IADD3 R9, R9, R9, RZ",
             {"lacks a main loop"}),
        ],
    )  # fmt: skip
    def test_each_can_be_broken(self, was, becomes, said):
        assert complaints(kernel_of(re.sub(was, becomes, self.GOOD))) == said

    def test_exemptions_hold_for_what_they_name(self):
        kernel = kernel_of(BODY.replace("STG.E.128", "STG.E.64"))
        assert complaints(kernel) == {"lacks STG.128", "share is 0.38, less than 0.5"}
        assert complaints(kernel, Exempt("", 0.375, frozenset({"lacks STG.128"}))) == set()
        assert complaints(kernel, Exempt("", 0.4)) == {
            "lacks STG.128",
            "share is 0.38, less than 0.4",
        }
