"""Does a generator of fewer bits learn as well? One training per precision and seed, and a plot.

    python benchmarks/precision_study.py --outdir runs/precision
    python benchmarks/precision_study.py --outdir runs/precision64 --device cuda --resolution 64 \
        --preset fast --batch 32 --minutes 4

cost        one iteration of every precision in turn, round after round: seconds per kimg
runs        every precision with every seed, on the same clips; fd-random3d of the averaged
            generator, evaluated in float32, at equal distances
summary     summary.json, precision.png and a table, by the rule of `verdict`

Only the generator's coordinate layers change their precision: the discriminators are in float32
in all runs, as are coordinates, phases and optimisers. The videos are those of `digan demo`.
Every finished run is a line of runs.jsonl; started again, the study goes on after the last.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import digan  # noqa: F401
except ModuleNotFoundError:  # a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from digan.config import PRESETS, TrainConfig
from digan.data.datasets import ClipPairs, PairBatch, pair_loader
from digan.data.prepare import prepare
from digan.data.synthetic import write_clouds
from digan.demo import CLIP_FRAMES, DETAIL, FRAMES, RESOLUTION, VIDEOS
from digan.errors import DiganError
from digan.execution import choose_device
from digan.files import write_json
from digan.nn import Generator
from digan.plotting import pyplot
from digan.training.loop import open_data
from digan.training.samples import Random3dMetric
from digan.training.step import Trainer

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
LEAST_GAIN = 0.1  # of the time, for which another default than float32 is worth its risks
LAST_POINTS = 2  # of a run, whose mean is its final distance
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(given.threads)
    torch.backends.cudnn.allow_tf32 = False  # the discriminators are in float32, in all runs
    try:
        study = Study(given)
        study.measure_cost()
        study.train_all()
        study.report()
    except DiganError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--outdir", type=Path, required=True, help="data, runs.jsonl, summary.json, precision.png")
    add("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--kimg", type=float, default=6.0, help="length of a run in thousands of samples")
    add("--minutes", type=float, help="in place of --kimg: what float32 does in this time")
    add("--points", type=int, default=8, help="evaluations of a run after that of its start")
    add("--samples", type=int, default=512, help="generated videos of an evaluation")
    add("--rounds", type=int, default=20, help="of the comparison of costs")
    add("--round-iterations", type=int, help="of a precision in a round; as lie between two R1")
    add("--device", help="cpu or cuda; the GPU where there is one by default")
    add("--preset", choices=sorted(PRESETS), default="tiny")
    add("--resolution", type=int, default=32)
    add("--batch", type=int, help="samples of an iteration; the preset's by default")
    add("--videos", type=int, default=VIDEOS)
    add("--workers", type=int, default=0, help="processes that read clips")
    add("--threads", type=int, default=1, help="of PyTorch on the CPU")
    return parser


class Study:
    """The study of one folder."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.device = choose_device(given.device)
        self.file = given.outdir / "runs.jsonl"
        given.outdir.mkdir(parents=True, exist_ok=True)
        self._keep_settings()
        self.store = self._data()
        # One reference for all seeds: the distances of two runs differ by the runs alone.
        self.metric = Random3dMetric(self._open("fp32", 0)[2], given.samples)

    def _keep_settings(self) -> None:
        free = ("outdir", "precisions", "seeds")  # may grow from call to call
        settings = {k: v for k, v in vars(self.given).items() if k not in free}
        settings["device"] = self.device.type
        path = self.given.outdir / "settings.json"
        if path.exists() and json.loads(path.read_text()) != settings:
            raise DiganError(f"{path} is of a study with other settings: choose another --outdir")
        write_json(path, settings)
        self.settings = settings

    def _data(self) -> Path:
        folder: Path = self.given.outdir / "data"
        if not (folder / "done").exists():
            size = self.given.resolution
            write_clouds(
                folder / "videos", videos=self.given.videos, frames=FRAMES, size=max(size, 64),
                seed=0, detail=min(DETAIL * size / RESOLUTION, 1.0), progress=False,
            )  # fmt: skip
            prepare(
                folder / "videos", folder / "store", resolution=self.given.resolution,
                progress=False, workers=1,
            )  # fmt: skip
            (folder / "done").touch()
        return folder / "store"

    def _open(self, precision: Any, seed: int) -> tuple[TrainConfig, Any, ClipPairs]:
        preset = PRESETS[self.given.preset]
        config = dataclasses.replace(
            preset,
            clip_frames=CLIP_FRAMES,
            cond=True,
            precision="fp32",
            generator_precision=precision,
            seed=seed,
            batch=self.given.batch or preset.batch,
            workers=self.given.workers,
            deterministic=False,
        )
        return open_data(config, self.store)

    def rows(self) -> list[Row]:
        """What is done."""
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines() if line]

    def _append(self, row: Row) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _trainer(self, precision: str, seed: int) -> tuple[Trainer, Iterator[PairBatch]]:
        config, _, pairs = self._open(precision, seed)
        trainer = Trainer(config, labels=pairs.labels, device=self.device)
        size = config.batch
        numbers = (list(range(i, i + size)) for i in range(0, 1 << 40, size))
        pinned = self.device.type == "cuda"
        return trainer, pair_loader(pairs, numbers, config.workers, pin_memory=pinned)

    def _timed(self, work: Callable[[], None]) -> tuple[float, float]:
        """Seconds of the process's CPUs and of the clock."""
        self._wait()
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        self._wait()
        return time.process_time() - cpu, time.perf_counter() - wall

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def cost(self) -> Row | None:
        """The comparison of costs, where it is done for all precisions asked for."""
        found = [r for r in self.rows() if r["kind"] == "cost"]
        return found[-1] if found and set(self.given.precisions) <= set(found[-1]["cpu"]) else None

    def measure_cost(self) -> None:
        """Iterations of all precisions by turns, so that what slows the machine slows all."""
        if self.cost() is not None:
            return
        pairs = {p: self._trainer(p, 0) for p in self.given.precisions}
        cpu: dict[str, list[float]] = {p: [] for p in pairs}
        wall: dict[str, list[float]] = {p: [] for p in pairs}
        for number in range(2 + self.given.rounds):  # two to warm up
            for precision, (trainer, batches) in pairs.items():
                # As many as lie between two R1 steps: an iteration's mean cost.
                count = self.given.round_iterations or trainer.config.d_reg_interval
                seconds = self._timed(lambda t=trainer, b=batches, n=count: _iterate(t, b, n))  # type: ignore[misc]
                if number >= 2:
                    kimg = count * trainer.config.batch / 1000
                    cpu[precision].append(seconds[0] / kimg)
                    wall[precision].append(seconds[1] / kimg)
            self._say(f"cost: round {number + 1} of {2 + self.given.rounds}")
        self._append({"kind": "cost", "cpu": cpu, "wall": wall, "machine": _machine(self.device)})

    def kimg(self) -> float:
        """Length of a run."""
        if self.given.minutes is None:
            return float(self.given.kimg)
        cost = self.cost()
        if cost is None or "fp32" not in cost["wall"]:
            raise DiganError("--minutes needs fp32 among --precisions")
        return float(self.given.minutes * 60 / statistics.median(cost["wall"]["fp32"]))

    def train_all(self) -> None:
        """Every seed with every precision; the seed outermost, so that all grow alike."""
        done = {(r["precision"], r["seed"]) for r in self.rows() if r["kind"] == "run"}
        for seed in self.given.seeds:
            for precision in self.given.precisions:
                if (precision, seed) not in done:
                    self._append(self._train(precision, seed))

    def _train(self, precision: str, seed: int) -> Row:
        trainer, batches = self._trainer(precision, seed)
        # Networks are used in float32 unless asked otherwise, so they are judged in it.
        judge = Generator(trainer.config.generator).to(self.device).eval().requires_grad_(False)
        batch = trainer.config.batch
        total = max(round(self.kimg() * 1000 / batch), self.given.points)
        points: list[Row] = []
        cpu = wall = 0.0
        complaints = 0
        for point in range(self.given.points + 1):
            until = total * point // self.given.points
            steps = until - trainer.step
            seconds = self._timed(lambda n=steps: _iterate(trainer, batches, n))  # type: ignore[misc]
            cpu, wall = cpu + seconds[0], wall + seconds[1]
            for guard in (trainer.g_guard, trainer.d_guard):
                complaints += len(guard.read()[0])
            judge.load_state_dict(trainer.average.state_dict())
            points.append(
                {
                    "kimg": trainer.seen / 1000,
                    "cpu_seconds": cpu,
                    "wall_seconds": wall,
                    **self._judged(judge),
                }
            )
            self._say(
                f"{precision} seed {seed}: {points[-1]['kimg']:.2f} kimg, fd "
                f"{points[-1]['fd']}, {cpu:.0f} s of CPU, {wall:.0f} s"
            )
        return {
            "kind": "run",
            "precision": precision,
            "seed": seed,
            "nonfinite": complaints,
            "clamp": trainer.config.generator.clamp,
            "points": points,
        }

    def _judged(self, judge: Generator) -> Row:
        try:
            found = self.metric.evaluate(judge)
        except DiganError:  # what is not finite has no distance
            return {"fd": None}
        return {
            "fd": found.fd,
            "pairwise_ratio": found.pairwise_ratio,
            "change_ratio": found.change_ratio,
        }

    def _say(self, text: str) -> None:
        print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)

    def report(self) -> None:
        """Writes the summary and the plot, and prints the table."""
        rows, cost = self.rows(), self.cost()
        assert cost is not None
        controls = self.metric.reference.controls
        summary = {
            "settings": self.settings,
            "machine": cost["machine"],
            "kimg": self.kimg(),
            "controls": dataclasses.asdict(controls),
            "cost": {"cpu": cost["cpu"], "wall": cost["wall"]},
            "runs": [r for r in rows if r["kind"] == "run"],
            "verdict": verdict(rows, cost, self.device.type),
        }
        write_json(self.given.outdir / "summary.json", summary)
        print(table(summary))
        draw(summary, self.given.outdir / "precision.png")


def _iterate(trainer: Trainer, batches: Iterator[PairBatch], count: int) -> None:
    for _ in range(count):
        batch = next(batches)
        trainer.iteration(batch.frames, batch.dt, batch.label)


def _machine(device: torch.device) -> Row:
    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            (x.partition(":")[2].strip() for x in lines if x.startswith("model name")), name
        )
    return {
        "device": name,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
    }


def final_distance(run: Row) -> float:
    """Mean fd of a run's last points; infinite if it has none there."""
    last = [p["fd"] for p in run["points"][-LAST_POINTS:]]
    return float("inf") if None in last else statistics.fmean(last)


def verdict(rows: list[Row], cost: Row, device: str) -> Row:
    """The rule. A run's final distance is the mean of its last two evaluations.

    A precision does not lose if the median of its seeds' final distances is no higher than
    float32's worst seed, and none of its runs had gradients that were not finite. Three seeds
    say little: this finds a precision that is clearly worse, not one that is slightly so, and of
    precisions as good as float32 it turns one in five away.

    The default is the cheapest precision that does not lose, if its iterations take at most 90 %
    of float32's time (median of the rounds' ratios); else float32, which gives the same run
    on more machines. tf32 on a CPU is rounding by hand: it can lose, and is no default.
    """
    unit = "wall" if device == "cuda" else "cpu"
    runs = [r for r in rows if r["kind"] == "run"]
    found: Row = {}
    finals = {p: [final_distance(r) for r in runs if r["precision"] == p] for p in PRECISIONS}
    worst = max(finals["fp32"], default=None)
    for precision in (p for p in PRECISIONS if finals[p]):
        own = [r for r in runs if r["precision"] == precision]
        ratios = [a / b for a, b in zip(cost[unit][precision], cost[unit]["fp32"], strict=True)]
        median, spoilt = statistics.median(finals[precision]), sum(r["nonfinite"] for r in own)
        found[precision] = {
            "final": [x if math.isfinite(x) else None for x in sorted(finals[precision])],
            "median": median if math.isfinite(median) else None,
            "nonfinite": spoilt,
            "seconds_per_kimg": statistics.median(cost[unit][precision]),
            "time_ratio": statistics.median(ratios),
            "time_ratio_quartiles": statistics.quantiles(ratios, n=4)[::2],
            "loses": worst is None or median > worst or spoilt > 0,
        }
    able = [
        p for p, v in found.items()
        if not v["loses"]
        and v["time_ratio"] <= 1 - LEAST_GAIN
        and not (p == "tf32" and device == "cpu")
    ]  # fmt: skip
    best = min(able, key=lambda p: found[p]["time_ratio"], default="fp32")
    return {"unit": unit, "precisions": found, "default": best}


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def table(summary: Row) -> str:
    """The study in a few lines."""
    controls = summary["controls"]
    lines = [
        f"{'generator':<10}{'final fd, median (seeds)':<36}{'time':>7}{'s/kimg':>9}"
        f"{'non-finite':>12}  loses"
    ]
    for precision, v in summary["verdict"]["precisions"].items():
        seeds = ", ".join(_number(x) for x in v["final"])
        lines.append(
            f"{precision:<10}{_number(v['median']):<8}{f'({seeds})':<28}{v['time_ratio']:>7.2f}"
            f"{v['seconds_per_kimg']:>9.2f}{v['nonfinite']:>12}  "
            f"{'yes' if v['loses'] else 'no'}"
        )
    names = ("floor", "frozen", "shuffled", "mean_frame")
    lines.append("controls: " + ", ".join(f"{n} {controls[n]:.2f}" for n in names))
    lines.append(f"default on this device: {summary['verdict']['default']}")
    return "\n".join(lines)


def draw(summary: Row, path: Path) -> None:
    """Distance against samples and against time: seeds thin, their median thick."""
    plt = pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    found = summary["verdict"]["precisions"]
    colours = {"fp32": "#222222", "tf32": "#1b7f5c", "bf16": "#2a6fbb", "fp16": "#c8502f"}
    dashes = {"fp32": "-", "tf32": (0, (1, 1)), "bf16": (0, (4, 1.5)), "fp16": (0, (4, 1, 1, 1))}
    for precision, v in found.items():
        curves = [
            [(p["kimg"], p["fd"]) for p in run["points"]]
            for run in summary["runs"]
            if run["precision"] == precision
        ]
        kimg = [x for x, _ in curves[0]]
        middle = [
            statistics.median(float("nan") if c[i][1] is None else c[i][1] for c in curves)
            for i in range(len(kimg))
        ]
        for panel, scale in zip(panels, (1.0, v["seconds_per_kimg"] / 60), strict=True):
            x = [k * scale for k in kimg]
            for curve in curves:
                panel.plot(x, [y for _, y in curve], color=colours[precision], lw=0.6, alpha=0.5)
            panel.plot(
                x, middle, color=colours[precision], ls=dashes[precision], lw=2, label=precision
            )
    for panel in panels:
        panel.set_yscale("log")
        panel.grid(alpha=0.25, which="both", lw=0.5)
        for name in ("mean_frame", "shuffled", "frozen", "floor"):
            value = summary["controls"][name]
            panel.axhline(value, color="grey", lw=0.8, ls=":")
            panel.annotate(
                name.replace("_", " "), (0, value), xycoords=("axes fraction", "data"), fontsize=8,
                color="grey", ha="left", va="bottom", xytext=(3, 1), textcoords="offset points",
            )  # fmt: skip
    clock = "time" if summary["verdict"]["unit"] == "wall" else "CPU time, one thread"
    panels[0].set_xlabel("thousands of samples")
    panels[1].set_xlabel(f"minutes of training ({clock}, side-by-side rate)")
    panels[0].set_ylabel("fd-random3d of the averaged generator")
    panels[0].legend(title="generator in", loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
