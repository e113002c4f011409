"""`digan info`: the versions, the card, the toolkit and what each op runs on.

Everything is gathered by `collect_info` as plain JSON values; `format_info` lays the same
values out for people. Heavy imports lie inside the functions, so that the command line can
import this module for nothing.
"""

from __future__ import annotations

from typing import Any

ENCODERS = ("libx264", "libvpx-vp9", "ffv1")
DISTRIBUTIONS = ("torch", "numpy", "scipy", "av", "pillow", "safetensors", "tyro")


def collect_info() -> dict[str, Any]:
    """The state of this installation.

    Returns:
        A dictionary that `json.dumps` takes as it is: `versions`, `system`, `gpus`,
        `toolkit`, `kernels`, `ops`, `video_encoders` and `disk`.
    """
    import digan.ops

    return {
        "versions": _versions(),
        "system": _system(),
        "gpus": _gpus(),
        "toolkit": _toolkit(),
        "kernels": _kernels(),
        "ops": dict(digan.ops.status()),
        "video_encoders": _video_encoders(),
        "disk": _disk(),
    }


def format_info(info: dict[str, Any]) -> str:
    """The report of `collect_info` as aligned lines, one fact each."""
    system, toolkit, disk = info["system"], info["toolkit"], info["disk"]
    rows = [
        (name, "not installed" if version is None else version)
        for name, version in info["versions"].items()
    ]
    rows.append(("system", system["platform"]))
    rows.append(
        (
            "cpu",
            f"{system['cpu']}, {system['cores']} cores, {system['torch_threads']} torch threads, "
            f"{system['cpu_capability']}, bfloat16 {_yes(system['bf16'])}, "
            f"avx512 {_yes(system['avx512'])}",
        )
    )
    rows += [
        (
            f"gpu {number}",
            f"{gpu['name']}, sm_{gpu['capability'].replace('.', '')}, "
            f"{gpu['memory_gib']:.0f} GiB, driver {gpu['driver'] or 'unknown'}",
        )
        for number, gpu in enumerate(info["gpus"])
    ] or [("gpu", "none")]
    if toolkit["reason"] is None:
        rows.append(("toolkit", f"CUDA {toolkit['version']} in {toolkit['home']}"))
        rows.append(("nvcc", toolkit["nvcc"]))
    else:
        rows.append(("toolkit", f"none: {toolkit['reason']}"))
    rows.append(("kernels", _kernels_line(info["kernels"])))
    rows.append(("hopper path", info["kernels"]["hopper"]))
    rows += _op_rows(info["ops"])
    present = [name for name, there in info["video_encoders"].items() if there]
    absent = [name for name, there in info["video_encoders"].items() if not there]
    encoders = ", ".join(present) or "none"
    rows.append(("encoders", encoders + (f" (missing: {', '.join(absent)})" if absent else "")))
    rows.append(("disk", f"{disk['free_gib']:.1f} GiB free in {disk['path']}"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _op_rows(ops: dict[str, str]) -> list[tuple[str, str]]:
    """A row for each op; a long reason stands once, at the first op that has it."""
    rows: list[tuple[str, str]] = []
    told: dict[str, str] = {}
    for name, status in ops.items():
        first = told.setdefault(status, name)
        path, _, reason = status.partition(" ")
        rows.append((f"op {name}", f"{path} (as {first})" if reason and first != name else status))
    return rows


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _versions() -> dict[str, str | None]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from digan import __version__

    found: dict[str, str | None] = {"digan": __version__, "python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _system() -> dict[str, Any]:
    import os
    import platform

    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    flags = _cpu_field("flags").split()
    return {
        "platform": platform.platform(),
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        # The cores this process may use, which a container or a scheduler can limit.
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": capability,
        "avx512": "AVX512" in capability.upper(),
        # In hardware; PyTorch computes in bfloat16 on any CPU, but slowly on the others.
        "bf16": "avx512_bf16" in flags or "amx_bf16" in flags,
    }


def _cpu_field(name: str) -> str:
    """The first value of a field of Linux's CPU table, "" where there is none."""
    from pathlib import Path

    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def _gpus() -> list[dict[str, Any]]:
    import torch

    if not torch.cuda.is_available():
        return []
    driver = _driver_version()
    gpus = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        gpus.append(
            {
                "name": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_gib": properties.total_memory / 2**30,
                "driver": driver,
            }
        )
    return gpus


def _driver_version() -> str | None:
    """The NVIDIA driver's version, as its own tool reports it."""
    import shutil
    import subprocess

    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.split()
    return lines[0] if done.returncode == 0 and lines else None


def _kernels() -> dict[str, Any]:
    """The native library: what it was compiled for, and why it is not used ("" if it is)."""
    import digan.native
    from digan.toolkit import left_out

    built = list(digan.native.architectures())
    # An empty list says that no library is loaded, and nothing was left out of it then.
    return {
        "architectures": built,
        "left_out": left_out(built) if built else [],
        "reason": digan.native.reason(),
        "hopper": digan.native.hopper(),
    }


def _kernels_line(kernels: dict[str, Any]) -> str:
    if not kernels["architectures"]:
        return f"none: {kernels['reason']}"
    line = ", ".join(kernels["architectures"])
    if kernels["left_out"]:
        line += f" (TORCH_CUDA_ARCH_LIST left out {', '.join(kernels['left_out'])})"
    if kernels["reason"]:
        line += f"; not used: {kernels['reason']}"
    return line


def _toolkit() -> dict[str, Any]:
    from dataclasses import asdict

    from digan.toolkit import find_toolkit

    return asdict(find_toolkit())


def _video_encoders() -> dict[str, bool]:
    import av

    def there(name: str) -> bool:
        try:
            av.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            return False
        return True

    return {name: there(name) for name in ENCODERS}


def _disk() -> dict[str, Any]:
    import os
    import shutil

    path = os.getcwd()
    return {"path": path, "free_gib": shutil.disk_usage(path).free / 2**30}
