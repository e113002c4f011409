"""Plants faults in the sources of the kernels and counts how many the emulated tests catch.

    python -m tests.emulation.mutate                     every fault of every file
    python -m tests.emulation.mutate --sample 6 --seed 1 --files fir_resample.cu gemm/tile.cuh
    python -m tests.emulation.mutate --list

A mutated source holds all its faults, of which one is active at a time (mutant.h), so each
source is compiled once. Every fault is then tried in a process of its own: the op's cases,
forward and backward, against the float64 oracle, until one fails. Cases that caught many faults
for little time come first. A wrong number, a report of the emulator, a crash or a process that
does not end means caught.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tests.chain_cases import CASES as CHAIN_CASES
from tests.chain_cases import ChainCase, check_chain
from tests.emulation import build
from tests.emulation.extra_cases import HOPPER, LARGE, cases_for_mutants
from tests.emulation.linear_kinds import BF16, F16, F32, F64, KINDS, TF32_ERROR, TF32_WIDTH, Kind
from tests.emulation.planting import Fault, plant
from tests.emulation.survivors import reason_for
from tests.exact_op_cases import ALL_OPS, EXACT_OPS
from tests.op_cases import Case
from tests.ops import checks

CSRC = build.ROOT / "csrc"
# Not a kernel's own: what the emulator replaces, or other tests try number by number.
LEFT_OUT = {"platform.cuh", "ptx.cuh", "numbers.cuh"}
LEFT_OUT |= {f"gemm/hopper/{name}.cuh" for name in ("barrier", "tensor_map", "tma", "wgmma")}
WIDTHS = dict(checks._KINK_WIDTH)
CPU_SECONDS = 8  # of one trial, at least
TIMES_LONGER = 5  # than the trial takes without a fault
MOST = 60  # seconds that a trial may take without a fault
SECONDS = 900  # of all trials of a fault


def mutable_files() -> list[Path]:
    found = (p for p in CSRC.rglob("*.cu*") if p.suffix in (".cu", ".cuh"))
    return sorted(p for p in found if name_of(p) not in LEFT_OUT)


def name_of(path: Path) -> str:
    """As sources include it: `sums.cuh`, `gemm/tile.cuh`."""
    return path.relative_to(CSRC).as_posix()


@dataclass(frozen=True)
class Mutants:
    """A library that holds planted faults, and what they are by number."""

    library: Path
    faults: list[Fault]


def includes(path: Path) -> set[str]:
    """The names of csrc's files that a file includes, directly or not."""
    found: set[str] = set()
    waiting = [path]
    while waiting:
        for name in re.findall(r'^#include "([\w./]+)"', waiting.pop().read_text(), re.M):
            if name not in found and (CSRC / name).exists():
                found.add(name)
                waiting.append(CSRC / name)
    return found


def build_mutants(files: Sequence[Path], folder: Path = build.FOLDER) -> Mutants:
    """Compiles the kernels with all faults of the given files planted.

    A fault where the compiler wants a constant is dropped.
    """
    plain = build.ops_library()
    words = [build.key_of(plain), *map(name_of, files), Path(__file__).read_text()]
    words.append((build.HERE / "planting.py").read_text())
    key = hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]
    library = folder / f"mutants-{key}.so"
    record = library.with_suffix(".json")
    if not record.exists():
        with build.locked(folder):
            if not record.exists():
                faults = _compile(plain, files, folder, library)
                record.write_text(json.dumps([vars(fault) for fault in faults]))
    return Mutants(library, [Fault(**fault) for fault in json.loads(record.read_text())])


def _compile(
    plain: build.Library, files: Sequence[Path], folder: Path, library: Path
) -> list[Fault]:
    place = folder / f"mutants-{library.stem[-4:]}"
    names = set(map(name_of, files))
    moved = {
        source: place / name_of(source)
        for source in plain.sources
        if source.suffix == ".cu" and names & {name_of(source), *includes(source)}
    }
    # Of a header that is included through another one, too, there must be the changed one only.
    for path in CSRC.rglob("*"):
        if path.suffix in (".cu", ".cuh", ".h") and name_of(path) not in names:
            _put(place / name_of(path), path.read_text())
    mutated = replace(plain, sources=tuple(moved.get(s, s) for s in plain.sources))
    text = build.ninja_file(mutated, library, changed=place)
    dropped: set[tuple[str, int]] = set()
    while True:
        faults = _write(files, place, dropped)
        try:
            build.run_ninja(folder, text, library.stem, build._jobs())
            return faults
        except build.BuildError as error:
            where = re.escape(f"{place}/") + r"([\w./]+\.cuh?):(\d+):(?:\d+:)? error"
            found = re.findall(where, str(error))
            lines = {(name, int(line)) for name, line in found if name in names} - dropped
            if not lines:
                raise
            dropped |= lines


def _put(path: Path, text: str) -> None:
    """A file that is right already keeps its time: what includes it is not compiled again."""
    if not path.is_file() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _write(files: Sequence[Path], place: Path, dropped: set[tuple[str, int]]) -> list[Fault]:
    faults: list[Fault] = []
    for path in files:
        name = name_of(path)
        lines = {line for file, line in dropped if file == name}
        text, more = plant(path.read_text(), name, len(faults) + 1, lines)
        _put(place / name, text)
        faults += more
    return faults


# ---------------------------------------------------------------- trying them


def ops_of(file: str) -> list[str]:
    """The ops to try for a fault in a file, the likeliest first."""
    every = ["bias_act", "fir_resample", "factorized_modulation", "modulated_linear"]
    every += ["coord_linear", "fourier_features_at", "fourier_features", "frames_to_uint8"]
    every += ["coord_chain"]
    stem = Path(file).stem
    own = [op for op in every if stem == op or stem.startswith(f"{op}_")]
    if own and file.endswith(".cu"):
        return own[:1]  # the longest name that the file's begins with

    def uses(op: str) -> bool:
        return any(file in includes(path) for path in CSRC.glob(f"{op}*.cu"))

    return [op for op in every if uses(op)] or every


@dataclass(frozen=True)
class Trial:
    """One case of an op, forward and backward, in one arithmetic."""

    op: str
    case: Case | ChainCase
    kind: Kind
    hopper: bool = False  # on the path for cards of 9.0

    def __str__(self) -> str:
        return f"{self.op} {self.case.name} {self.kind}" + (" hopper" if self.hopper else "")

    def is_for(self, file: str, ops: Sequence[str]) -> bool:
        """Whether it may catch a fault in this file, which these ops use."""
        return self.op in ops and self.hopper == ("hopper" in file)

    def run(self) -> None:
        """Raises where something is wrong."""
        if self.kind.tf32:  # in a process that ends after the trials
            checks._KINK_WIDTH[torch.float32] = TF32_WIDTH
        else:
            checks._KINK_WIDTH.update(WIDTHS)
        if self.op in EXACT_OPS:
            checks.check_exact(ALL_OPS[self.op], self.case, self.kind.dtype, checks.DISPATCHED)
            return
        tolerance = TF32_ERROR if self.kind.tf32 else None
        if isinstance(self.case, ChainCase):
            check_chain(self.case, self.kind.dtype)
            return
        with self.kind.allowed():
            checks.check_gradients(
                ALL_OPS[self.op], self.case, self.kind.dtype, checks.DISPATCHED, tolerance
            )


def trials_of(ops: Iterable[str]) -> list[Trial]:
    """Cases of large tiles only where there are such tiles, in tensor cores' arithmetics."""
    found = []
    for name in ops:
        if name == "coord_chain":
            found += [Trial(name, case, kind) for kind in (BF16, F16) for case in CHAIN_CASES]
            continue
        for kind in KINDS if name in LARGE else (F32, F64, BF16, F16):
            # A tolerance of tf32 is as wide as one of 16 bits.
            dtype = torch.bfloat16 if kind.tf32 else kind.dtype
            for case in cases_for_mutants(ALL_OPS[name], dtype):
                if kind.has_tensor_cores or case not in LARGE.get(name, ()):
                    found.append(Trial(name, case, kind))
        for kind in (BF16, F16) if name in LARGE else ():
            found += [Trial(name, case, kind, hopper=True) for case in HOPPER[name]]
    return found


class Record:
    """What each trial, by its name, took when it passed, and how many faults it caught."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.caught: dict[str, int] = {}

    def ordered(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those first that tell most for their time."""

        def worth(trial: Trial) -> float:
            return (1 + self.caught.get(str(trial), 0)) / (0.01 + self.seconds.get(str(trial), 1.0))

        return sorted(trials, key=worth, reverse=True)

    def limit(self, trial: Trial) -> int:
        return max(CPU_SECONDS, round(TIMES_LONGER * self.seconds.get(str(trial), MOST)))


def try_in_process(
    fault: Fault | None, trials: Sequence[Trial], library: Path, record: Record
) -> str:
    """`caught: why`, or `survived`. Without a fault, everything must survive."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        text = "survived"
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with build.emulated(library=library) as controls:
                controls.set_mutant(0 if fault is None else fault.number)
                for trial in trials:
                    before = time.process_time()
                    _limit_to(round(before) + record.limit(trial))
                    controls.set_hopper(trial.hopper)
                    trial.run()
                    os.write(write, f"{time.process_time() - before}\n".encode())
        except BaseException as error:
            text = f"caught: {str(error)[:300] or type(error).__name__}"
        os.write(write, text.encode(errors="replace"))
        os._exit(0)
    os.close(write)
    lines, ended = _read_to_end(child, read)
    seconds = [float(line) for line in lines if re.fullmatch(r"[\d.e-]+", line)]
    record.seconds.update(zip(map(str, trials), seconds, strict=False))
    verdict = "\n".join(lines[len(seconds) :]) or f"caught: {ended}"
    if verdict != "survived" and len(seconds) < len(trials):
        failed = str(trials[len(seconds)])
        record.caught[failed] = record.caught.get(failed, 0) + 1
        verdict = verdict.replace("caught:", f"caught by {failed}:", 1)
    return verdict


def _limit_to(cpu_seconds: int) -> None:
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, most))


def _read_to_end(child: int, read: int) -> tuple[list[str], str]:
    """The lines that a child wrote until it ended, and how it ended."""
    text = b""
    deadline = time.monotonic() + SECONDS
    while select.select([read], [], [], max(0.0, deadline - time.monotonic()))[0]:
        more = os.read(read, 65536)
        if not more:
            break
        text += more
    else:
        os.kill(child, signal.SIGKILL)
    os.close(read)
    status = os.waitpid(child, 0)[1]
    return text.decode(errors="replace").splitlines(), f"the process ended with status {status}"


def try_all(mutants: Mutants, faults: Iterable[Fault], few: bool = False) -> list[Fault]:
    """Tries the given faults; returns the survivors.

    That trials pass without any fault is seen for all of them beforehand, where faults are `few`
    for those that caught one afterwards.
    """
    torch.set_num_threads(1)  # a forked child has no threads but one
    library = mutants.library
    build.load_emulated(library)
    faults = list(faults)
    tried = {fault.file: ops_of(fault.file) for fault in faults}
    trials = [
        trial
        for trial in trials_of(sorted({op for some in tried.values() for op in some}))
        if any(trial.is_for(file, ops) for file, ops in tried.items())
    ]
    record = Record()
    if not few:
        _try_without_faults(trials, library, record)
    survivors = []
    for fault in faults:
        ours = [trial for trial in trials if trial.is_for(fault.file, tried[fault.file])]
        verdict = try_in_process(fault, record.ordered(ours), library, record)
        if verdict == "survived":
            survivors.append(fault)
        print(f"{fault}: {verdict.splitlines()[0][:160]}", flush=True)
    if few:
        told = [trial for trial in trials if str(trial) in record.caught]
        _try_without_faults(told, library, record)
    return survivors


def _try_without_faults(trials: Sequence[Trial], library: Path, record: Record) -> None:
    said = try_in_process(None, trials, library, record)
    if said != "survived":
        raise RuntimeError(f"without any fault the tests fail: {said}")


def sample_of(faults: Sequence[Fault], count: int, seed: int) -> list[Fault]:
    """A fixed choice: barriers first, as they are few, then the rest by chance."""
    order = random.Random(seed).sample(list(faults), len(faults))
    return sorted(order, key=lambda fault: fault.kind != "barrier")[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", nargs="*", help="names in csrc/, as `gemm/tile.cuh` (all)")
    parser.add_argument("--kinds", nargs="*", help="of faults, as `guard` (all)")
    parser.add_argument("--sample", type=int, help="how many faults (all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--list", action="store_true", help="list the faults and end")
    wishes = parser.parse_args(arguments)
    files = [p for p in mutable_files() if not wishes.files or name_of(p) in wishes.files]
    mutants = build_mutants(files)
    chosen = [f for f in mutants.faults if not wishes.kinds or f.kind in wishes.kinds]
    if wishes.sample is not None:
        chosen = sample_of(chosen, wishes.sample, wishes.seed)
    if wishes.list:
        print("\n".join(map(str, chosen)))
        return 0
    survivors = try_all(mutants, chosen, few=wishes.sample is not None)
    for name in dict.fromkeys(fault.file for fault in chosen):
        planted, lived = (sum(f.file == name for f in some) for some in (chosen, survivors))
        print(f"  {name}: {planted} planted, {planted - lived} caught")
    caught = len(chosen) - len(survivors)
    print(f"\n{len(chosen)} faults planted, {caught} caught ({100 * caught / len(chosen):.1f} %)")
    for fault in survivors:
        print(f"  survived: {fault} ({reason_for(fault, CSRC) or 'UNEXPLAINED'})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
