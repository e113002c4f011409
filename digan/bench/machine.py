"""The machine: what it is, and what it can do at best, measured in the run that needs it."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from digan.bench.timing import Clock, measure

# glibc's allocator, told to keep what it has: pages stay mapped between two calls. By default
# each large tensor is fresh pages, and that alone can take half of the time on a CPU.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_TOP_PAD_": str(1 << 28),
}

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Ceilings:
    """Best measured rates.

    Attributes:
        flops: of a large matrix product, per second, by precision.
        copy: bytes read and written per second by a copy that leaves every cache.
    """

    flops: dict[str, float]
    copy: float

    def floor(self, work: list[tuple[float, float]], precision: str) -> float:
        """Seconds below which work of (flops, bytes) parts, one after the other, cannot go."""
        rate = self.flops.get(precision)
        if rate is None:
            return float("nan")
        return sum(max(flops / rate, size / self.copy) for flops, size in work)


def measure_ceilings(device: torch.device, precisions: list[str], rounds: int = 5) -> Ceilings:
    """Matrix products and a copy on random data; the best of some rounds is the ceiling."""
    clock = Clock(device)
    on_gpu = device.type == "cuda"
    side, length = (8192, 1 << 28) if on_gpu else (2048, 1 << 25)
    draw = torch.Generator(device=device).manual_seed(0)
    providers: dict[str, Callable[[], Any]] = {}
    for name in precisions:
        a, b = (
            torch.randn(side, side, generator=draw, device=device).to(DTYPES[name])
            for _ in range(2)
        )
        providers.update(_products(name, a, b))
    source = torch.randn(length, generator=draw, device=device)
    target = torch.empty_like(source)
    providers["copy"] = lambda: target.copy_(source)
    samples = measure(providers, clock, rounds=rounds, budget=20.0, warm_up=2)
    flops: dict[str, float] = {}
    for name, seconds in samples.items():
        if name != "copy":
            precision = name.split()[0]
            flops[precision] = max(flops.get(precision, 0.0), 2.0 * side**3 / min(seconds))
    return Ceilings(flops, 2.0 * 4 * length / min(samples["copy"]))


def _products(name: str, a: torch.Tensor, b: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """The libraries behind a matrix product on this device."""
    from digan.ops._tiles import product

    out = torch.empty_like(a)
    found: dict[str, Callable[[], Any]] = {f"{name} mm": lambda: torch.mm(a, b, out=out)}
    if a.device.type == "cpu":
        found[f"{name} onednn"] = lambda: product(a, b)
    return found


def describe(device: torch.device) -> dict[str, Any]:
    """Device, versions, commit, threads, clocks and allocator: all that explains a number."""
    from digan.info import collect_info

    info = collect_info()
    return {
        "device": device.type,
        "name": _name(device, info),
        "threads": torch.get_num_threads(),
        "clocks_mhz": read_clocks(device),
        "allocator": {name: os.environ.get(name) for name in TUNED_ALLOCATOR},
        "commit": _commit(),
        "toolkit": info["toolkit"]["version"],
        **{name: info[name] for name in ("versions", "system", "gpus", "ops")},
    }


def _name(device: torch.device, info: dict[str, Any]) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{info['system']['cpu']}, {info['system']['cores']} cores"


def _commit() -> str | None:
    """The commit of the source tree, with a + if files differ; None outside of one."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def read_clocks(device: torch.device) -> list[float]:
    """Clock rates now as the system reports them, MHz; empty where it does not.

    Of a GPU: of its multiprocessors, its memory. Of a CPU: of every core.
    """
    try:
        if device.type == "cuda":
            query = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.mem", "--format=csv,noheader"]
            text = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            return [float(part.split()[0]) for part in text.splitlines()[0].split(",")]
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        return []


def peak_memory(device: torch.device) -> int:
    """Most bytes held so far: allocated on a GPU, resident in the whole process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ceilings_to_dict(ceilings: Ceilings) -> dict[str, Any]:
    """As JSON values."""
    return asdict(ceilings)
