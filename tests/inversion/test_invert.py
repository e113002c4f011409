"""`digan invert`: what it writes, says and refuses."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from digan.data.video import VideoWriter
from digan.grid import frame_times
from digan.inversion import fit as fitting
from digan.inversion import load_codes, psnr
from digan.nn.snapshot import load_network
from digan.synthesis import Codes
from tests.command_line import Digan, command
from tests.inversion.made import frames_of, made_clip
from tests.inversion.test_fit import Interrupting
from tests.tiny_runs import network_file, tiny_network

QUICK = ("--steps", 20, "--starts", 2, "--batch-frames", 2)
RESULT_FILES = {
    f"{name}{end}"
    for name in ("reconstruction", "future", "past", "between", "rate", "denoised")
    for end in (".mp4", "-sheet.png")
}


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return network_file(tmp_path_factory.mktemp("net") / "net.safetensors", tiny_network())


@pytest.fixture(scope="module")
def video(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("video") / "clip.mkv"
    with VideoWriter(path, 10) as writer:
        for frame in made_clip(load_network(network)[0], 2, 5).frames:
            writer.write(frame)
    return path


@pytest.fixture
def digan(capsys) -> Digan:
    return command(capsys)


def test_everything_is_written_and_reported(digan, network, video, tmp_path):
    done = digan("invert", "--network", network, video, "--observe", "0,1,3", *QUICK,
                 "--outdir", tmp_path)  # fmt: skip
    assert done.status == 0, done.err
    names = {"codes.safetensors", "loss.csv", "loss.png", "report.json"} | RESULT_FILES
    assert {path.name for path in tmp_path.iterdir()} == names
    lines = done.out.splitlines()
    assert next(Path(line).name for line in lines if line.startswith(str(tmp_path))) == (
        "codes.safetensors"
    )
    assert lines[0].endswith("20 steps in 0 s, all steps") or " 20 steps in " in lines[0]
    assert any(line.startswith("future: model ") and "repeating the last" in line for line in lines)
    assert any(line.startswith("between: model ") and "linear blend" in line for line in lines)

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["observed"] == [0, 1, 3]
    assert report["settings"]["steps"] == 20
    generator, _ = load_network(network)
    saved = load_codes(tmp_path / "codes.safetensors", generator)
    assert saved.about["psnr"] == report["psnr"]
    clip = made_clip(generator, 2, 5)
    made = frames_of(generator, saved.codes, clip.t)
    results = report["results"]
    for name, which in [("reconstruction", [0, 1, 3]), ("future", [4]), ("between", [2])]:
        key = "reconstruction" if name == "reconstruction" else "model"
        wanted = psnr(made[which], clip.frames[which])
        assert results[name][key] == pytest.approx(wanted, abs=0.02)
        assert results[name]["frames"] == len(which)

    with open(tmp_path / "loss.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == set(range(1, 21))
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size == (960, 720)
        assert len(set(np.asarray(picture.convert("L")).flatten().tolist())) > 20


def test_the_run_can_be_repeated(digan, network, video, tmp_path):
    for name in ("a", "b"):
        done = digan("invert", "--network", network, video, *QUICK, "--results", "rate",
                     "--seed", 7, "--outdir", tmp_path / name)  # fmt: skip
        assert done.status == 0
    for file in ("codes.safetensors", "loss.csv", "report.json", "rate-sheet.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert not (tmp_path / "a" / "future.mp4").exists()


def test_generate_takes_the_codes(digan, network, video, tmp_path):
    digan("invert", "--network", network, video, *QUICK, "--results", "rate", "--outdir", tmp_path)
    file = tmp_path / "codes.safetensors"
    flags = ("--format", "npz", "--outdir", tmp_path / "more", "--frames", 9)
    done = digan("generate", "--network", network, "--codes", file, *flags)
    assert done.out.splitlines() == [str(tmp_path / "more" / "codes.npz")]
    generator, info = load_network(network)
    codes = load_codes(file, generator).codes
    made = np.load(tmp_path / "more" / "codes.npz")["frames"].astype(int)
    assert np.abs(made - frames_of(generator, codes, frame_times(9, info.clip_frames))).max() <= 1
    digan("generate", "--network", network, "--codes", file, "--trunc", 0, *flags)
    average = Codes(generator.w_avg.expand_as(codes.ws), codes.z_motion)
    made = np.load(tmp_path / "more" / "codes.npz")["frames"].astype(int)
    assert np.abs(made - frames_of(generator, average, frame_times(9, info.clip_frames))).max() <= 1
    for words in (("--seeds", "0"), ("--motion-seeds", 1), ("--class", 0)):
        done = digan("generate", "--network", network, "--codes", file, *words)
        assert done.error == "--codes takes the place of --seeds, --motion-seeds and --class"
    done = digan("generate", "--network", "demo", "--codes", file)
    assert done.error.startswith(f"{file} holds codes of another network, ")
    done = digan("generate", "--network", network, "--codes", tmp_path)
    assert done.error == f"the codes file {tmp_path} does not exist"


def test_without_matplotlib_the_codes_are_kept(digan, network, video, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = digan("invert", "--network", network, video, *QUICK, "--outdir", tmp_path)
    assert done.status == 0
    assert done.err.splitlines()[-1] == (
        "no loss.png: plots need matplotlib: pip install 'digan[plot]'"
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert {"codes.safetensors", "loss.csv", "report.json", "future.mp4"} <= names
    assert "loss.png" not in names


def test_interrupted_it_writes_the_best_so_far(digan, network, video, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "progress_bar", Interrupting(9))
    done = digan("invert", "--network", network, video, *QUICK, "--outdir", tmp_path)
    assert done.status == 130
    assert " 9 steps in " in done.out.splitlines()[0]
    assert done.out.splitlines()[0].endswith("interrupted")
    assert json.loads((tmp_path / "report.json").read_text())["ended"] == "interrupted"
    assert torch.isfinite(load_codes(tmp_path / "codes.safetensors").codes.ws).all()
    assert (tmp_path / "future.mp4").stat().st_size > 0


def test_progress_says_where_it_is(digan, network, video, tmp_path):
    done = digan("invert", "--network", network, video, *QUICK, "--results", "rate",
                 "--outdir", tmp_path)  # fmt: skip
    last = done.err.replace("\r", "\n").strip().splitlines()[-1]
    for part in ("20/20", "loss ", "PSNR ", " dB, start ", " of 2"):
        assert part in last


def test_noise_is_added_and_measured(digan, network, video, tmp_path):
    done = digan("invert", "--network", network, video, *QUICK, "--noise", 30, "--results",
                 "denoised", "--outdir", tmp_path)  # fmt: skip
    found = json.loads((tmp_path / "report.json").read_text())["results"]["denoised"]
    assert 17 < found["given"] < 21  # 20 log10(255 / 30) = 18.6, more where noise is clipped
    assert f"denoised {found['denoised']:.2f} dB" in done.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--steps", 0), "steps must be at least 1, got 0"),
        (("--starts", -2), "starts must be at least 1, got -2"),
        (("--observe", "0-9"), "observe must be frames of the clip, 0 to 4, got '0-9'"),
        (("--frames", 9), "frames must be at most 5 for "),
        (("--start", 4), "a clip must have at least 2 frames, "),
        (("--noise", -1), "noise must be 0 or more levels of 255, got -1.0"),
        (("--future", "nan"), "future must be from 0 to 100 clip lengths, got nan"),
        (("--fps", 100, "--rate", 20), "fps times rate must be at most 1000, got 2000"),
        (("--results", "futur"), "results must be of reconstruction, future"),
        (("--network", "none.safetensors"), "the network file none.safetensors does not exist"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_writes_nothing(digan, network, video, tmp_path, flags, message):
    words = [] if "--network" in flags else ["--network", network]
    done = digan("invert", video, *words, *flags, "--outdir", tmp_path / "out")
    assert done.status == 1
    assert done.error.startswith(message)
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be(digan, network, video, tmp_path):
    file = tmp_path / "file"
    file.write_text("no video, no folder")
    done = digan("invert", "--network", network, tmp_path / "none.mp4")
    assert done.error == f"the video {tmp_path / 'none.mp4'} does not exist"
    done = digan("invert", "--network", network, file)
    assert done.error.startswith(f"{file} is no video: ")
    done = digan("invert", "--network", network, video, "--outdir", file / "x")
    assert done.error.startswith(f"the folder {file / 'x'} cannot be written: ")
    done = digan("invert", "--network", network)
    assert done.status == 2
