"""Workers, shards, changed sources, and runs that are killed at any moment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import digan.data.parts as parts_module
import digan.data.reading as reading
import digan.data.workers as workers_module
from digan.data.store import Store
from digan.errors import DiganError
from tests.data.clips import contents, killed_preparation, quick, write_clip


def test_workers_do_not_change_a_byte(clips: Path, tmp_path: Path) -> None:
    quick(clips, tmp_path / "one")
    quick(clips, tmp_path / "two", workers=2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two
    assert sorted(one) == [
        "frames-00000.bin", "index-frames.npy", "index-videos.npy", "names.json", "report.jsonl",
        "store.json",
    ]  # fmt: skip


def test_second_run_is_up_to_date(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    first = quick(clips, tmp_path / "s")
    before = contents(tmp_path / "s")

    def forbidden(*args: Any) -> None:
        raise AssertionError("nothing may be decoded")

    monkeypatch.setattr(reading, "decode_frames", forbidden)
    second = quick(clips, tmp_path / "s")
    assert second.up_to_date
    assert not first.up_to_date
    assert "is up to date" in second.format()
    assert (second.videos, second.frames, second.bytes) == (first.videos, first.frames, first.bytes)
    assert contents(tmp_path / "s") == before


def test_only_changed_sources_are_read_again(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    src = tmp_path / "src"
    shutil.copytree(clips, src)
    quick(src, tmp_path / "s")
    (src / "a" / "1.mp4").unlink()
    write_clip(src / "a" / "0b.mp4", 5, shade=9)
    read = []
    original = reading.make_part
    monkeypatch.setattr(
        workers_module,
        "make_part",
        lambda store, source, *rest: (read.append(source.name), original(store, source, *rest)),
    )
    report = quick(src, tmp_path / "s")
    assert read == ["a/0b.mp4"]
    assert report.finished
    assert not report.up_to_date
    quick(src, tmp_path / "fresh")
    assert contents(tmp_path / "s") == contents(tmp_path / "fresh")


def test_shards_merge_when_all_are_there(clips: Path, tmp_path: Path) -> None:
    quick(clips, tmp_path / "whole")
    first = quick(clips, tmp_path / "s", shard=(1, 2))
    assert not first.finished
    assert first.missing == 3
    assert "3 sources are left to other shards" in first.format()
    with pytest.raises(DiganError, match=r"is not finished: run the same"):
        Store(tmp_path / "s")
    second = quick(clips, tmp_path / "s", shard=(2, 2))
    assert second.finished
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert quick(clips, tmp_path / "s", shard=(1, 2)).up_to_date


def test_several_shard_files(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    quick(clips, tmp_path / "one")
    monkeypatch.setattr(parts_module, "SHARD_BYTES", 40_000)
    quick(clips, tmp_path / "s")
    store, one = Store(tmp_path / "s"), Store(tmp_path / "one")
    assert len(store.info["shards"]) >= 3
    for index in range(store.num_frames):
        np.testing.assert_array_equal(store.frame(index), one.frame(index))


@pytest.mark.parametrize("moment", range(1, 12))
def test_a_merge_can_break_at_any_step(
    clips: Path, tmp_path: Path, monkeypatch: Any, moment: int
) -> None:
    """Fail the n-th rename or removal of a file during the merge, then run again."""
    monkeypatch.setattr(parts_module, "SHARD_BYTES", 40_000)
    quick(clips, tmp_path / "whole")
    steps = 0
    begin = parts_module.Parts.begin_merge

    def counting(function: Any) -> Any:
        def step(*args: Any, **more: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == moment:
                raise KeyboardInterrupt
            return function(*args, **more)

        return step

    with monkeypatch.context() as patch:

        def patched_begin(*args: Any) -> None:
            patch.setattr(parts_module.os, "replace", counting(os.replace))
            patch.setattr(Path, "unlink", counting(Path.unlink))
            begin(*args)

        patch.setattr(parts_module.Parts, "begin_merge", patched_begin)
        with pytest.raises(KeyboardInterrupt):
            quick(clips, tmp_path / "s")
    quick(clips, tmp_path / "s")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_kill_9_and_resume_gives_the_same_bytes(clips: Path, tmp_path: Path, root: Path) -> None:
    quick(clips, tmp_path / "whole")
    for _ in range(2):  # killed twice, each time a little further on
        killed_preparation(clips, tmp_path / "s", root, videos=2)
        with pytest.raises(DiganError, match=r"not finished"):
            Store(tmp_path / "s")
    assert len(list((tmp_path / "s").rglob("*.json"))) >= 4, "finished parts must survive"
    quick(clips, tmp_path / "s", workers=1)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_killed_main_process_leaves_no_workers(clips: Path, tmp_path: Path, root: Path) -> None:
    code = (
        "import sys\nfrom digan.data.prepare import prepare\n"
        "if __name__ == '__main__':\n"
        "    prepare(sys.argv[1], sys.argv[2], resolution=1024, workers=2, progress=False)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script), str(clips), str(tmp_path / "s")],
        env={**os.environ, "PYTHONPATH": str(root)},
    )

    def children() -> list[int]:
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = status.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == process.pid:
                found.append(int(status.parent.name))
        return found

    deadline = time.monotonic() + 30
    parts = tmp_path / "s" / ".parts"
    while not list(parts.rglob("*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = children()
    assert workers
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.mark.parametrize("moment", ["before it is read", "for good"])
def test_a_video_that_goes_and_comes_back(
    clips: Path, tmp_path: Path, monkeypatch: Any, moment: str
) -> None:
    """It is named and left out; with its old date it would pass for one that was read."""
    src = tmp_path / "src"
    shutil.copytree(clips, src)
    quick(src, tmp_path / "whole")
    away = tmp_path / "1.mp4"
    original = reading.make_part
    read = []

    def make(store: Path, source: Any, *rest: Any) -> Any:
        read.append(source.name)
        if (src / "a/1.mp4").exists():
            (src / "a/1.mp4").rename(away)
        return original(store, source, *rest)

    monkeypatch.setattr(workers_module, "make_part", make)
    first = quick(src, tmp_path / "s")
    monkeypatch.setattr(workers_module, "make_part", original)
    assert first.videos == 5
    assert [(path, status) for path, status, _ in first.problems] == [("a/1.mp4", "skipped")]
    assert "No such file" in first.problems[0][2]
    if moment == "for good":
        assert not quick(src, tmp_path / "s").up_to_date
        assert quick(src, tmp_path / "s").up_to_date
        assert quick(src, tmp_path / "s").problems == []
        return
    away.rename(src / "a/1.mp4")
    assert not quick(src, tmp_path / "s").up_to_date
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
    assert quick(src, tmp_path / "s").up_to_date


def _die(store: Path, source: Any, settings: Any) -> None:
    if source.name == "a/1.mp4":
        os._exit(11)
    reading.make_part(store, source, settings)


def test_a_worker_that_dies_costs_one_source(clips: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(workers_module, "_work", _die)
    report = quick(clips, tmp_path / "s", workers=2)
    assert report.problems == [("a/1.mp4", "skipped", "the process that read it died")]
    assert report.videos == 5


def test_an_unguarded_script_is_told_what_it_lacks(clips: Path, tmp_path: Path) -> None:
    """Spawned workers import the script; without a guard each would start the work again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from digan.data.prepare import prepare\n"
        f"prepare({str(clips)!r}, {str(tmp_path / 's')!r}, resolution=32, workers=2)\n"
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ran.returncode != 0
    assert "__name__ == '__main__'" in ran.stderr.splitlines()[-1]
