"""Files that are whole or not there: atomic writing, checks before long work, checksums."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from digan.errors import DiganError

_UNFINISHED = re.compile(r"\..+\.(\d+)\.tmp")  # .NAME.PROCESS.tmp
_MOST_PACKED = 256 << 20  # bytes of an archive's entries that are packed


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, which takes its place when the body ends well.

    Raises:
        DiganError: the folder cannot be written or the disk is full; `path` is untouched.
    """
    if not path.name:
        raise DiganError(f"{path} cannot be written: it is the name of a folder")
    temporary = _unfinished(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise DiganError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # the error in flight matters more
            temporary.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    """Where this process writes what is to become `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes have half written in a folder, as far as that can be done."""
    with suppress(OSError):
        for path in folder.iterdir():
            match = _UNFINISHED.fullmatch(path.name)
            if match and not _is_alive(int(match[1])):
                with suppress(OSError):
                    path.unlink()


def _is_alive(process: int) -> bool:
    """Whether this machine has a process of that number; also one of another user."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is there, and not ours
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Writes a small file atomically. Raises DiganError if it cannot."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, atomically. Raises DiganError if it cannot."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def writable_folder(path: Path, need_bytes: int = 0) -> Path:
    """Makes a folder and proves that it can be written and has room.

    Raises:
        DiganError: names the folder, and what is missing.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = _unfinished(path / "probe")
        probe.write_bytes(b"digan")
        probe.unlink()
    except OSError as error:
        raise DiganError(
            f"the folder {path} cannot be written: {error.strerror or error}"
        ) from error
    free = shutil.disk_usage(path).free
    if free < need_bytes:
        raise DiganError(
            f"the disk of {path} must have {need_bytes / 1e9:.2f} GB free, "
            f"it has {free / 1e9:.2f} GB"
        )
    return path


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes, or of all files of a folder by name, in hex.

    Raises:
        DiganError: it cannot be read.
    """
    digest = hashlib.sha256()
    paths = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        for file in paths:
            if path.is_dir():
                digest.update(str(file.relative_to(path)).encode() + b"\0")
            with open(file, "rb") as stream:
                hashlib.file_digest(stream, lambda: digest)
    except OSError as error:
        raise DiganError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def check_archive(path: Path) -> None:
    """Proves that a file of PyTorch's is whole, before PyTorch reads it.

    PyTorch compares no checksums, allocates whatever sizes a damaged directory states, and in
    TorchScript ends the process over some errors. It packs nothing but the texts of programs. Files
    from before 2020 are no archives and are not looked at.

    Raises:
        ValueError: an entry differs from its checksum, or its size cannot be.
        zipfile.BadZipFile, OSError, and what else `zipfile` meets damage with.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":
            return
        with zipfile.ZipFile(file) as archive:
            packed = 0
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    packed += entry.file_size
                elif entry.file_size > path.stat().st_size:
                    raise ValueError("an entry of its archive is larger than the file")
            if packed > _MOST_PACKED:
                raise ValueError(f"its archive unpacks to more than {_MOST_PACKED >> 20} MB")
            if name := archive.testzip():
                raise ValueError(f"the checksum of {name[:60]!r} is wrong")
