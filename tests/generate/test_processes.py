"""`digan generate` in several processes: the files of one."""

from __future__ import annotations

import numpy as np
import pytest

from digan.cli import main
from digan.data.video import decode_frames
from tests.tiny_runs import network_file, tiny_network
from tests.torchrun import finished, torchrun


@pytest.mark.parametrize("flags", [["--format", "npz,mp4"], ["--grid", "2x2", "--format", "mp4"]])
def test_files_of_one_process(tmp_path, capsys, flags):
    """Three videos on two processes; a grid with a place that is left over."""
    network = network_file(tmp_path / "net.safetensors", tiny_network())
    words = ["generate", "--network", str(network), "--seeds", "0-2", "--frames", "5", *flags]
    assert main([*words, "--outdir", str(tmp_path / "one")]) == 0
    expected = capsys.readouterr().out.replace(str(tmp_path / "one"), "OUT").splitlines()
    job = torchrun(2, "digan", *words, "--outdir", str(tmp_path / "two"))
    said = finished(job)
    assert job.returncode == 0, said
    told = [line.replace(str(tmp_path / "two"), "OUT") for line in said.splitlines()]
    assert [line for line in told if line.startswith("OUT")] == expected
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "two").iterdir())
    for name in names:
        ours, theirs = tmp_path / "two" / name, tmp_path / "one" / name
        if name.endswith(".npz"):
            assert np.array_equal(np.load(ours)["frames"], np.load(theirs)["frames"])
        else:
            frames = [[f.image for f in decode_frames(path)] for path in (ours, theirs)]
            assert np.array_equal(*frames)
