"""The optimisation: repeatable, careful with the network, and robust in what can go wrong."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from digan.errors import DiganError
from digan.grid import SpaceTimeGrid
from digan.inversion import Clip, FitSettings, fit_clip, psnr
from digan.inversion import fit as fitting
from digan.synthesis import Shot, render
from tests.inversion.made import frames_of, made_clip
from tests.tiny_runs import tiny_network

SHORT = FitSettings(steps=40, starts=3, batch_frames=3)


@pytest.fixture(scope="module")
def network():
    return tiny_network(seed=4)


@pytest.fixture(scope="module")
def clip(network) -> Clip:
    return made_clip(network, 11, 4)


@pytest.fixture(scope="module")
def found(network, clip):
    return fit_clip(network, clip, SHORT)


def score(network, codes, clip: Clip) -> float:
    """PSNR of the observed frames, in another way than the optimisation's."""
    made = render(network, Shot(codes, SpaceTimeGrid(clip.t)))[0].clamp(-1, 1).double().numpy()
    truth = clip.seen.astype(float) / 127.5 - 1
    return float(-10 * np.log10(np.square(made - truth)[clip.observed].mean() / 4))


def test_it_finds_better_codes_than_it_began_with(network, clip, found):
    middle = network.w_avg.expand(1, network.num_ws, -1)
    begun = score(network, type(found.codes)(middle, torch.zeros(1, 16)), clip)
    assert found.psnr > begun + 5
    assert found.psnr == pytest.approx(score(network, found.codes, clip), abs=1e-3)
    assert (found.steps, found.ended) == (40, "all steps")


def test_the_content_code_is_one_for_all_layers(network, clip, found):
    assert found.codes.ws.shape == (1, network.num_ws, 16)
    assert torch.equal(found.codes.ws, found.codes.ws[:, :1].expand_as(found.codes.ws))
    layered = fit_clip(network, clip, dataclasses.replace(SHORT, steps=120, space="w+"))
    assert not torch.equal(layered.codes.ws[:, 0], layered.codes.ws[:, 1])
    assert layered.psnr > found.psnr
    assert layered.psnr == pytest.approx(score(network, layered.codes, clip), abs=1e-3)


def test_the_same_seed_finds_the_same_codes(network, clip, found):
    again = fit_clip(network, clip, SHORT)
    assert torch.equal(again.codes.ws, found.codes.ws)
    assert torch.equal(again.codes.z_motion, found.codes.z_motion)
    assert again.history == found.history
    other = fit_clip(network, clip, dataclasses.replace(SHORT, seed=1))
    assert not torch.equal(other.codes.z_motion, found.codes.z_motion)


def test_nothing_global_is_used_or_changed(network, clip, found):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = fit_clip(network, clip, SHORT)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again.codes.ws, found.codes.ws)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not again.codes.ws.requires_grad


def test_a_network_in_training_keeps_its_gradients(network, clip):
    trained = tiny_network(seed=4).requires_grad_()
    fit_clip(trained, clip, dataclasses.replace(SHORT, steps=5))
    assert all(p.grad is None for p in trained.parameters())


def test_held_out_frames_are_not_looked_at(network, clip):
    hidden = dataclasses.replace(clip, observed=np.array([True, True, False, False]))
    other = hidden.frames.copy()
    other[2:] = 255 - other[2:]
    a, b = (
        fit_clip(network, dataclasses.replace(hidden, frames=f), SHORT)
        for f in (hidden.frames, other)
    )
    assert torch.equal(a.codes.ws, b.codes.ws)
    assert torch.equal(a.codes.z_motion, b.codes.z_motion)


def test_noisy_frames_are_what_is_seen(network, clip):
    given = clip.frames.copy()
    given[:, :8] = 0
    seen = fit_clip(network, dataclasses.replace(clip, given=given), SHORT)
    direct = fit_clip(network, dataclasses.replace(clip, frames=given), SHORT)
    assert torch.equal(seen.codes.ws, direct.codes.ws)


def test_history_has_every_step_of_every_start(found):
    steps = [row.step for row in found.history]
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, 41))
    first = [row for row in found.history if row.step == 1]
    last = [row for row in found.history if row.step == 40]
    assert [row.start for row in first] == [0, 1, 2]
    assert [row.start for row in last] == [found.start]
    assert all(np.isfinite([row.loss, row.psnr]).all() for row in found.history)


def test_what_is_beyond_white_is_no_error():
    frames = torch.tensor([-3.0, -1.0, 0.5, 1.0, 2.0])
    assert fitting.apart(frames, torch.tensor(1.0)).tolist() == [-4, -2, -0.5, 0, 0]
    assert fitting.apart(frames, torch.tensor(-1.0)).tolist() == [0, 0, 1.5, 2, 3]
    assert fitting.apart(frames, torch.tensor(0.25)).tolist() == [-3.25, -1.25, 0.25, 0.75, 1.75]


class Interrupting:
    """A progress bar behind which the user loses patience."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, *_arguments):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_arguments) -> None:
        return None

    def set_description(self, _text) -> None: ...

    def set_postfix_str(self, _text, refresh) -> None: ...

    def update(self) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [1, 7, 25, 39])
def test_interrupted_it_keeps_the_best_so_far(network, clip, monkeypatch, after):
    monkeypatch.setattr(fitting, "progress_bar", Interrupting(after))
    found = fit_clip(network, clip, SHORT)
    assert (found.ended, found.steps) == ("interrupted", after)
    assert found.psnr == pytest.approx(score(network, found.codes, clip), abs=1e-3)
    assert max(row.step for row in found.history) == after


def test_it_ends_when_good_enough_or_without_progress(network, clip):
    settings = FitSettings(steps=400, starts=2, batch_frames=2, stop_psnr=12.0)
    found = fit_clip(network, clip, settings)
    assert found.ended == "good enough"
    assert found.steps < 400
    settings = FitSettings(steps=400, starts=1, batch_frames=2, lr=1e-9, patience=25)
    found = fit_clip(network, clip, settings)
    assert found.ended == "no more progress"
    assert found.steps < 400


def test_a_start_that_is_no_number_is_dropped(network, clip, monkeypatch):
    begin = fitting._Fit._begin

    def spoiled(self):
        starts = begin(self)
        starts.motion[0, 3] = float("nan")
        return starts

    monkeypatch.setattr(fitting._Fit, "_begin", spoiled)
    found = fit_clip(network, clip, SHORT)
    assert found.start in (1, 2)
    assert np.isfinite(found.psnr)
    with pytest.raises(DiganError, match="no start gives finite frames"):
        fit_clip(network, clip, dataclasses.replace(SHORT, starts=1))


def test_larger_networks_are_seen_on_cells(network):
    large = tiny_network(64, num_classes=2, seed=3)
    clip = made_clip(large, 5, 3)
    found = fit_clip(large, clip, dataclasses.replace(SHORT, steps=20))
    assert found.psnr == pytest.approx(score(large, found.codes, clip), abs=1e-3)
    made = frames_of(large, found.codes, clip.t)
    assert psnr(made, clip.frames) == pytest.approx(found.psnr, abs=0.1)
    with pytest.raises(ValueError, match="the clip's frames must be 32x32, got 64x64"):
        fit_clip(network, clip, SHORT)
