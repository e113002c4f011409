"""What is shown and measured: every panel holds what its name says, every figure is the formula."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from digan.data.video import decode_frames
from digan.errors import DiganError
from digan.inversion import (
    RESULTS,
    Clip,
    ResultSettings,
    blend_frames,
    make_results,
    noisy,
    psnr,
    write_results,
)
from digan.inversion.panels import Panel, write_panels
from digan.inversion.results import parse_results
from digan.synthesis import Codes, seed_codes
from digan.synthesis.marks import RED
from tests.inversion.made import frames_of
from tests.tiny_runs import tiny_network

NETWORK = tiny_network(seed=6)
CODES = seed_codes(NETWORK, [3])
FRAMES = 6


def clip_of(observed: list[int], codes: Codes = CODES) -> Clip:
    t = torch.arange(FRAMES, dtype=torch.float64) / (FRAMES - 1)
    mask = np.isin(np.arange(FRAMES), observed)
    # The true clip is another's, so that no error is 0.
    return Clip(frames_of(NETWORK, seed_codes(NETWORK, [8]), t), t, mask, 10.0)


def results_of(clip: Clip, **settings) -> dict:
    made = make_results(NETWORK, CODES, clip, ResultSettings(**settings))
    return {result.name: result for result in made}


def at(*indices: float) -> np.ndarray:
    return frames_of(NETWORK, CODES, torch.tensor(indices, dtype=torch.float64) / (FRAMES - 1))


def test_the_future_beyond_the_observed():
    clip = clip_of([1, 2, 3])
    future = results_of(clip, future=1.0)["future"]
    real, model, held = (panel.frames for panel in future.panels)
    # From the first observed frame to a clip length beyond the last.
    assert len(real) == len(model) == len(held) == 3 + 5
    assert np.abs(model.astype(int) - at(*range(1, 9))).max() <= 1
    assert np.array_equal(real[:5], clip.frames[1:])
    assert (real[5:] == 128).all()
    assert np.array_equal(held[:3], clip.frames[1:4])
    assert (held[3:] == clip.frames[3]).all()
    assert future.panels[1].boxed.tolist() == 3 * [False] + 5 * [True]
    assert future.frames == 2
    assert future.measures == {
        "model": psnr(model[3:5], clip.frames[4:]),
        "repeating the last": psnr(held[3:5], clip.frames[4:]),
    }


def test_the_past_before_the_observed():
    clip = clip_of([2, 3])
    past = results_of(clip, past=0.6)["past"]
    real, model, held = (panel.frames for panel in past.panels)
    assert len(model) == 3 + 2  # frames -1, 0, 1, then the observed
    assert np.abs(model.astype(int) - at(-1, 0, 1, 2, 3)).max() <= 1
    assert (real[:1] == 128).all()
    assert np.array_equal(real[1:], clip.frames[:4])
    assert (held[:3] == clip.frames[2]).all()
    assert past.panels[1].boxed.tolist() == 3 * [True] + 2 * [False]
    assert past.frames == 2
    assert past.measures["model"] == psnr(model[1:3], clip.frames[:2])


def test_held_out_frames_are_always_reached():
    found = results_of(clip_of([2, 3]), past=0, future=0)
    assert len(found["future"].panels[0].frames) == 4
    assert len(found["past"].panels[0].frames) == 4
    assert found["future"].frames == found["past"].frames == 2


def test_between_the_observed():
    clip = clip_of([0, 2, 5])
    between = results_of(clip)["between"]
    real, model, blend = (panel.frames for panel in between.panels)
    assert np.array_equal(real, clip.frames)
    assert np.abs(model.astype(int) - at(*range(6))).max() <= 1
    seen = clip.frames[[0, 2, 5]]
    assert np.array_equal(blend, blend_frames(seen, clip.t.numpy()[[0, 2, 5]], clip.t.numpy()))
    assert between.panels[1].boxed.tolist() == [False, True, False, True, True, False]
    gaps = [1, 3, 4]
    assert between.measures["model"] == psnr(model[gaps], clip.frames[gaps])
    assert between.measures["linear blend"] == psnr(blend[gaps], clip.frames[gaps])
    assert "between" not in results_of(clip_of([1, 2, 3]))


def test_a_higher_frame_rate():
    clip = clip_of(list(range(6)))
    rate = results_of(clip, rate=4)["rate"]
    given, model, blend = (panel.frames for panel in rate.panels)
    assert len(model) == 4 * 5 + 1
    assert rate.fps == 40
    assert np.abs(model[::4].astype(int) - at(*range(6))).max() <= 1
    assert np.abs(model[1].astype(int) - at(0.25)[0]).max() <= 1
    for panel in (given, blend):
        assert np.array_equal(panel[::4], clip.frames)
    assert rate.measures == {}
    assert "no truth" in rate.format()


def test_denoised_is_measured_against_the_clean_frames():
    clip = clip_of([0, 1, 4])
    plain = results_of(clip)["denoised"]
    assert [panel.name for panel in plain.panels][:2] == ["given", "denoised"]
    assert plain.measures == {}
    seen = noisy(clip, 30, seed=1)
    denoised = results_of(seen)["denoised"]
    given, made, away, clean = (panel.frames for panel in denoised.panels)
    assert np.array_equal(given, seen.seen[[0, 1, 4]])
    assert np.array_equal(clean, clip.frames[[0, 1, 4]])
    assert denoised.measures == {"denoised": psnr(made, clean), "given": psnr(given, clean)}
    wanted = np.clip(128 + 4 * (given.astype(int) - made), 0, 255)
    assert np.array_equal(away, wanted)
    reconstruction = results_of(seen)["reconstruction"]
    assert reconstruction.measures == {"reconstruction": psnr(made, given)}


def test_times_of_another_speed():
    clip = dataclasses.replace(clip_of([0, 1, 2, 3, 4, 5]), t=0.5 + 0.05 * torch.arange(6).double())
    future = results_of(clip, future=0.5)["future"]
    assert len(future.panels[0].frames) == 6 + 10
    last = frames_of(NETWORK, CODES, torch.tensor([0.5 + 0.05 * 15], dtype=torch.float64))
    assert np.abs(future.panels[1].frames[-1:].astype(int) - last).max() <= 1


def test_files_are_written_and_large_enough_to_see(tmp_path):
    results = make_results(NETWORK, CODES, clip_of([0, 2, 3]))
    paths = write_results(tmp_path, results)
    names = {f"{name}{end}" for name in RESULTS for end in (".mp4", "-sheet.png")}
    assert {path.name for path in paths} == names == {path.name for path in tmp_path.iterdir()}
    for result in results:
        frames = list(decode_frames(tmp_path / f"{result.name}.mp4"))
        assert len(frames) == len(result.panels[0].frames)
        height, width = frames[0].image.shape[:2]
        assert (height, width) == (160 + 20, 164 * len(result.panels) - 4)
        shown = min(8, len(frames))
        with Image.open(tmp_path / f"{result.name}-sheet.png") as sheet:
            assert sheet.height == 2 + 162 * len(result.panels)
            assert sheet.width > 2 + 162 * shown


def test_boxes_and_names_are_drawn(tmp_path):
    frames = np.full((2, 40, 40, 3), 90, np.uint8)
    panel = Panel("grey", frames, np.array([False, True]))
    assert (panel.drawn(4)[0] == 90).all()
    assert (panel.drawn(4)[1][0, :] == RED).all()
    assert (panel.drawn(4)[1][20:-20, 20:-20] == 90).all()
    write_panels(tmp_path / "x", [panel, Panel("a name that is longer than its panel", frames)], 5)
    image = next(iter(decode_frames(tmp_path / "x.mp4"))).image
    assert image[:20].min() < 80  # letters
    assert image[:20].max() > 200


def test_what_cannot_be_shown():
    assert parse_results("rate, future,rate") == ["rate", "future"]
    with pytest.raises(DiganError, match="results must be of reconstruction, future, .*'paste'"):
        parse_results("past,paste")
    for changes, message in [
        ({"past": -1.0}, "past must be from 0 to 100 clip lengths, got -1.0 (digan generate"),
        ({"past": 101.0}, "past must be from 0 to 100 clip lengths, got 101.0 (digan generate"),
        ({"future": math.nan}, "future must be from 0 to 100 clip lengths, got nan (digan gen"),
        ({"rate": 0}, "rate must be from 1 to 64, got 0"),
        ({"rate": 65}, "rate must be from 1 to 64, got 65"),
        ({"fps": 0.0}, "fps must be positive, got 0.0"),
    ]:
        with pytest.raises(DiganError) as error:
            ResultSettings(**changes)
        assert str(error.value).startswith(message)
