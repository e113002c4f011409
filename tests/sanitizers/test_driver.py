"""The launchers of csrc/ called from a C++ program, under the sanitizers of the compiler.

The emulator checks what kernels do by the sizes that it is told; here AddressSanitizer checks
them against the heap, and UndefinedBehaviorSanitizer what C++ leaves open in kernels, launchers
and emulator. The GEMMs take a minute to compile so, hence the few ops outside `make soak`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.emulation.build import build, sanitized_driver

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
QUICK = ("bias_act", "factorized_modulation", "frames_to_uint8")
EVERY = sorted(path.stem for path in HERE.glob("*.cpp") if path.stem != "driver")


def run(names: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    """The program with the launchers of `names`; all of them for none."""
    mine = {k: v for k, v in os.environ.items() if not k.endswith("SAN_OPTIONS")}
    program = build(sanitized_driver(*names))
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, env=mine)


@pytest.mark.soak
def test_launchers(soak):
    """A soak takes all launchers, and new numbers and orders of threads twenty times."""
    rounds = 20 if soak else 2
    done = run(() if soak else QUICK, "--rounds", str(rounds))
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert done.stderr == ""
    said = re.findall(r"^(\w+): seed (\d+), (\d+) calls, all finite$", done.stdout, re.MULTILINE)
    expected = [(name, round) for round in range(rounds) for name in (EVERY if soak else QUICK)]
    assert sorted((name, int(seed)) for name, seed, _ in said) == sorted(expected)
    assert all(int(calls) >= 12 for *_, calls in said)


PLANTED = {
    "short": "ERROR: AddressSanitizer: heap-buffer-overflow",
    "flag": "runtime error: load of value 2, which is not a valid value for type 'bool'",
    "unwritten": "is not finite",
}


@pytest.mark.parametrize(("fault", "said"), PLANTED.items())
def test_planted_faults_are_found(fault, said):
    done = run(QUICK, "--plant", fault, "bias_act")
    assert done.returncode != 0
    assert said in done.stderr
    assert fault == "unwritten" or "bias_act_kernel" in done.stderr


def test_no_launcher_is_forgotten():
    declared = {
        name for path in CSRC.glob("*.h") for name in re.findall(r"\blaunch_\w+", path.read_text())
    }
    texts = [path.read_text() for path in HERE.glob("*.cpp")]
    called = {name for text in texts for name in re.findall(r"\b(launch_\w+)\(", text)}
    # The launchers of both linear ops call those for cards of 9.0 where they are told to.
    assert sum("arguments.hopper = hopper;" in text for text in texts) == 2
    assert {n for n in declared - called if not n.endswith("_hopper")} == set()
