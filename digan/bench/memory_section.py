"""What gradients hold: every frame of a clip through the generator, and a pass of training.

Every case is counted on tensors without numbers (`digan.training.live_memory`). On a GPU every
clip is measured too, by a fresh process that does only this; on a CPU, where a pass over a long one
takes minutes, the shortest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from digan.bench.cases import Case, Context, Options
from digan.bench.machine import DTYPES, peak_memory
from digan.bench.rows import Row
from digan.config import GeneratorConfig
from digan.errors import DiganError
from digan.grid import SpaceTimeGrid, frame_times
from digan.nn import Generator, loss_over_time
from digan.training.live_memory import PhaseWork, peak_bytes

FRAMES = (16, 32, 64, 128)
HOW = ("kept", "recomputed", "chunks")
SAMPLES = (4, 16, 64)


def cases(context: Context) -> Iterator[Case]:
    """None is timed in turns: one pass in a process of its own is enough for its peak."""
    yield from ()


def rows(context: Context) -> list[Row]:
    """All rows of the section."""
    found = []
    for precision in context.options.precisions:
        for frames in FRAMES:
            found += [_dense_row(context, precision, frames, how) for how in HOW]
        for samples in SAMPLES:
            found += [_training_row(context, precision, samples, how) for how in HOW[:2]]
    return found


def dense_gradients(
    config: GeneratorConfig, precision: str, frames: int, how: str, device: torch.device
) -> Callable[[], Any]:
    """Gradients of a mean square error over all frames of one video, by every parameter.

    Args:
        how: kept; recomputed, by `VideoINR.render(grid, recompute=True)`; or chunks, by
            `loss_over_time`.
    """
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        dtype = None if precision == "fp32" else DTYPES[precision]
        network = Generator(config, dtype=dtype)
        z, z_motion = torch.randn(2, 1, config.latent_dim)
        t = frame_times(frames, frames).to(device)
        size = config.resolution

    def work() -> None:
        video = network.write(network.map(z), z_motion)
        if how == "chunks":
            loss = loss_over_time(video, t, lambda seen, _: seen.square().sum())
        else:
            loss = video.render(SpaceTimeGrid(t), recompute=how == "recomputed").square().sum()
        (loss / (frames * size * size * 3)).backward()

    return work


def _dense_row(context: Context, precision: str, frames: int, how: str) -> Row:
    """Counted, and measured where that is possible."""
    options = context.options
    config = options.config().generator
    work = dense_gradients(config, precision, frames, how, torch.device("meta"))
    counted = peak_bytes(work)
    size = f"{config.resolution}x{config.resolution}"
    row = Row("gradients", f"T={frames} B=1 {size} +backward", how, precision, unit="frames")
    row.items = frames
    row.note = f"counted {counted / 1e6:,.0f} MB"
    if context.device.type == "cpu" and frames != FRAMES[0]:
        return row
    measured = _in_fresh_process(options, precision, frames, how)
    row.peak, row.samples = measured["peak"], [[measured["seconds"]]]
    row.note += f", of {measured['before'] / 1e6:,.0f} MB before"
    return row


def _training_row(context: Context, precision: str, samples: int, how: str) -> Row:
    """The phases of an iteration, counted; the gradients of one network are among them."""
    config = context.options.config(precision)
    config = replace(config, batch=max(SAMPLES), recompute=how == "recomputed")
    work, peaks = PhaseWork.on_meta(config), {}
    for phase in PhaseWork.PHASES:
        peaks[phase] = peak_bytes(partial(work.run, phase, samples))
        work.clear()
    size = f"{config.resolution}x{config.resolution}"
    row = Row("gradients", f"pass of {samples} pairs {size}", how, precision)
    each = ", ".join(f"{phase} {peak / 1e6:,.0f}" for phase, peak in peaks.items())
    row.note = f"counted, MB: {each}"
    return row


def _in_fresh_process(options: Options, precision: str, frames: int, how: str) -> dict[str, Any]:
    """Peak bytes and seconds of one pass in a process that does nothing else."""
    task = {"options": asdict(options), "precision": precision, "frames": frames, "how": how}
    done = subprocess.run(
        [sys.executable, "-m", "digan.bench.memory_section"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise DiganError(f"T={frames} {how} {precision} ended with {done.returncode}: {last}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    """Does the task on standard input, prints what it took."""
    task = json.load(sys.stdin)
    values: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in task["options"].items()
    }
    options = Options(**values)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    config = options.config().generator
    work = dense_gradients(config, task["precision"], task["frames"], task["how"], device)
    before, started = peak_memory(device), time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    print(json.dumps({"peak": peak_memory(device), "before": before, "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
