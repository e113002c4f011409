"""Folders that look like those of runs, with any numbers in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from digan.config import to_dict
from digan.data.video import VideoWriter
from tests.tiny_runs import tiny_config

HEALTHY: dict[str, float] = {
    "G/loss": 1.2, "D/fake_loss": 0.5, "D/real_loss": 0.6, "G/gradient_norm": 1.0,
    "D/gradient_norm": 0.5, "D/r1_gradient_norm": 0.01, "D/r1_video": 0.01, "D/r1_image": 0.02,
    "D/real_video_logit": 0.5, "D/fake_video_logit": -0.5, "D/real_image_logit": 0.4,
    "D/fake_image_logit": -0.4, "seconds_per_kimg": 40.0, "data_wait_share": 0.01,
    "memory_gb": 0.5,
}  # fmt: skip


def made_run(
    folder: Path,
    ticks: int = 40,
    change: Callable[[int, dict[str, float]], None] = lambda tick, row: None,
    metric: Sequence[dict[str, float]] = (),
    status: dict[str, Any] | None = None,
    log: str = "",
) -> Path:
    """A run of 100 kimg with a tick every half; every number wanders by 10 %."""
    run = folder / "00000-made-res32-frames4-batch4"
    run.mkdir(parents=True)
    config = to_dict(tiny_config(kimg=100.0, resolution=32))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    source = np.random.default_rng(ticks)
    with open(run / "stats.jsonl", "w") as file:
        for tick in range(ticks):
            row = {k: v * float(np.exp(source.normal(0, 0.1))) for k, v in HEALTHY.items()}
            change(tick, row)
            file.write(json.dumps({"kimg": (tick + 1) / 2, **row, "seconds": 20.0 * tick}) + "\n")
    controls = {"floor": 1.0, "shuffled": 17.0, "frozen": 30.0, "mean_frame": 52.0,
                "pairwise_ratio": 1.0, "change_ratio": 1.0}  # fmt: skip
    with open(run / "metric-fd-random3d.jsonl", "w") as file:
        for number, results in enumerate(metric):
            row = {"metric": "fd-random3d", "results": {**controls, **results}}
            file.write(json.dumps({**row, "kimg": number * 5.0}) + "\n")
    state = {"finished": False, "kimg": ticks / 2, "reason": "running", "time": 0.0}
    (run / "status.json").write_text(json.dumps(state | (status or {})))
    (run / "log.txt").write_text(log)
    return run


def made_samples(run: Path, *kimgs: int) -> None:
    """Grids of 2 x 3 videos of 32 pixels with 5 frames, and one of real clips."""
    for name in ("reals.mp4", *(f"fakes{kimg:06d}.mp4" for kimg in kimgs)):
        with VideoWriter(run / name, 10) as writer:
            for t in range(5):
                writer.write(np.full((64, 96, 3), 40 * t, dtype=np.uint8))
