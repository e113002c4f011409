"""The machine code of a library's kernels: what each holds, its loops, and the one it lives in.

    python -m tests.sass [library] [--only TEXT]

prints a table, a row for each kernel and card. `cuobjdump` takes the code out of the library
and `nvdisasm` writes it down; both come with CUDA and as wheels, which the extra `dev` installs.
Text is kept in build/sass by the digest of its code: what did not change is not read twice.

`local` counts accesses to local memory, where spilled registers and arrays lie. `share` is what
multiplies in the main loop over all in it that does not load.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import hashlib
import importlib.metadata
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from digan.toolkit import find_toolkit
from tests.control_flow import natural_loops

ROOT = Path(__file__).resolve().parent.parent
TEXTS = ROOT / "build" / "sass"
LIBRARIES = (
    ROOT / "digan" / "_native.so",
    ROOT / "build" / "native_test" / "unpacked" / "digan" / "_native.so",
)

# Instructions that move numbers; their width is a part of the name here, as in "STG.128".
MOVES = ("LDG", "STG", "LDS", "STS", "LDL", "STL", "LDGSTS")
# From constant memory: the arguments of the kernel, mostly.
CONSTANTS = ("LDC", "ULDC", "LDCU")
PLAIN = ("FFMA", "FFMA2", "DFMA")
# Loads cost issue slots that no kernel can do without, so `share` leaves them out.
NO_SHARE = ("LDSM", "LDGSTS", "LDS", "LDG", "LDC", "NOP")


# ---------------------------------------------------------------- what there is


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, at an address within its kernel."""

    address: int
    predicate: str  # "@!P0"; "" for what always runs
    opcode: str  # with its modifiers: "LDGSTS.E.BYPASS.128"
    operands: str
    targets: tuple[int, ...] = ()  # where it may branch to, or what it calls

    @property
    def name(self) -> str:
        return self.opcode.split(".", 1)[0]

    @property
    def bits(self) -> int:
        """What a thread moves, of an instruction of MOVES."""
        for modifier in self.opcode.split(".")[1:]:
            width = re.fullmatch(r"[US]?(8|16|32|64|96|128|256)", modifier)
            if width is not None:
                return int(width[1])
        return 32

    @property
    def kind(self) -> str:
        """The name it is counted under: "HMMA", "LDGSTS.128", "BAR", "other"."""
        name = self.name
        if name in MOVES:
            return f"{name}.{self.bits}"
        if name in CONSTANTS:
            return "LDC"
        if name.endswith("MMA") or name in (*PLAIN, "LDSM", "BAR", "NOP", "UTMALDG"):
            return name
        return "other"


@dataclass(frozen=True)
class Loop:
    """A natural loop: what can run again and again without leaving it."""

    code: tuple[Instruction, ...]
    own: tuple[Instruction, ...] = field(repr=False)  # of no loop within this one

    @cached_property
    def counts(self) -> Counter[str]:
        return count(self.code)

    @cached_property
    def share(self) -> float:
        """Multiplying instructions over all that are no loads."""
        rest = sum(n for kind, n in self.counts.items() if kind.split(".")[0] not in NO_SHARE)
        return sum(self.counts[kind] for kind in multiplying(self.counts)) / rest


@dataclass(frozen=True)
class Kernel:
    """The code of one kernel for one card, the subroutines that it has to itself included."""

    mangled: str
    card: str
    code: tuple[Instruction, ...] = field(repr=False)

    @cached_property
    def name(self) -> str:
        return short_name(self.mangled)

    @cached_property
    def counts(self) -> Counter[str]:
        return count(self.code)

    @cached_property
    def loops(self) -> list[Loop]:
        return find_loops(self.code)

    @property
    def main_loop(self) -> Loop | None:
        """The innermost loop that holds the most matrix instructions.

        Where there are none, that which plain multiply-adds fill most, of those with at least an
        eighth of the most: the activations of an epilogue have many, too. None for a kernel that
        multiplies in no loop.
        """
        kinds = multiplying(self.counts)
        own = [sum(instruction.kind in kinds for instruction in loop.own) for loop in self.loops]
        most = max(own, default=0)
        least = most / 8 if kinds == PLAIN else most
        held = [loop for loop, n in zip(self.loops, own, strict=True) if n >= max(least, 1)]
        return max(held, key=lambda loop: loop.share, default=None)

    def moves(self, name: str) -> int:
        """Instructions of this name, of any width."""
        return sum(n for kind, n in self.counts.items() if kind.split(".")[0] == name)


def count(code: Iterable[Instruction]) -> Counter[str]:
    return Counter(instruction.kind for instruction in code)


def multiplying(counts: Counter[str]) -> tuple[str, ...]:
    """The kinds that do the multiplying where these are: a matrix unit's, else plain ones."""
    return tuple(kind for kind in counts if kind.endswith("MMA")) or PLAIN


# ---------------------------------------------------------------- reading text

_SECTION = re.compile(r"^[ \t]*\.section[ \t]+\.text\.([^\s,]+)", re.MULTILINE)
_CARD = re.compile(r"^[ \t]*\.target[ \t]+(sm_\w+)", re.MULTILINE)
_LABEL = re.compile(r"([.$\w]+):")
_LINE = re.compile(r"\s*/\*([0-9a-f]+)\*/\s+(?:(@\S+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_NAMED = re.compile(r"`\(([^)]+)\)")
_TABLE = re.compile(r"BRANCH_TARGETS ([^\"]+)\"")


def parse(text: str) -> list[Kernel]:
    """Every kernel in what `nvdisasm -c` printed.

    Raises:
        ValueError: code of no known card, or a line that is no instruction.
    """
    sections = list(_SECTION.finditer(text))
    if not sections:
        return []
    card = _CARD.search(text)
    if card is None:
        raise ValueError("the code names no card")
    ends = [section.start() for section in sections[1:]] + [len(text)]
    return [
        Kernel(section[1], card[1], _code(text[section.end() : end]))
        for section, end in zip(sections, ends, strict=True)
    ]


def _code(text: str) -> tuple[Instruction, ...]:
    lines: list[tuple[int, str, str, str]] = []
    labels: dict[str, int] = {}
    pending: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("/*"):
            found = _LINE.match(line)
            if found is None:
                raise ValueError(f"no instruction: {line.strip()!r}")
            address = int(found[1], 16)
            labels.update(dict.fromkeys(pending, address))
            pending.clear()
            lines.append((address, found[2] or "", found[3], found[4]))
        elif label := _LABEL.match(line):
            pending.append(label[1])
    code = []
    for address, predicate, opcode, operands in lines:
        table = _TABLE.search(operands)
        # A return names the kernel that it goes back to, which is no target of its own.
        names = table[1].split(",") if table else _NAMED.findall(operands)
        named = () if opcode.startswith("RET") else names
        targets = tuple(labels[name] for name in named if name in labels)
        code.append(Instruction(address, predicate, opcode, operands, targets))
    return _without_padding(code)


def _without_padding(code: list[Instruction]) -> tuple[Instruction, ...]:
    """Less what fills up the last line of the instruction cache: a branch to itself, NOPs."""
    end = len(code)
    while end and code[end - 1].name == "NOP":
        end -= 1
    if end and code[end - 1].name == "BRA" and code[end - 1].targets == (code[end - 1].address,):
        end -= 1
    return tuple(code[:end])


# ---------------------------------------------------------------- loops

_ENDS = ("EXIT", "RET", "BRX", "JMX", "BRXU", "KILL")
# They name where threads meet again, which they reach one instruction after another.
_MEETINGS = ("BSSY", "WARPSYNC")


def find_loops(code: Sequence[Instruction]) -> list[Loop]:
    """All loops, inner ones before those around them.

    Raises:
        ValueError: a branch whose targets the text does not tell.
    """
    pieces, follows = _flow(code)
    loops: list[Loop] = []
    taken: set[int] = set()
    for members in natural_loops(follows):
        whole, own = (
            tuple(instruction for member in sorted(some) for instruction in pieces[member])
            for some in (members, members - taken)
        )
        loops.append(Loop(whole, own))
        taken |= members
    return loops


def _flow(code: Sequence[Instruction]) -> tuple[list[Sequence[Instruction]], list[list[int]]]:
    """The straight pieces of the code, and of each, which may follow it."""
    place = {instruction.address: index for index, instruction in enumerate(code)}
    starts = {0}
    for index, instruction in enumerate(code):
        starts.update(place[target] for target in instruction.targets if target in place)
        if instruction.targets or instruction.name in _ENDS:
            starts.add(index + 1)
    cuts = sorted(start for start in starts if start < len(code))
    piece_at = {code[cut].address: piece for piece, cut in enumerate(cuts)}
    pieces = [code[cut:end] for cut, end in zip(cuts, [*cuts[1:], len(code)], strict=True)]
    follows = []
    for piece, instructions in enumerate(pieces):
        last = instructions[-1]
        if last.name in ("BRX", "JMX", "BRXU") and not last.targets:
            raise ValueError(f"where {last.opcode} at {last.address:#x} goes is not told")
        targets = () if last.name in _MEETINGS else last.targets
        after = [piece_at[target] for target in targets if target in piece_at]
        if piece + 1 < len(pieces) and _may_go_on(last):
            after.append(piece + 1)
        follows.append(after)
    return pieces, follows


def _may_go_on(last: Instruction) -> bool:
    """Whether the next instruction may follow, too."""
    if last.predicate:
        return True
    # A branch with another operand before its target has a condition: BRA P1, BRA.DIV.
    return last.name not in _ENDS and not (last.name == "BRA" and last.operands.startswith("`"))


# ---------------------------------------------------------------- names


def demangled(mangled: str) -> str:
    """A C++ name as it is written; a name that is none is left as it is."""
    demangle = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    demangle.restype = ctypes.c_void_p
    address = demangle(mangled.encode(), None, None, None)
    if not address:
        return mangled
    result = ctypes.string_at(address).decode()
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    free(address)
    return result


def short_name(mangled: str) -> str:
    """The kernel and its template arguments: "coord_linear_kernel<Plain<float>, 64x64>"."""
    full = demangled(mangled).replace("(anonymous namespace)::", "")
    depth, end = 0, len(full)
    for index, letter in enumerate(full):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            end = index
            break
    name = re.sub(r"(\w*::)+", "", full[:end].removeprefix("void "))
    name = re.sub(r"\bTileShape<(\d+), (\d+)[^<>]*>", r"\1x\2", name)
    name = name.replace("__nv_bfloat16", "bf16").replace("__half", "f16")
    return name.replace(" >", ">")


# ---------------------------------------------------------------- a library


@dataclass(frozen=True)
class Tools:
    """The two programs."""

    cuobjdump: Path
    nvdisasm: Path


def find_tool(name: str, home: str | None) -> Path | None:
    """A program of the wheel of its name, of the CUDA toolkit at `home`, or on PATH.

    The wheel is the newest: it reads what older compilers made, and not the other way round.
    """
    try:
        files = importlib.metadata.files(f"nvidia-cuda-{name}") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name == name]
    found += [Path(home) / "bin" / name] if home else []
    found += [Path(path) for path in [shutil.which(name)] if path is not None]
    return next((path for path in found if path.is_file()), None)


def find_tools(home: str | None) -> Tools | None:
    cuobjdump, nvdisasm = find_tool("cuobjdump", home), find_tool("nvdisasm", home)
    return None if cuobjdump is None or nvdisasm is None else Tools(cuobjdump, nvdisasm)


@lru_cache
def kernels_of(library: Path, tools: Tools) -> tuple[Kernel, ...]:
    """Every kernel of the library, for every card that it has code for."""
    texts = []
    TEXTS.mkdir(parents=True, exist_ok=True)
    with open(TEXTS / "lock", "w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _output_of(tools.cuobjdump, "-xelf", "all", library.resolve(), folder=folder)
        version, used = _output_of(tools.nvdisasm, "--version"), set()
        for code in sorted(Path(folder).glob("*.cubin")):
            key = hashlib.sha256(code.read_bytes() + version.encode())
            kept = TEXTS / f"{key.hexdigest()}.txt"
            used.add(kept)
            if not kept.is_file():
                text = _output_of(tools.nvdisasm, "-c", code)
                kept.with_suffix(".new").write_text(text)
                kept.with_suffix(".new").rename(kept)
            texts.append(kept.read_text())
        for other in set(TEXTS.glob("*.txt")) - used:
            other.unlink()
    return tuple(kernel for text in texts for kernel in parse(text))


def _output_of(program: Path, *arguments: str | Path, folder: str | None = None) -> str:
    done = subprocess.run(
        [program, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


# ---------------------------------------------------------------- the table


def resources(library: Path, tools: Tools) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Of each (mangled name, card): registers, bytes of stack, bytes of shared memory.

    Shared memory that a launch asks for is not among them.
    """
    found, card = {}, ""
    text = _output_of(tools.cuobjdump, "-res-usage", library.resolve())
    for line in re.finditer(
        r"^arch = (\w+)|^ *Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", text, re.M
    ):
        if line[1]:
            card = line[1]
        else:
            found[line[2], card] = (int(line[3]), int(line[4]), int(line[5]))
    return found


HEAD = ("kernel", "card", "registers", "stack", "shared", "local", "share", "main loop")


def table(library: Path, tools: Tools, only: str = "") -> list[tuple[str, ...]]:
    """HEAD and a row for each kernel whose name holds `only`."""
    usage = resources(library, tools)
    rows: list[tuple[str, ...]] = [HEAD]
    for kernel in sorted(kernels_of(library, tools), key=lambda k: (k.name, k.card)):
        if only not in kernel.name:
            continue
        loop = kernel.main_loop
        local = kernel.moves("LDL") + kernel.moves("STL")
        figures = (*usage[kernel.mangled, kernel.card], local)
        share = f"{loop.share:.2f}" if loop else "-"
        counts = sorted(loop.counts.items()) if loop else []
        held = ", ".join(f"{n} {kind}" for kind, n in counts) or "-"
        rows.append((kernel.name, kernel.card, *map(str, figures), share, held))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="what the machine code of the kernels holds")
    parser.add_argument("library", nargs="?", type=Path, help="_native.so; else the newest built")
    parser.add_argument("--only", default="", help="kernels whose name holds this text")
    given = parser.parse_args()
    built = sorted(filter(Path.is_file, LIBRARIES), key=lambda path: path.stat().st_mtime)
    library = given.library or (built[-1] if built else None)
    if library is None or not library.is_file():
        parser.error(f"{library or 'digan/_native.so'} is no file; build it, or name another")
    tools = find_tools(find_toolkit().home)
    if tools is None:
        parser.error("cuobjdump and nvdisasm are missing; pip install 'digan[dev]'")
    rows = table(library, tools, given.only)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))


if __name__ == "__main__":
    main()
