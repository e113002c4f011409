"""The command line of the benchmark: `benchmarks/bench_inr.py` and `digan bench`.

argparse, not tyro: the benchmark also runs where only PyTorch, NumPy and matplotlib are.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from digan.bench.cases import DEFAULT, ON_REQUEST, SECTIONS, Options
from digan.bench.flags import at_least, settings_of, some_of
from digan.bench.machine import DTYPES
from digan.config import PRESETS
from digan.errors import DiganError

ALLOCATORS = ("default", "tuned")
PROVIDERS = ("reference", "compiled", "fused", "original")

EXAMPLES = """Examples:
    digan bench                                        # everything, on the GPU if there is one
    digan bench --section generator --precision bf16
    digan bench --official ../digan-official --json results.json --plot plots/

Two files side by side, ratios with their uncertainty:
    python benchmarks/compare.py old.json new.json

A checkout of the original implementation for --official:
    git clone https://github.com/sihyun-yu/digan ../digan-official
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, with the nearest flag for one that does not exist."""
        if message.startswith("unrecognized arguments: "):
            given = message.split(": ", 1)[1].split()[0]
            near = difflib.get_close_matches(given, self._option_string_actions, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            message = f"there is no flag {given!r}{hint}"
        print(f"{self.prog}: error: {message} (--help lists the flags)", file=sys.stderr)
        raise SystemExit(2)


def parser(name: str) -> argparse.ArgumentParser:
    """The flags; defaults are those of `Options`."""
    default = Options()
    p = _Parser(
        prog=name,
        description="Measure digan on this machine: ops, synthesis, training, where the time of "
        "an iteration goes, clip loader; with "
        "--official beside the original implementation. Prints tables; see docs/benchmark.md.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = p.add_argument
    add("--section", type=some_of(SECTIONS), default=DEFAULT, metavar="LIST",
        help=f"of {','.join(SECTIONS)}; default all but {','.join(ON_REQUEST)}")  # fmt: skip
    add("--preset", choices=sorted(PRESETS), default=default.preset)
    add("--precision", type=some_of(list(DTYPES)), default=default.precisions, metavar="LIST",
        help=f"of {','.join(DTYPES)}; default {','.join(default.precisions)}")  # fmt: skip
    add("--device", choices=("cpu", "cuda"), help="default: the GPU where there is one")
    add("--repeats", type=at_least(1), default=default.repeats,
        help="rounds in each process; default %(default)s")  # fmt: skip
    add("--processes", type=at_least(1), default=default.processes,
        help="fresh processes a section; default %(default)s")  # fmt: skip
    add("--budget", type=at_least(0, float), default=default.budget, metavar="SECONDS",
        help="no new round of a case begins after so long, but two are made; "
        "default %(default)s")  # fmt: skip
    add("--threads", type=at_least(1), help="CPU threads; default PyTorch's own choice")
    add("--allocator", type=some_of(ALLOCATORS), default=default.allocators, metavar="LIST",
        help="CPU only: default, and tuned to keep its pages; default both")  # fmt: skip
    add("--providers", type=some_of(PROVIDERS), default=default.providers, metavar="LIST",
        help=f"of {','.join(PROVIDERS)}; default all that can run")  # fmt: skip
    add("--resolution", type=at_least(32), default=default.resolution)
    add("--frames", type=at_least(2), default=default.frames, help="of a training clip")
    add("--batch", type=at_least(1), default=default.batch, help="pairs of an iteration")
    add("--official", type=Path, metavar="PATH", help="a checkout of the original implementation")
    add("--json", type=Path, metavar="FILE", help="write all samples")
    add("--no-memory", action="store_true",
        help="leave out the processes that only find peak memory")  # fmt: skip
    add("--seconds", type=at_least(1, float), metavar="N",
        help="of the whole run: no case begins later, what is there is reported")  # fmt: skip
    add("--vary", type=settings_of("DIGAN_"), default=(), metavar="NAME=A,B",
        help="measure the native kernels under each value of a variable of the environment, in "
        "turns of processes")  # fmt: skip
    add("--trace", type=Path, metavar="FILE",
        help="section profile: keep traces, for chrome://tracing, as FILE-WHAT.json")  # fmt: skip
    add("--scale-to", type=at_least(2), metavar="N",
        help="section processes: up to so many; default the GPUs, or 2 on a CPU")  # fmt: skip
    add("--plot", type=Path, metavar="FOLDER", help="write a picture per section (matplotlib)")
    return p


def run(arguments: Sequence[str], name: str = "digan bench") -> int:
    """Parses, measures, prints, writes; returns the exit status.

    Raises:
        DiganError: what cannot be measured or written.
    """
    given = parser(name).parse_args(list(arguments))
    import torch

    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DiganError("device cuda was asked for and no CUDA device is visible")
    if given.plot is not None:
        from digan.plotting import pyplot

        pyplot()  # or an error now, before anything is measured
    for target in (given.json and given.json.parent, given.plot,
                   given.trace and given.trace.parent):  # fmt: skip
        if target is not None:
            from digan.files import writable_folder

            writable_folder(target)
    options = Options(
        sections=given.section,
        preset=given.preset,
        resolution=given.resolution,
        frames=given.frames,
        batch=given.batch,
        precisions=given.precision,
        device=device,
        repeats=given.repeats,
        processes=given.processes,
        budget=given.budget,
        threads=given.threads,
        allocators=given.allocator,
        providers=given.providers,
        official=None if given.official is None else str(given.official.resolve()),
        seconds=given.seconds,
        memory=not (given.no_memory or given.vary),
        vary=given.vary,
        scale_to=given.scale_to,
        trace=None if given.trace is None else str(given.trace.resolve()),
    )
    options.config()  # a batch or a size that no network can have fails before the work
    if options.official:
        from digan.bench.official import load_official

        load_official(options.official)
    from digan.bench.data_wait import waits_of
    from digan.bench.report import format_results
    from digan.bench.run import run_benchmark
    from digan.bench.scaling import scaling_of
    from digan.bench.targets import format_targets, targets_of

    results = run_benchmark(options)
    results.tables["targets"] = targets_of(results, options.sections)
    results.tables["data wait"] = waits_of(results)
    results.tables["scaling"] = scaling_of(results)
    print(format_results(results))
    print("\n" + format_targets(results.tables["targets"]))
    if given.json is not None:
        results.write(given.json)
    if given.plot is not None:
        from digan.bench.plots import write_plots

        for path in write_plots(results, given.plot):
            print(f"wrote {path}")
    return 0


def main() -> int:
    """`benchmarks/bench_inr.py`: errors in one line."""
    try:
        return run(sys.argv[1:], name="bench_inr.py")
    except DiganError as error:
        print(f"bench_inr.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench_inr.py: interrupted", file=sys.stderr)
        return 130
