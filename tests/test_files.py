"""Files are whole or not there, and folders are tried before long work."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from digan.errors import DiganError
from digan.files import atomic_path, remove_unfinished, writable_folder, write_json, write_text


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_what_a_killed_process_leaves_is_removed(tmp_path):
    """Not what a living one is writing, and nothing else."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    kept = [f".a.pt.{os.getpid()}.tmp", ".hidden", "b.tmp", f"c.{dead.pid}.tmp", ".x.99x.tmp"]
    for name in [*kept, f".a.pt.{dead.pid}.tmp", f".probe.{dead.pid}.tmp"]:
        (tmp_path / name).write_text("half")
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    remove_unfinished(tmp_path / "missing")  # as far as that can be done


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first, and longer", "second"):
        write_text(path, text)
        assert path.read_text() == text
        assert list(tmp_path.iterdir()) == [path]
    write_json(path, {"a": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("error", [RuntimeError("x"), OSError("x"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_behind_and_the_old_in_place(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = DiganError if isinstance(error, OSError) else type(error)

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path  # on the same disk, so that renaming is atomic
            raise error

    with pytest.raises(expected):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_is_there_while_the_new_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with (
        pytest.raises(DiganError, match=r"a.txt cannot be written"),
        atomic_path(tmp_path / "a.txt"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_mode_respects_the_umask(tmp_path, umask):
    write_text(tmp_path / "a.txt", "x")
    mode = stat.S_IMODE((tmp_path / "a.txt").stat().st_mode)
    assert mode == 0o666 & ~umask
    assert os.umask(umask) == umask  # writing did not change it


def test_places_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.txt", tmp_path / "gone" / "a.txt"):
        with pytest.raises(DiganError, match=f"{path} cannot be written: "):
            write_text(path, "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiganError, match="folder cannot be written: Is a directory"):
        write_text(tmp_path / "folder", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_full_disk_while_syncing(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiganError, match="a.txt cannot be written: No space left on device"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writable_folder_is_made_and_left_empty(tmp_path):
    folder = tmp_path / "a" / "b"
    assert writable_folder(folder) == folder
    assert list(folder.iterdir()) == []
    (folder / "kept").write_text("x")
    writable_folder(folder)
    assert [p.name for p in folder.iterdir()] == ["kept"]


def test_writable_folder_refuses_files_and_full_disks(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "x"):
        with pytest.raises(DiganError, match=f"the folder {path} cannot be written"):
            writable_folder(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_500_000_000))
    assert writable_folder(tmp_path / "x", need_bytes=1_400_000_000).is_dir()
    with pytest.raises(DiganError, match=r"must have 1\.60 GB free, it has 1\.50 GB"):
        writable_folder(tmp_path / "x", need_bytes=1_600_000_000)


def test_a_folder_without_write_permission(tmp_path, monkeypatch):
    def refuse(self: Path, data: bytes) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DiganError, match="cannot be written: Permission denied"):
        writable_folder(tmp_path)
