"""What the kernels on TMA and `wgmma` must hold: the code for 9.0a alone."""

from __future__ import annotations

from tests import sass

# The kernels on TMA and wgmma, for 9.0a alone, each in bf16 and f16: how many other instructions
# of a warp stand beside a wgmma of 64 x 256 x 16 in the main loop, at most. The tensor cores take
# 128 cycles for it; two warps share a scheduler, whose warpgroups take turns on them, so that 128
# instructions would keep both busy.
MOST_BESIDE = {
    "coord_linear_hopper_kernel": 50,
    "coord_linear_dphase_hopper_kernel": 100,
    "modulated_linear_hopper_kernel": 20,
    "modulated_linear_dx_hopper_kernel": 70,
    "modulated_linear_dweight_hopper_kernel": 95,
}


def expected() -> set[tuple[str, str]]:
    """Names and card of all such kernels."""
    return {(f"{name}<{number}>", "sm_90a") for name in MOST_BESIDE for number in ("bf16", "f16")}


def complaints(kernel: sass.Kernel) -> set[str]:
    """What a kernel on TMA and wgmma lacks, or has and should not."""
    found = {f"has {name}" for name in ("LDL", "STL") if kernel.moves(name)}
    found |= {f"lacks {kind}" for kind in ("STG.128", "UTMALDG") if not kernel.counts[kind]}
    most = MOST_BESIDE[kernel.name.split("<")[0]]
    loop = kernel.main_loop
    if loop is None or not loop.counts["HGMMA"]:
        return {*found, "lacks a main loop of HGMMA"}
    beside = (len(loop.code) - loop.counts["HGMMA"]) / loop.counts["HGMMA"]
    return found | ({f"{beside:.0f} beside a HGMMA, more than {most}"} if beside > most else set())
