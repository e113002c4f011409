"""examples/invert_real_clip.py runs as a user runs it."""

from __future__ import annotations

import re

from digan.data.video import decode_frames
from tests.data.clips import write_clip
from tests.test_examples import error_of, succeed

QUICK = ("--steps", 40, "--starts", 3)


def test_clouds_that_no_network_has_seen(tmp_path):
    said = succeed("invert_real_clip", *QUICK, "--outdir", tmp_path)
    assert "16 frames, 12 of them seen, 4 held out" in said
    found = re.search(r"^([\d.]+) dB over 12 observed frames: start \d of 3, 40 steps", said, re.M)
    assert found is not None
    assert float(found[1]) > 18
    assert re.search(r"^future: model [\d.]+ dB, repeating the last [\d.]+ dB \(4 fr", said, re.M)
    assert len(list(decode_frames(tmp_path / "again.mp4"))) == 8 * 15 + 1
    for name in ("codes.safetensors", "loss.csv", "future.mp4", "reconstruction-sheet.png"):
        assert (tmp_path / name).stat().st_size > 0


def test_a_clip_of_ones_own(tmp_path):
    video = write_clip(tmp_path / "clip.mp4", 9)
    said = succeed("invert_real_clip", "--video", video, "--stride", 2, *QUICK,
                   "--space", "w+", "--outdir", tmp_path / "out")  # fmt: skip
    assert f"{video}: 5 frames, 4 of them seen, 1 held out" in said
    missing = tmp_path / "none.mp4"
    assert error_of("invert_real_clip", "--video", missing) == f"the video {missing} does not exist"


def test_help_shows_examples():
    assert "python examples/invert_real_clip.py" in succeed("invert_real_clip", "--help")
