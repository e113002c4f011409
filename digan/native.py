"""The native library: finding it, loading it, and saying in one sentence why it is not used.

`digan/_native.so` (or the file that DIGAN_NATIVE_LIBRARY names) holds CUDA kernels for the
schemas of `digan.ops`. It is looked at before it is loaded, because loading it registers its
kernels: a library of another version registers nothing. No card is asked for at import, which
would start CUDA in a process that may yet fork; the cards are asked with `reason`.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

import torch

from digan._version import __version__
from digan.toolkit import OLDEST_ARCHITECTURE, serves

_DESCRIPTION = re.compile(rb"digan native library: version ([^;]*); for ([^;]*); cuda ([0-9]+);")
_OLDEST_DRIVER = {12: "525", 13: "580"}  # by the major version of the CUDA runtime


@dataclass(frozen=True)
class _Library:
    version: str
    architectures: tuple[str, ...]
    cuda: int  # 1000 * major + 10 * minor of the runtime inside


@dataclass
class _State:
    library: _Library | None = None
    reason: str = "the native library was not loaded"
    cards: str | None = None  # why the cards cannot run it; None until they are asked


_state = _State()


def path() -> Path:
    """The library's file: DIGAN_NATIVE_LIBRARY, else the one of this installation."""
    named = os.environ.get("DIGAN_NATIVE_LIBRARY", "")
    return Path(named) if named else Path(__file__).with_name("_native.so")


def load() -> None:
    """Loads the library, which registers its kernels. Never fails: `reason` says what is wrong."""
    _state.library, _state.cards = None, None
    _state.reason = _load(path())


def reason() -> str:
    """Why no kernel of the library can run here, with the cure; empty if they can.

    Asks the cards where there are any, so that it may start CUDA in this process.
    """
    if _state.reason or _state.library is None:
        return _state.reason
    if _state.cards is None:
        if not torch.cuda.is_available():
            return ""  # whether there is a card is another question
        capabilities = [
            torch.cuda.get_device_capability(card) for card in range(torch.cuda.device_count())
        ]
        _state.cards = _unserved(_state.library.architectures, capabilities)
    return _state.cards


def architectures() -> tuple[str, ...]:
    """What the library was compiled for, `sm_90a` or `compute_80` (PTX); empty without one."""
    return () if _state.library is None else _state.library.architectures


def hopper() -> str:
    """Whether cards of 9.0 take the kernels on TMA and `wgmma` made for them, in a few words.

    The library reads DIGAN_HOPPER itself, once, at the first call that the path could serve.
    """
    if "sm_90a" not in architectures():
        return "none (this library has no code for sm_90a)"
    if os.environ.get("DIGAN_HOPPER") == "1":
        return "on (DIGAN_HOPPER=1)"
    return "off (DIGAN_HOPPER=1 turns it on)"


def _load(file: Path) -> str:
    """Loads a file; returns why it cannot be used, or "" if it can."""
    if not file.is_file():
        if os.environ.get("DIGAN_NATIVE_LIBRARY"):
            return f"DIGAN_NATIVE_LIBRARY is {file}, which is no file"
        return (
            "the native kernels are not in this installation; install with nvcc by "
            "pip install --no-build-isolation ."
        )
    library = describe(file)
    if library is None:
        return f"{file} is no whole native library of digan; reinstall digan"
    if library.version != __version__:
        return (
            f"{file} is a library of digan {library.version}, and the package is {__version__}; "
            "reinstall digan"
        )
    try:
        torch.ops.load_library(str(file))
        functions = ctypes.CDLL(str(file))
        driver = functions.digan_cuda_driver()
        obstacle = functions.digan_stream_obstacle
    except (OSError, AttributeError) as error:
        # PyTorch raises an error of its own from the loader's, which says what is wrong.
        first = (str(error.__cause__ or error).splitlines() or ["no message"])[0]
        return f"{file} does not load: {first}; reinstall digan"
    _state.library = library
    obstacle.restype = ctypes.c_char_p
    said = obstacle() if torch.version.cuda is not None else None
    if said is not None:
        return f"{said.decode()}; install a PyTorch that has CUDA"
    return _old_driver(library.cuda, driver)


def describe(file: Path) -> _Library | None:
    """What the library says of itself, read without loading it; None for any other."""
    try:
        with open(file, "rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as text:
            found = _DESCRIPTION.search(text) if _is_whole(text) else None
            parts = None if found is None else [part.decode() for part in found.groups()]
    except (OSError, ValueError, UnicodeDecodeError):  # ValueError: the file is empty
        return None
    if parts is None:
        return None
    return _Library(parts[0], tuple(parts[1].split()), int(parts[2]))


def _is_whole(text: mmap.mmap) -> bool:
    """False for no ELF file, and for one cut short: loading that ends the process."""
    if len(text) < 64 or text[:4] != b"\x7fELF":
        return False
    (sections,) = struct.unpack_from("<Q", text, 0x28)  # their table is the last of the file
    size, count = struct.unpack_from("<HH", text, 0x3A)
    return bool(sections + size * count <= len(text))


def _old_driver(runtime: int, driver: int) -> str:
    """Why a driver is too old for the CUDA runtime in the library, "" if it is not.

    Both are 1000 * major + 10 * minor; a driver of 0 is none, and no card is there to use.
    """
    if driver == 0 or driver // 1000 >= runtime // 1000:
        return ""
    major = runtime // 1000
    wanted = (
        f"driver {_OLDEST_DRIVER[major]} or newer" if major in _OLDEST_DRIVER else "a newer one"
    )
    return (
        f"the NVIDIA driver serves CUDA {driver // 1000}.{driver % 1000 // 10} and the kernels "
        f"need CUDA {major}; install {wanted}"
    )


def _unserved(built: tuple[str, ...], capabilities: list[tuple[int, int]]) -> str:
    """Why the first card that cannot run the library cannot, "" if all can."""
    for card, (major, minor) in enumerate(capabilities):
        if not serves(built, major, minor):
            cure = (
                f"reinstall with TORCH_CUDA_ARCH_LIST={major}.{minor}"
                if major >= OLDEST_ARCHITECTURE
                else f"the kernels serve cards of {OLDEST_ARCHITECTURE} and newer"
            )
            return (
                f"GPU {card} is sm_{major}{minor}, and the kernels were built for "
                f"{' '.join(built)}; {cure}"
            )
    return ""
